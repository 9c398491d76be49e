// The name of a remote: a registry and a repository in it, as vlb.yaml or git's configuration spell it.
import { printable, VlbError } from './errors.ts'

export interface Remote {
  scheme: 'https' | 'http'
  /** Host name with its port, if it has one. */
  host: string
  /** Path of the repository. */
  repository: string
}

/** As the distribution specification has it for names of repositories. */
const repositoryName = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/
const hostName = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?$/

/** What people see of it. */
export const remoteName = ({ host, repository }: Remote): string => `${host}/${repository}`

/**
 * Reads `HOST[:PORT]/PATH`, with https:// or http:// before it if need be. Without, it is https; http on this very host,
 * and where `insecure` names the host. `where` is what an error names.
 */
export function parseRemote(text: string, where: string, insecure: ReadonlySet<string> = new Set()): Remote {
  const [, given, host = '', repository = ''] = /^(?:(https?):\/\/)?([^/]+)\/(.+)$/.exec(text) ?? []
  if (!isHost(host) || !repositoryName.test(repository) || repository.length > 255) {
    throw new VlbError('VLB_CONFIG', `${where} names no repository of a registry: "${printable(text, 100)}"`, {
      hint: 'write it so: registry.example.com/team/web, in small letters and without a tag',
    })
  }
  const plain = isLoopback(host) || insecure.has(host)
  if (given === 'http' && !plain) {
    throw new VlbError('VLB_CONFIG', `${where} would send layers and passwords in the clear to ${host}`, {
      hint: `leave http:// out; or, if that host is to be trusted so: git config --add vlb.insecureRegistry ${host}`,
    })
  }
  const scheme = given === 'https' || given === 'http' ? given : plain ? 'http' : 'https'
  return { scheme, host, repository }
}

/** A name that ends in a number, and is no address, is none (URL Standard, "host parsing"): nothing could be asked there. */
function isHost(host: string): boolean {
  return hostName.test(host) && URL.canParse(`https://${host}`)
}

/** Whether a host, with or without a port, is this machine by its name alone. */
export function isLoopback(host: string): boolean {
  const name = host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
  return name === 'localhost' || name === '::1' || /^127(?:\.\d{1,3}){3}$/.test(name)
}

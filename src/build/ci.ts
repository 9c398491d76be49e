// `git vlb ci`: what a workflow has to know of the projects of a repository, as they lie in the working tree.
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { checksFolder } from '../core/checks.ts'
import { type CiProject, type CiService, type CiWish, ciWorkflow } from '../core/ci.ts'
import { seedFolder } from '../core/cloud-init.ts'
import { type Config, configFile } from '../core/config.ts'
import { parseConfig } from '../core/config-file.ts'
import { printable, VlbError } from '../core/errors.ts'
import { isLayerName } from '../core/layer.ts'
import { parseRemote } from '../core/remote.ts'
import { gitRead, openRepository } from '../git/repo.ts'
import { readPlain } from '../host/files.ts'
import { installCommand, tools } from '../host/tools.ts'

/** The workflow, and the top of the repository that it is of. */
export async function describeCi(
  cwd: string,
  service: CiService,
  wish: CiWish,
): Promise<{ text: string; top: string }> {
  const repo = await openRepository(cwd)
  const top = repo.worktree
  if (top === undefined) {
    throw new VlbError('VLB_BARE', 'a bare repository has no working tree to find projects in', {
      hint: 'run it in a clone',
    })
  }
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--full-name', '--']
  const files = new Set((await gitRead(top, [...args, `:(top,glob)**/${configFile}`])).split('\0').filter(Boolean))
  const projects: CiProject[] = []
  for (const file of [...files].sort()) projects.push(...(await readProject(top, file)))
  checkProjects(projects, files.size)
  checkWords(projects, wish)
  return { text: ciWorkflow(service, projects, wish), top }
}

/** None where it has no remote: nothing of it would be shared. */
async function readProject(top: string, file: string): Promise<CiProject[]> {
  const path = join(top, file)
  if (!(await stat(path).catch(() => undefined))) return []
  const folder = dirname(file)
  const at = join(top, folder)
  const config = parseConfig(await readPlain(path, 2 ** 21), file, basename(at))
  if (config.remote === undefined) return []
  const { host, repository } = parseRemote(config.remote, `remote in ${file}`)
  const boot = (await isFolder(join(at, checksFolder))) ? 'check' : config.boot.expect ? 'expect' : undefined
  const packages = await packagesFor(at, config, boot !== undefined)
  return [{ folder, name: config.name, remote: { host, repository }, boot, files: filesOf(config), packages }]
}

/** All formats lie beside each other, and differ in their endings. */
function filesOf({ output: { path } }: Config): string {
  return `${path.slice(0, path.length - extname(path).length)}.*`
}

/** What Debian and Ubuntu have to have installed for it. */
async function packagesFor(folder: string, { base, boot, disk }: Config, boots: boolean): Promise<string[]> {
  const names = tools.filter(({ required }) => required).map(({ name }) => name)
  if (boots) names.push('qemu-system-x86_64')
  if (disk.size !== undefined) names.push('resize2fs')
  if (boots && (await isFolder(join(folder, seedFolder)))) names.push('xorriso')
  if (base?.from === 'url')
    for (const name of ['xz', 'zstd']) if (base.url.includes(`.${name.slice(0, 3)}`)) names.push(name)
  const script = await baseScript(folder)
  for (const { name, required } of tools) if (!required && new RegExp(`\\b${name}\\b`).test(script)) names.push(name)
  const firmware = [boot.firmware, ...boot.machines.map((machine) => machine.firmware)]
  const packages =
    installCommand(names, 'apt')
      ?.filter((word) => /^[a-z0-9]/.test(word))
      .slice(2) ?? []
  return [...packages, ...(boots && firmware.includes('uefi') ? ['ovmf'] : [])]
}

/** It runs on the runner, with the runner's programs. */
async function baseScript(folder: string): Promise<string> {
  for (const name of (await readdir(folder)).filter(isLayerName).sort()) {
    const text = await readPlain(join(folder, name, 'build-base'), 2 ** 20).catch(() => undefined)
    if (text !== undefined) return text
  }
  return ''
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false
}

function checkProjects(projects: readonly CiProject[], found: number): void {
  if (found === 0) {
    throw new VlbError('VLB_NO_PROJECT', `there is no ${configFile} in this repository`, {
      hint: 'start a project: git vlb init',
    })
  }
  const [first] = projects
  if (!first) {
    throw new VlbError('VLB_NO_REMOTE', `no ${configFile} of this repository names a remote to share layers through`, {
      hint: 'name a repository of an OCI registry there: remote: ghcr.io/OWNER/REPOSITORY/web, or registry.gitlab.com/GROUP/PROJECT/web',
    })
  }
  const other = projects.find(({ remote }) => remote.host !== first.remote.host)
  if (!other) return
  const [a, b] = [first, other].map(({ remote, folder }) => `${remote.host} (${join(folder, configFile)})`)
  throw new VlbError('VLB_CONFIG', `the projects of this repository have several registries: ${a} and ${b}`, {
    hint: 'a workflow logs in to one: let their remotes lie at the same one',
  })
}

/** What a forge would take for an expression of its own, wherever it stands. */
function checkWords(projects: readonly CiProject[], { branches }: CiWish): void {
  const words = [...branches, ...projects.flatMap(({ folder, name, files }) => [folder, name, files])]
  const bad = words.find((word) => /[$\p{Cc}]/u.test(word))
  if (bad === undefined) return
  throw new VlbError(
    'VLB_USAGE',
    `a workflow cannot name "${printable(bad, 80)}": a $ stands for something else there`,
    {
      hint: 'give it another name',
    },
  )
}

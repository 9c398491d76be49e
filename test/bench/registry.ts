// Sharing layers through docker-registry on the loopback, against curl at the same registry.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { tinyDisk } from '../rig/tiny-disk.ts'
import type { Lab, Project } from './lab.ts'
import { factRow, least, mb, memoryRow, ms, type Row, ratioRow, secondsRow, takeTurns } from './row.ts'

const megabytes = 480
const large = 2048
const chain = 20

export function registryRows(lab: Lab): Row[] {
  const registry = new BenchRegistry(lab)
  try {
    return [...transferRows(lab, registry), ...nothingRows(lab, registry), ...memoryRows(lab, registry)]
  } finally {
    registry.stop()
  }
}

class BenchRegistry {
  readonly #lab: Lab
  readonly #child: ChildProcess
  readonly host: string
  readonly #log: string

  constructor(lab: Lab) {
    this.#lab = lab
    const find =
      "const s=require('net').createServer().listen(0,'127.0.0.1',()=>{console.log(s.address().port);s.close()})"
    this.host = `127.0.0.1:${lab.run(process.execPath, ['-e', find]).stdout.trim()}`
    this.#log = lab.path('registry.log')
    const config = lab.path('registry.yml')
    const storage = `storage: { filesystem: { rootdirectory: ${lab.path('registry')} } }`
    writeFileSync(config, `version: 0.1\n${storage}\nhttp: { addr: "${this.host}" }\n`)
    const command = ['-c', 'exec docker-registry serve "$1" >"$2" 2>&1', 'sh', config, this.#log]
    this.#child = spawn('sh', command, { stdio: 'ignore', env: lab.env })
    process.once('exit', () => this.stop())
    this.curl('--retry', '50', '--retry-connrefused', '--retry-delay', '1', `http://${this.host}/v2/`)
  }

  curl(...args: string[]): { seconds: number; stdout: string } {
    return this.#lab.run('curl', ['--silent', '--show-error', '--fail', ...args])
  }

  remote(name: string): string {
    return `${this.host}/${name}`
  }

  /** How many requests it has answered. */
  get requests(): number {
    return [...readFileSync(this.#log, 'utf8').matchAll(/"[A-Z]+ \/v2\/\S* HTTP/g)].length
  }

  stop(): void {
    this.#child.kill('SIGKILL')
  }
}

function project(lab: Lab, name: string, mebibytes: number): Project {
  const base = tinyDisk(lab.path(`${name}.raw`), { mebibytes })
  const made = lab.project(name).start(base)
  made.write('vlb.yaml', 'version: 1\nbase: { path: base.raw, share: false }\nseal: false\n')
  return made
}

function transferRows(lab: Lab, registry: BenchRegistry): Row[] {
  const made = project(lab, 'share', megabytes + 200)
  made.layer('10_data', `dd if=/dev/urandom of=/data bs=1M count=${megabytes} 2>/dev/null`)
  made.commit()
  const overlay = made.topSnapshot()
  const { size } = statSync(overlay)
  const copy = lab.path('by-curl')
  const other = lab.path('other-store')
  const digest = `sha256:${lab.run('sha256sum', [overlay]).stdout.slice(0, 64)}`
  made.git('config', 'vlb.remote', registry.remote('pull/all'))
  made.vlb(['push'])
  made.git('config', 'vlb.store', other)
  made.vlb(['pull'])
  made.git('config', '--unset', 'vlb.store')
  const samples = takeTurns(4, {
    push: (round) => {
      made.git('config', 'vlb.remote', registry.remote(`push/round-${round}`))
      rmSync(made.path('.git/vlb/shared'), { recursive: true, force: true })
      lab.settle()
      return made.vlb(['push']).seconds
    },
    curlPush: (round) => {
      lab.settle()
      return curlPush(lab, registry, overlay, round)
    },
    pull: () => {
      // The base stays: it is not what is pulled.
      for (const name of ['snapshots', 'shared']) rmSync(join(other, name), { recursive: true, force: true })
      made.git('config', 'vlb.remote', registry.remote('pull/all'))
      made.git('config', 'vlb.store', other)
      lab.settle()
      const { seconds } = made.vlb(['pull'])
      made.git('config', '--unset', 'vlb.store')
      return seconds
    },
    curlPull: () => {
      rmSync(copy, { force: true })
      lab.settle()
      return registry.curl('-o', copy, `http://${registry.host}/v2/pull/all/blobs/${digest}`).seconds
    },
    verify: () => lab.run('sha256sum', [copy]).seconds + lab.run('sync', [copy]).seconds,
  })
  const speed = (seconds: number) => `${ms(seconds)}, ${mb(size / seconds)}/s`
  const { push, curlPush: up, pull, curlPull: down, verify } = samples
  return [
    ratioRow({
      what: `Push of a layer of ${megabytes} MiB`,
      measured: `\`git vlb push\`: ${speed(least(push))}`,
      comparedWith: `\`sha256sum\` and \`curl\`: ${speed(least(up))}`,
      value: least(push) / least(up),
      bound: 1.25,
      samples: { push, curl: up },
    }),
    ratioRow({
      what: 'Pull of it, verified and on disk',
      measured: `\`git vlb pull\`: ${speed(least(pull))}`,
      comparedWith: `\`curl\`, ${speed(least(down))}, then \`sha256sum\` and \`sync\`: ${ms(least(down) + least(verify))}`,
      value: least(pull) / (least(down) + least(verify)),
      bound: 1.25,
      samples: { pull, curl: down, verify },
    }),
  ]
}

function curlPush(lab: Lab, registry: BenchRegistry, file: string, round: number): number {
  const hashed = lab.run('sha256sum', [file])
  const post = registry.curl(
    '-X',
    'POST',
    '-D',
    '-',
    '-o',
    '/dev/null',
    `http://${registry.host}/v2/curl/${round}/blobs/uploads/`,
  )
  const location = /^location: (\S+)/im.exec(post.stdout)?.[1] ?? ''
  const put = registry.curl(
    '-T',
    file,
    '-H',
    'Content-Type: application/octet-stream',
    `${location}&digest=sha256:${hashed.stdout.slice(0, 64)}`,
  )
  return hashed.seconds + post.seconds + put.seconds
}

function nothingRows(lab: Lab, registry: BenchRegistry): Row[] {
  const made = project(lab, 'share-chain', 48)
  for (let i = 0; i < chain; i++) made.layer(`${10 + i}_n`, `echo ${i} > /n`)
  made.commit()
  made.build()
  made.git('config', 'vlb.remote', registry.remote('chain'))
  made.vlb(['push'])
  const before = registry.requests
  made.vlb(['push'])
  const requests = registry.requests - before
  const samples = takeTurns(10, { node: () => lab.bareNode(), push: () => made.vlb(['push']).seconds })
  return [
    secondsRow({
      what: `Push of ${chain} layers, nothing new`,
      measured: `\`git vlb push\`: ${ms(least(samples.push))}`,
      comparedWith: `\`node -e 0\`: ${ms(least(samples.node))}`,
      value: least(samples.push) - least(samples.node),
      bound: 0.3,
      samples,
    }),
    factRow(
      'The same: at most one request for each layer',
      `${requests} requests`,
      `${chain} layers`,
      requests <= chain,
    ),
  ]
}

function memoryRows(lab: Lab, registry: BenchRegistry): Row[] {
  const made = project(lab, 'share-large', large + 300)
  made.layer('10_data', `dd if=/dev/urandom of=/data bs=1M count=${large} 2>/dev/null`)
  made.commit()
  made.build('--no-flatten')
  made.git('config', 'vlb.remote', registry.remote('large'))
  const push = made.peakMemory('push')
  made.git('config', 'vlb.store', join(lab.folder, 'large-store'))
  const pull = made.peakMemory('pull')
  return [memoryRow(`push of ${large} MiB`, push), memoryRow(`pull of ${large} MiB`, pull)]
}

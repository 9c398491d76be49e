// A store as it is after years: a thousand snapshots, five hundred branches that begin alike, a hundred layers. What is in
// it is made here, as small as it can be: a manifest and an empty overlay for each.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { type ContentId, type LayerKey, treeId } from '../../src/core/ids.ts'
import { engineVersion, firstContentId, type KeyInputs, keyOf } from '../../src/core/key.ts'
import type { Manifest } from '../../src/core/manifest.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'
import type { Lab, Project } from './lab.ts'
import { least, memoryRow, ms, type Row, ratioRow, secondsRow, takeTurns } from './row.ts'

interface Size {
  snapshots: number
  layers: number
  branches: number
}

const small: Size = { snapshots: 100, layers: 10, branches: 50 }
const sizes = {
  small,
  snapshots: { ...small, snapshots: 1000 },
  layers: { ...small, layers: 100, snapshots: 190 },
  branches: { ...small, branches: 500, snapshots: 560 },
  all: { snapshots: 1000, layers: 100, branches: 500 },
} satisfies Record<string, Size>
type Name = keyof typeof sizes

export function storeRows(lab: Lab): Row[] {
  const base = tinyDisk(lab.path('store.raw'), {})
  const projects = Object.fromEntries(
    (Object.keys(sizes) as Name[]).map((name) => [name, grown(lab, `store-${name}`, base, sizes[name])]),
  ) as Record<Name, Project>
  const all = (command: (project: Project) => number) =>
    Object.fromEntries((Object.keys(projects) as Name[]).map((name) => [name, () => command(projects[name])]))
  const measure = (rounds: number, command: (project: Project) => number) =>
    takeTurns(rounds, { node: () => lab.bareNode(), ...all(command) }) as Record<'node' | Name, number[]>
  const status = measure(10, (project) => project.vlb(['status']).seconds)
  const build = measure(10, (project) => project.build())
  const plan = measure(5, (project) => project.vlb(['gc', '--dry-run', '--budget', '1']).seconds)
  const dropped = JSON.parse(projects.all.vlb(['gc', '--dry-run', '--budget', '1', '--json']).stdout).removed.length
  return [
    secondsRow({
      what: 'Status: 1000 snapshots instead of 100',
      measured: `\`git vlb status\`: ${ms(least(status.snapshots))}`,
      comparedWith: `of 100: ${ms(least(status.small))}`,
      value: least(status.snapshots) - least(status.small),
      bound: 0.02,
      samples: { small: status.small, large: status.snapshots },
    }),
    ...growth('Status', '`git vlb status`', status, ['layers', 'branches']),
    ...growth('Nothing to do', '`git vlb build`', build, ['snapshots', 'layers', 'branches']),
    ...growth('What gc would drop', '`git vlb gc --dry-run`', plan, ['snapshots', 'layers', 'branches']),
    secondsRow({
      what: `gc: 1000 snapshots, 100 layers, 500 branches`,
      measured: `all of it but the removing, ${dropped} to go: ${ms(least(plan.all))}`,
      comparedWith: `\`node -e 0\`: ${ms(least(plan.node))}`,
      value: least(plan.all) - least(plan.node),
      bound: 2,
      samples: { node: plan.node, gc: plan.all },
    }),
    collected(lab, projects.all),
    memoryRow('what gc would drop of 1000 snapshots', projects.all.peakMemory('gc', '--dry-run', '--budget', '1')),
  ]
}

/** Ten times as much of one thing: by how much longer it takes beyond the start of node. */
function growth(what: string, command: string, samples: Record<'node' | Name, number[]>, names: Name[]): Row[] {
  const beyond = (name: Name) => least(samples[name]) - least(samples.node)
  return names.map((name) =>
    ratioRow({
      what: `${what}: ${name}, ${sizes.small[name as keyof Size]} to ${sizes[name][name as keyof Size]}`,
      measured: `${command}: ${ms(least(samples[name]))}`,
      comparedWith: `the small one: ${ms(least(samples.small))}; \`node -e 0\`: ${ms(least(samples.node))}`,
      value: beyond(name) / beyond('small'),
      bound: 10,
      samples: { node: samples.node, small: samples.small, large: samples[name] },
    }),
  )
}

/** With everything removed from the disk, from the same store each time. */
function collected(lab: Lab, project: Project): Row {
  const copy = lab.path('store-copy')
  const store = project.path('.git/vlb')
  const keep = { recursive: true, preserveTimestamps: true, verbatimSymlinks: true }
  cpSync(store, copy, keep)
  let left = 0
  const samples = takeTurns(3, {
    node: () => lab.bareNode(),
    gc: () => {
      rmSync(store, { recursive: true })
      cpSync(copy, store, keep)
      lab.settle()
      const { seconds, stdout } = project.vlb(['gc', '--budget', '0', '--json'])
      left = JSON.parse(stdout).keptBytes
      return seconds
    },
  })
  rmSync(store, { recursive: true })
  cpSync(copy, store, keep)
  if (left > 2 ** 22) throw new Error(`gc left ${left} bytes`)
  return secondsRow({
    what: 'gc that removes all 1000 snapshots',
    measured: `\`git vlb gc --budget 0\`: ${ms(least(samples.gc))}`,
    comparedWith: `\`node -e 0\`: ${ms(least(samples.node))}`,
    value: least(samples.gc) - least(samples.node),
    bound: 2,
    samples,
  })
}

/** Branches change the last layer of main, or the last two, so that all begin alike. */
function grown(lab: Lab, name: string, base: string, size: Size): Project {
  const project = lab.project(name).start(base, 'seal: false\n')
  for (let i = 0; i < size.layers; i++) project.layer(layerName(i), `echo ${i} >/layer`)
  project.commit()
  // One real snapshot, with the base below it, is the model of all others.
  project.build('--no-flatten', '--last', layerName(0))
  const store = new Filler(lab, project)
  let below = store.model
  const main: Manifest[] = [below]
  for (let i = 1; i < size.layers; i++) {
    below = store.add(layerName(i), project.git('rev-parse', `HEAD:${layerName(i)}`).trim(), below)
    main.push(below)
  }
  const trees = addBranches(lab, project, size)
  const stem = main.at(-3) ?? store.model
  for (const [last, previous] of trees) {
    const ground = previous === undefined ? main.at(-2) : store.add(layerName(size.layers - 2), previous, stem)
    store.add(layerName(size.layers - 1), last, ground ?? stem)
  }
  // What edits that were never committed left.
  for (let i = 0; store.count < size.snapshots; i++)
    store.add(layerName(size.layers - 1), createHash('sha1').update(`${name} ${i}`).digest('hex'), main.at(-2) ?? stem)
  if (store.count !== size.snapshots) throw new Error(`${store.count} snapshots instead of ${size.snapshots}`)
  project.build()
  const states = new Set(project.json('cache', 'ls').snapshots.map(({ state }: { state: string }) => state))
  if (!states.has('needed')) throw new Error('nothing is needed')
  return project
}

const layerName = (i: number): string => `${String(i + 1).padStart(3, '0')}_layer`

/** Commits on main's with git-fast-import(1). By branch: the trees of its last layer, and of the one before if it has its own. */
function addBranches(lab: Lab, project: Project, { branches, layers }: Size): [string, string | undefined][] {
  const lines: string[] = []
  for (let i = 0; i < branches; i++) {
    lines.push(`commit refs/heads/branch-${i}`, `committer A <a@example.com> ${1_700_000_000 + i} +0000`, 'data 1', 'x')
    lines.push('from refs/heads/main^0')
    for (const layer of i % 10 === 0 ? [layers - 1, layers - 2] : [layers - 1])
      lines.push(
        `M 100755 inline ${layerName(layer)}/build-layer`,
        'data <<END',
        '#!/bin/sh',
        `echo ${i} ${layer}`,
        'END',
      )
  }
  execFileSync('git', ['fast-import', '--quiet'], { input: `${lines.join('\n')}\n`, cwd: project.folder, env: lab.env })
  project.git('pack-refs', '--all')
  const wanted: string[] = []
  for (let i = 0; i < branches; i++)
    for (const layer of [layers - 1, layers - 2]) wanted.push(`refs/heads/branch-${i}:${layerName(layer)}`)
  const input = `${wanted.join('\n')}\n`
  const answer = execFileSync('git', ['cat-file', '--batch-check=%(objectname)'], {
    input,
    cwd: project.folder,
    env: lab.env,
  })
  const ids = answer.toString().split('\n')
  const own = project.git('rev-parse', `main:${layerName(layers - 2)}`).trim()
  return Array.from({ length: branches }, (_, i) => {
    const [last = '', previous = ''] = [ids[2 * i], ids[2 * i + 1]]
    return [last, previous === own ? undefined : previous]
  })
}

/** Puts snapshots into a store without building them. */
class Filler {
  readonly model: Manifest
  count = 1
  readonly #store: string
  readonly #overlay: Buffer
  readonly #name: string

  constructor(lab: Lab, project: Project) {
    this.#store = project.path('.git/vlb')
    const [layer] = project.json('status').layers
    this.model = JSON.parse(readFileSync(`${this.#store}/snapshots/${layer.key}/manifest.json`, 'utf8')) as Manifest
    this.#name = `${this.model.id}.qcow2`
    const file = lab.path('overlay.qcow2')
    const options = 'extended_l2=on,cluster_size=128k'
    const args = ['create', '-q', '-u', '-f', 'qcow2', '-o', options, '-F', 'qcow2', '-b', this.#name, file]
    execFileSync('qemu-img', [...args, String(this.model.disk.size)])
    this.#overlay = readFileSync(file)
  }

  add(layer: string, tree: string, below: Manifest): Manifest {
    const inputs: KeyInputs = {
      kind: 'build-layer',
      engine: engineVersion,
      parent: below.contentId,
      tree: treeId(tree),
    }
    const key: LayerKey = keyOf(inputs)
    const folder = `${this.#store}/snapshots/${key}`
    mkdirSync(folder)
    const overlay = Buffer.from(this.#overlay)
    const at = overlay.indexOf(this.#name)
    overlay.write(`${below.id}.qcow2`, at)
    writeFileSync(`${folder}/layer.qcow2`, overlay)
    writeFileSync(`${folder}/build.log`, '')
    const id = key as string as Manifest['id']
    const contentId: ContentId = firstContentId(key)
    const { base: _, packages: __, digest: ___, ...model } = this.model
    const own = { id, key, contentId, inputs, layer, nonce: key, parent: below.id, parentNonce: below.nonce }
    const manifest: Manifest = {
      ...model,
      ...own,
      fileBytes: overlay.length,
      bytes: statSync(`${folder}/layer.qcow2`).blocks * 512,
    }
    writeFileSync(`${folder}/manifest.json`, `${JSON.stringify(manifest, null, 2)}\n`)
    const hour = Date.now() / 1000 - 3600 - this.count
    utimesSync(`${folder}/manifest.json`, hour, hour)
    this.count++
    return manifest
  }
}

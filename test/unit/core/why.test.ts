// Why a layer is missing, from manifests and plans alone.
import { describe, expect, test } from 'vitest'
import { contentId, digest, layerKey, snapshotId, treeId } from '../../../src/core/ids.ts'
import type { KeyInputs } from '../../../src/core/key.ts'
import type { Manifest } from '../../../src/core/manifest.ts'
import type { Step } from '../../../src/core/plan.ts'
import { changedFiles, differences, lastSnapshot } from '../../../src/core/why.ts'

const place = { folder: '/r/web', worktree: '/r' }

function manifest(layer: string, more: Partial<Omit<Manifest, 'inputs'>> & { inputs?: Partial<KeyInputs> } = {}) {
  const id = more.id ?? snapshotId(layer)
  const inputs = { kind: 'build-layer', engine: 1, tree: treeId(layer), ...more.inputs }
  const rest = { layer, project: '/r/web', builtAt: '2024-01-01', key: layerKey(id), ...more }
  return { ...rest, id, inputs } as Manifest
}

function step(name: string, inputs: Partial<KeyInputs> = {}): Step {
  const all: KeyInputs = { kind: 'build-layer', engine: 1, tree: treeId(name), ...inputs }
  return { name, layer: undefined, inputs: all, key: layerKey(name), content: contentId(name) }
}

describe('the last snapshot of a layer', () => {
  const last = (wanted: Step, ...all: Manifest[]) => lastSnapshot(wanted, all, place)?.id

  test('is the newest of its name, else of its name without the number, else of its files', () => {
    const old = manifest('10_a', { id: snapshotId('old') })
    const newer = manifest('10_a', { id: snapshotId('newer'), builtAt: '2024-02-01' })
    const moved = manifest('20_a', { id: snapshotId('moved'), builtAt: '2024-03-01' })
    const same = manifest('30_b', { id: snapshotId('same'), builtAt: '2024-04-01', inputs: { tree: treeId('10_a') } })
    const other = manifest('40_c', { builtAt: '2024-05-01' })
    expect(last(step('10_a'), old, newer, moved, same, other)).toBe('newer')
    expect(last(step('10_a'), moved, same, other)).toBe('moved')
    expect(last(step('10_a'), same, other)).toBe('same')
    expect(last(step('10_a'), other)).toBe(undefined)
  })

  test('is not that of a neighbour in the same working tree, unless from the same files', () => {
    const neighbour = manifest('10_a', { project: '/r/db', inputs: { tree: treeId('x') } })
    expect(last(step('10_a'), neighbour)).toBe(undefined)
    expect(last(step('10_x', { tree: treeId('x') }), neighbour)).toBe('10_a')
    const worktree = manifest('10_a', { id: snapshotId('worktree'), project: '/elsewhere/web', builtAt: '2025-01-01' })
    expect(last(step('10_a'), worktree)).toBe('worktree')
    expect(last(step('10_a'), worktree, manifest('10_a', { id: snapshotId('own') }))).toBe('own')
  })
})

describe('what a changed parent comes from', () => {
  const on = (id: string, more: Partial<KeyInputs> = {}) => ({ parent: contentId(id), ...more })
  const a = manifest('10_a', { inputs: { base: digest('sha256:1') } })
  const b = manifest('20_b', { parent: a.id, inputs: on('10_a') })
  const c = manifest('30_c', { parent: b.id, inputs: on('20_b') })
  const all = [a, b, c]
  const sa = step('10_a', { base: digest('sha256:1') })
  const sb = step('20_b', on('10_a'))
  const parent = (layer: string, change: string, inputs: string[] = []) => [{ input: 'parent', layer, change, inputs }]

  test.each([
    [
      'a base',
      [step('10_a', { base: digest('sha256:2') }), step('20_b', on('x'))],
      parent('10_a', 'changed', ['base']),
    ],
    [
      'files, two below',
      [step('10_a', { base: digest('sha256:1'), tree: treeId('n') }), step('20_b', on('x'))],
      parent('10_a', 'changed', ['tree']),
    ],
    ['values', [sa, step('20_b', on('10_a', { env: { N: 'secret' } }))], parent('20_b', 'changed', ['env'])],
    ['a new layer', [sa, step('15_n', on('10_a')), step('20_b', on('15_n'))], parent('15_n', 'added')],
    ['one that is gone', [sa], parent('20_b', 'removed')],
    [
      'another order',
      [
        step('10_b', { base: digest('sha256:1'), tree: treeId('20_b') }),
        step('20_a', on('10_b', { tree: treeId('10_a') })),
      ],
      parent('10_b', 'moved'),
    ],
    ['a build of the same inputs', [sa, sb], parent('20_b', 'changed')],
    [
      'a disk that grows now',
      [step('disk', { kind: 'disk', size: 5, base: digest('sha256:1') }), step('10_a', on('disk'))],
      [{ input: 'size', before: null, after: 5 }],
    ],
  ] as [string, Step[], object[]][])('%s', (_, below, expected) => {
    const chain = [...below, step('30_c', on('another'))]
    expect(differences(c, chain, chain.length - 1, all)).toEqual(expected)
  })

  test('the layer below, where what was below the snapshot is not kept', () => {
    expect(differences(c, [sa, sb, step('30_c', on('x'))], 2, [c])).toEqual(parent('20_b', 'changed'))
  })

  test('nothing, while a value is lacking below', () => {
    const chain = [{ ...sa, lacks: 'N', key: layerKey('') }, step('20_b'), step('30_c', { tree: treeId('new') })]
    expect(differences(c, chain, 2, all)).toMatchObject([{ input: 'tree', before: '30_c', after: 'new' }])
  })
})

test('files: added, deleted, changed, of another mode, with any name', () => {
  const before = { same: '100644 1', gone: '100644 2', changed: '100644 3', mode: '100644 4' }
  const after = { same: '100644 1', changed: '100644 5', mode: '100755 4', constructor: '100644 6' }
  expect(changedFiles(before, after)).toEqual([
    { path: 'changed', change: 'modified' },
    { path: 'constructor', change: 'added' },
    { path: 'gone', change: 'deleted' },
    { path: 'mode', change: 'mode' },
  ])
})

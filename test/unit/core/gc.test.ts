// What goes, in which order.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  byDepth,
  chooseVictims,
  defaultBudget,
  type Item,
  inherit,
  parseBudget,
  ranks,
  withAllAbove,
} from '../../../src/core/gc.ts'

const item = (id: string, more: Partial<Item> = {}): Item => ({
  kind: 'snapshot',
  id,
  name: id,
  bytes: 10,
  lastUse: 0,
  rank: 'unneeded',
  used: false,
  ...more,
})
const ids = (items: readonly Item[]) => items.map(({ id }) => id).join(' ')
const choose = (items: Item[], budget: number | undefined, prune = false, total = items.length * 10) =>
  ids(chooseVictims(inherit(items), { total, budget, prune }))

describe('the order', () => {
  const chain = [
    item('a', { lastUse: 1 }),
    item('b', { below: 'a', lastUse: 5 }),
    item('c', { below: 'a', lastUse: 3 }),
  ]

  test('leaves first, by last use', () => {
    expect(choose(chain, 0)).toBe('c b a')
  })

  test('until the budget holds, and not further', () => {
    expect(choose(chain, 30)).toBe('')
    expect(choose(chain, 29)).toBe('c')
    expect(choose(chain, 19)).toBe('c b')
  })

  test('unneeded before recorded before needed, whenever they were used', () => {
    const items = [
      item('n', { rank: 'needed', lastUse: 1 }),
      item('r', { rank: 'recorded', lastUse: 2 }),
      item('u', { lastUse: 3 }),
    ]
    expect(choose(items, 0)).toBe('u r n')
    expect(choose(items, undefined, true)).toBe('u')
    expect(choose(items, undefined)).toBe('')
  })

  test('an ancestor is needed and used as much as what stands on it', () => {
    const items = [item('a'), item('b', { below: 'a', rank: 'needed' }), item('x', { lastUse: 9 })]
    expect(choose(items, 0)).toBe('x b a')
    expect(choose([item('a'), item('b', { below: 'a', used: true }), item('x')], 0)).toBe('x')
  })

  test('what else the store holds counts, though it cannot go', () => {
    expect(choose([item('a'), item('b')], 100, false, 105)).toBe('a')
  })

  test('once over the budget, what is not needed goes further than the rest', () => {
    const items = inherit([item('a', { lastUse: 1 }), item('b', { lastUse: 2 }), item('n', { rank: 'needed' })])
    const limit = { total: 30, budget: 25, goal: 5, prune: false }
    expect(ids(chooseVictims(items, limit))).toBe('a b')
    expect(ids(chooseVictims(items, { ...limit, budget: 30 }))).toBe('')
  })
})

test('whatever stands on whatever: nothing goes before what stands on it, nothing that is used', () => {
  const arbitrary = fc.array(
    fc.record({
      below: fc.option(fc.nat(20), { nil: undefined }),
      bytes: fc.nat(100),
      lastUse: fc.nat(10),
      rank: fc.constantFrom(...ranks),
      used: fc.boolean(),
    }),
    { maxLength: 20 },
  )
  fc.assert(
    fc.property(arbitrary, fc.nat(500), fc.boolean(), fc.boolean(), (shapes, budget, prune, tangled) => {
      // Also circles, which only a damaged store has: it must end.
      const items = shapes.map(({ below, ...shape }, i) =>
        item(String(i), {
          ...shape,
          ...(below === undefined ? {} : { below: String(tangled ? below : below % (i + 1)) }),
        }),
      )
      const gone = chooseVictims(inherit(items), { total: 1000, budget, prune }).map(({ id }) => id)
      expect(new Set(gone).size).toBe(gone.length)
      expect(items.filter(({ used }) => used).some(({ id }) => gone.includes(id))).toBe(false)
      if (tangled || items.some(({ id, below }) => id === below)) return
      for (const { id, below } of items) {
        if (below === undefined || !gone.includes(below)) continue
        expect(gone.indexOf(id)).toBeGreaterThanOrEqual(0)
        expect(gone.indexOf(id)).toBeLessThan(gone.indexOf(below))
      }
    }),
  )
})

test('what stands on something goes with it, first', () => {
  const items = [item('a'), item('b', { below: 'a' }), item('c', { below: 'b' }), item('d')]
  expect(ids(withAllAbove(items, new Set(['b'])))).toBe('c b')
  expect(byDepth(items).map(({ depth }) => depth)).toEqual([2, 1, 0, 0])
})

test('budgets', () => {
  expect(parseBudget('20G', '--budget')).toBe(20 * 2 ** 30)
  expect(parseBudget('0', '--budget')).toBe(0)
  expect(parseBudget('none', 'vlb.budget')).toBeUndefined()
  for (const text of ['', '-1', 'much', '10%']) expect(() => parseBudget(text, 'vlb.budget')).toThrow(/takes a size/)
  expect(defaultBudget(300, 100)).toBe(100)
})

import { expect, test } from 'vitest'
import { compareVersions } from '../../../src/core/versions.ts'

/** Each list from the oldest to the newest. */
const orders = {
  // As `dpkg --compare-versions` has it.
  dpkg: [
    [
      '1.0~~',
      '1.0~rc1',
      '1.0',
      '1.0-0.1',
      '1.0-1~bpo1',
      '1.0-1',
      '1.0-1+b1',
      '1.0-1+deb12u1',
      '1.0a',
      '1.0+dfsg',
      '1.0.1',
      '1.2',
      '1.10',
      '2:0.1',
    ],
    ['2.36-9', '2.36-9+deb12u7', '2.36-9+deb12u10', '2.36-10'],
    ['6.1.99-1', '6.1.100-1'],
  ],
  // As `rpmdev-vercmp` has it.
  rpm: [
    ['1.0~rc1-1', '1.0-1', '1.0-1.el9', '1.0^git1-1', '1.0.a-1', '1.0.1-1', '1.1-1', '1.10-1', '1:0.1-1'],
    ['5.14.0-70.el9', '5.14.0-362.el9'],
  ],
  pacman: [['1.2-1', '1.2-2', '1.10-1', '1:1.0-1']],
  apk: [['1.2.3-r0', '1.2.3-r1', '1.2.10-r0', '1.3-r0']],
} as const

const lists = Object.entries(orders).flatMap(([manager, all]) =>
  all.map((list) => ({ manager, list: [...list] as string[] })),
)

test.each(lists)('$manager orders $list', ({ manager, list }) => {
  for (const [i, a] of list.entries()) {
    for (const [j, b] of list.entries())
      expect(Math.sign(compareVersions(manager as 'dpkg', a, b) ?? NaN), `${a} and ${b}`).toBe(Math.sign(i - j))
  }
})

test('what is not known is not guessed', () => {
  expect(compareVersions(null, '1', '2')).toBeUndefined()
  expect(compareVersions('apk', '1.0_rc1-r0', '1.0-r0')).toBeUndefined()
})

// The page of a changelog in a real browser: it shows what it should, runs nothing, and is there to be looked at in
// test/artefacts/.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { changelogHtml } from '../../src/core/changelog-html.ts'
import { projectRoot, type Rig, rigTest } from '../rig/rig.ts'
import { sample } from '../unit/core/changelog-sample.ts'

function chromium(rig: Rig, ...args: string[]): string {
  const quiet = ['--disable-gpu', '--disable-background-networking', '--disable-sync', '--no-first-run']
  const own = ['--headless', '--no-sandbox', '--hide-scrollbars', `--user-data-dir=${join(rig.folder, 'chromium')}`]
  return execFileSync('chromium', [...own, ...quiet, ...args], {
    encoding: 'utf8',
    env: { ...rig.env, PATH: `${process.env['PATH']}` },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 100_000,
  })
}

/** Width and height of a PNG: the first fields of its first chunk. */
function sizeOf(png: Buffer): number[] {
  expect(png.subarray(1, 4).toString()).toBe('PNG')
  return [png.readUInt32BE(16), png.readUInt32BE(20)]
}

rigTest(
  'the page of a changelog looks as it should, in light, in dark and on a phone',
  async (rig) => {
    const page = join(rig.folder, 'changelog.html')
    writeFileSync(page, changelogHtml(sample).replaceAll(/<details(?=[ >])/g, '<details open'))
    const folder = join(projectRoot, 'test/artefacts')
    mkdirSync(folder, { recursive: true })
    const looks: [name: string, width: number, height: number, ...rest: string[]][] = [
      ['light', 1100, 2100],
      ['dark', 1100, 2100, '--blink-settings=preferredColorScheme=0'],
      ['phone', 500, 2600],
    ]
    const pictures = looks.map(([name, width, height, ...rest]) => {
      const file = join(folder, `changelog-${name}.png`)
      rmSync(file, { force: true })
      chromium(rig, `--window-size=${width},${height}`, `--screenshot=${file}`, ...rest, `file://${page}`)
      const picture = readFileSync(file)
      expect(sizeOf(picture)).toEqual([width, height])
      expect(picture.length, 'not an empty page').toBeGreaterThan(40_000)
      return picture
    })
    expect(pictures[0]?.equals(pictures[1] as Buffer), 'dark is another look').toBe(false)
  },
  ['tool:chromium'],
)

rigTest(
  'nothing in names and messages becomes an element of the page',
  async (rig) => {
    const page = join(rig.folder, 'changelog.html')
    writeFileSync(page, changelogHtml(sample))
    const dom = chromium(rig, '--dump-dom', `file://${page}`)
    expect(dom).toContain('<h1>v1.0 <span class="arrow">→</span> v1.1</h1>')
    expect(dom).not.toMatch(/<(script|img)/)
    expect(dom.match(/<details/g)).toHaveLength(4)
    expect(dom.match(/class="bar"/g)).toHaveLength(sample.layers.length)
  },
  ['tool:chromium'],
)

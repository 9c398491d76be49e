// What people write: vlb.yaml, scripts, ranges, values on the command line and in git's configuration.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { readSecrets } from '../../src/commands/secrets.ts'
import { readValues } from '../../src/commands/values.ts'
import { parseAttach, parseDevice } from '../../src/core/attach.ts'
import { compileExpect } from '../../src/core/config.ts'
import { parseConfig } from '../../src/core/config-file.ts'
import { parseDirectives } from '../../src/core/directives.ts'
import { mountPath } from '../../src/core/fstab.ts'
import { compareLayerNames, isLayerName, type Layer, readScript } from '../../src/core/layer.ts'
import { nearest } from '../../src/core/nearest.ts'
import { findLayer, upTo } from '../../src/core/plan.ts'
import { allowsPrebuild, isOff } from '../../src/core/prebuild.ts'
import { parseRange, planRollup } from '../../src/core/rollup.ts'
import { formatAge, formatBytes, formatSeconds, parseDuration, parseSize } from '../../src/core/units.ts'
import { parseAccelerator } from '../../src/vm/accelerator.ts'
import { optionValue, parseBridge, parseForward } from '../../src/vm/qemu.ts'
import { anyText, expectTotalOrder, linesOf, madeOf, orRefusal } from './outside.ts'

describe('vlb.yaml', () => {
  const pieces = [
    ...['version: 1', 'name:', ' web', 'base:', '  path: x.qcow2', '  url: https://x/y', '  sha256: ', 'ab'.repeat(32)],
    ...[
      'disk: { size: 10G }',
      'disk:',
      'root: 1',
      'env: { A: yes }',
      'env:',
      ' A: 1e3',
      'output:',
      '  format: [raw, ova]',
    ],
    ...[
      'seal: [logs]',
      'boot: { expect: "(" }',
      'timeout: 5m',
      'machines:',
      '  - { cpus: 2 }',
      'builtin-checks: false',
    ],
    ...[
      '&a ',
      '*a',
      '[',
      ']',
      '{',
      '}',
      ': ',
      '- ',
      '---\n',
      '...\n',
      '!!binary ',
      '!!set ',
      '<<: *a',
      '? ',
      '| ',
      '>-',
      '"',
      "'",
    ],
    ...[
      'version: 1\nbase: { path: x }\n',
      'version: 1\n',
      '\n',
      '  ',
      '# ',
      '%YAML 1.1\n',
      '0x10',
      '.inf',
      '~',
      'null',
      '2001-01-01',
    ],
  ]

  test('is read, or refused with file and line', () => {
    fc.assert(
      fc.property(fc.oneof(linesOf(pieces), madeOf(pieces, 30)), (text) => {
        const config = orRefusal(() => parseConfig(text, 'vlb.yaml', 'folder'))
        if (!config) return
        expect(config.name).toMatch(/^[A-Za-z0-9._-]+$/)
        expect(Object.keys(config.env).every((name) => /^[A-Za-z_]\w*$/.test(name))).toBe(true)
        expect(Object.values(config.env).every((value) => typeof value === 'string')).toBe(true)
        expect(config.boot.machines.length).toBeGreaterThan(0)
      }),
    )
  })

  test('a pattern for a console is one, or none', () => {
    fc.assert(
      fc.property(
        madeOf(['(', '[', 'a', '*', '\\', '^', '$', '|', '?', '{1', '}']),
        (text) => void compileExpect(text),
      ),
    )
  })
})

describe('scripts', () => {
  const pieces = [
    ...[
      '#!/bin/sh',
      '#',
      '# vlb:',
      ' nocache',
      ' noshare',
      ' ttl 7d',
      ' env A=b',
      ' env A',
      ' secret x',
      ' cache /var/x',
    ],
    ...[
      ' include ../x',
      ' include a/b',
      ' network none',
      ' bind . /x',
      ' mount 2 /boot',
      ' hostname a.b',
      ' timeout 30m',
    ],
    ...[
      '# chroot-mount p2 /x',
      '# chroot-bind-mount . /y',
      '/..',
      '//',
      ' ',
      '\r',
      '\t',
      '\nset -eu',
      '# nocache',
      '  /a  b',
    ],
  ]

  test('directives are read, or refused; what they name is of a form that root may be given', () => {
    fc.assert(
      fc.property(linesOf(pieces), (text) => {
        const found = orRefusal(() => parseDirectives(text, '10_a/build-layer'))
        if (!found) return
        for (const { target } of [...found.binds, ...found.mounts]) expect(mountPath(target)).toBe(target)
        for (const path of found.caches) expect(path).toMatch(/^\/[^\0-\x1f]*$/)
        for (const path of found.includes) expect(path.split('/')).not.toContain('..')
        for (const id of found.secrets) expect(id).toMatch(/^[A-Za-z0-9._-]+$/)
        for (const name of Object.keys(found.env)) expect(name).toMatch(/^[A-Za-z_]\w*$/)
        for (const seconds of [found.ttl, found.timeout]) expect(seconds ?? 1).toBeGreaterThan(0)
      }),
    )
  })

  test('directives end with the first line of the script itself', () => {
    fc.assert(
      fc.property(linesOf(pieces), anyText, (text, more) => {
        const script = `#!/bin/sh\n# vlb: ttl 7d\nset -eu\n${text}\n${more}`
        expect(parseDirectives(script, 'x')).toEqual(parseDirectives('#!/bin/sh\n# vlb: ttl 7d\n', 'x'))
      }),
    )
  })

  test('their first bytes are read, or refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
          linesOf(pieces).map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          const script = orRefusal(() => readScript(bytes, '10_a/build-layer'))
          expect(script?.interpreter ?? '/').toMatch(/^\//)
        },
      ),
    )
  })
})

describe('layers', () => {
  const name = fc.oneof(
    fc
      .tuple(
        fc.constantFrom('01', '10', '010', '099', '9999999999999999999999'),
        fc.constantFrom('a', 'b..c', '1', '-', '.'),
      )
      .map((parts) => parts.join('_')),
    anyText,
  )

  test('names are of a form that every file system and every message takes', () => {
    fc.assert(
      fc.property(name, (text) => {
        if (orRefusal(() => isLayerName(text))) expect(text).toMatch(/^[0-9]{2,}_[A-Za-z0-9._-]+$/)
      }),
    )
  })

  test('their order is total', () => {
    const names = fc.array(
      name.filter((text) => /^[0-9]{2,}_[A-Za-z0-9._-]+$/.test(text)),
      { minLength: 3, maxLength: 3 },
    )
    fc.assert(fc.property(names, (three) => expectTotalOrder(three, compareLayerNames, (a, b) => a === b)))
  })

  const layers = ['01_a', '02_b..c', '10_d', '020_1'].map(
    (one) => ({ name: one, kind: 'build-layer', directives: parseDirectives('', '') }) as unknown as Layer,
  )
  const ends = ['01', '1', '01_a', '..', '.', '02_b..c', '10_d', '020', '20', '0', '/', ' ']

  test('a range of layers is two or more in their order, or refused', () => {
    fc.assert(
      fc.property(madeOf(ends, 6), (text) => {
        const range = orRefusal(() => parseRange(text, layers))
        if (!range) return
        expect(range.length).toBeGreaterThan(1)
        expect(range).toEqual(layers.slice(layers.indexOf(range[0] as Layer)).slice(0, range.length))
      }),
    )
  })

  test('a range by names is read as it was written', () => {
    const two = fc.tuple(fc.nat(3), fc.nat(3)).filter(([a, b]) => a < b)
    fc.assert(
      fc.property(two, ([a, b]) => {
        expect(parseRange(`${layers[a]?.name}..${layers[b]?.name}`, layers)).toEqual(layers.slice(a, b + 1))
      }),
    )
  })

  test('a name for the rolled-up layer is taken or refused', () => {
    fc.assert(
      fc.property(
        fc.oneof(name, anyText),
        (text) => void orRefusal(() => planRollup(layers.slice(0, 2), layers, text)),
      ),
    )
  })

  test('one that is asked for is found, or refused', () => {
    fc.assert(
      fc.property(madeOf(ends, 3), (text) => {
        orRefusal(() => findLayer(layers, text))
        orRefusal(() => upTo(layers, text))
      }),
    )
  })

  test('the nearest name is one of those that there are', () => {
    fc.assert(
      fc.property(anyText, fc.array(anyText, { maxLength: 5 }), (word, names) => {
        const found = nearest(word, names)
        if (found !== undefined) expect(names).toContain(found)
      }),
    )
  })
})

describe('sizes and durations', () => {
  const pieces = [
    '1',
    '0',
    '.',
    '5',
    ' ',
    'K',
    'm',
    'G',
    'iB',
    'B',
    'ms',
    's',
    'h',
    'd',
    '-',
    '+',
    'e9',
    '9'.repeat(40),
  ]

  test('are positive numbers, or none', () => {
    fc.assert(
      fc.property(madeOf(pieces, 6), (text) => {
        const [bytes, seconds] = [parseSize(text), parseDuration(text)]
        if (bytes !== undefined) expect(Number.isSafeInteger(bytes) && bytes > 0).toBe(true)
        if (seconds !== undefined) expect(Number.isFinite(seconds) && seconds > 0).toBe(true)
      }),
    )
  })

  test('what is written in whole units is read as that', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4096 }), fc.constantFrom('K', 'M', 'G', 'T'), (count, unit) => {
        const bytes = count * 1024 ** ('KMGT'.indexOf(unit) + 1)
        for (const text of [`${count}${unit}`, `${count} ${unit}iB`, `${count}${unit.toLowerCase()}b`, `${bytes}`])
          expect(parseSize(text)).toBe(bytes)
      }),
    )
  })

  test('what is shown can be read again, and is off by no more than was rounded', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 50 }), (bytes) => {
        const shown = parseSize(formatBytes(bytes).replace(' ', ''))
        // A fraction of a unit need be no whole number of bytes.
        if (shown !== undefined) expect(Math.abs(shown - bytes) / bytes).toBeLessThan(0.06)
      }),
    )
  })

  test('every number of seconds is shown', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1e9, noNaN: true }), (seconds) => {
        expect(formatSeconds(seconds)).toMatch(/^(\d+\.\d s|\d+m[0-5]\d s?|\d+m[0-5]\ds|\d+h[0-5]\dm)$/)
        expect(formatAge(seconds)).toMatch(/^\d+ (s|min|h|d)$/)
      }),
    )
  })
})

describe('the command line and git’s configuration', () => {
  test('--env gives what stands behind the first "="', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z_]\w{0,9}$/), anyText, (name, value) => {
        expect({ ...readValues({ env: [`${name}=${value}`] }) }).toEqual(Object.fromEntries([[name, value]]))
      }),
    )
    fc.assert(
      fc.property(
        fc.array(madeOf(['A', '=', ' ', 'b']), { maxLength: 4 }),
        (env) => void orRefusal(() => readValues({ env })),
      ),
    )
  })

  test('--secret is read or refused, and no message holds a value', async () => {
    const given = madeOf(['id=', 'a', ',', 'src=', 'env=', '/nowhere', 'VLB_NO_SUCH', '='], 8)
    await fc.assert(
      fc.asyncProperty(given, async (text) => {
        const outcome = await readSecrets([text], '/nowhere').catch((error: unknown) => error)
        orRefusal(() => {
          if (outcome instanceof Error) throw outcome
        })
      }),
    )
  })

  test('ports, bridges, devices and ways are what they should be, or refused', () => {
    const pieces = [
      '80',
      ':',
      '65535',
      '65536',
      '0',
      '/dev/nbd',
      '/dev/nbd0',
      'auto',
      'fuse',
      'br0',
      ',',
      '-',
      'kvm',
      'tcg',
      '\n',
    ]
    fc.assert(
      fc.property(madeOf(pieces, 4), (text) => {
        const forward = orRefusal(() => parseForward(text))
        for (const port of [forward?.host, forward?.guest])
          if (port !== undefined) expect(port > 0 && port < 65_536).toBe(true)
        expect(orRefusal(() => parseBridge(text)) ?? 'br0').toMatch(/^[A-Za-z0-9_.:-]{1,15}$/)
        expect(orRefusal(() => parseDevice(text)) ?? '/dev/nbd0').toMatch(/^\/dev\/nbd\d+$/)
        expect(['auto', 'fuse', 'nbd', undefined]).toContain(orRefusal(() => parseAttach(text)))
        expect(['auto', 'kvm', 'tcg', undefined]).toContain(orRefusal(() => parseAccelerator(text)))
      }),
    )
  })

  test('a value of one of qemu’s options ends where it should', () => {
    fc.assert(
      fc.property(anyText, anyText, (one, other) => {
        const option = `file=${optionValue(one)},id=${optionValue(other)}`
        // qemu's own way to read it (util/qemu-option.c).
        const values = option.split(/(?<!,)(?:,,)*,(?!,)/)
        expect(option.replaceAll(',,', '').split(',').length).toBe(2)
        expect(values.length).toBeGreaterThan(0)
      }),
    )
  })

  test('vlb.prebuild says yes or no to every branch', () => {
    const values = fc.array(madeOf(['true', 'false', '*', '?', 'main', ' ', '[', '(', '\\', '+', '**']), {
      maxLength: 4,
    })
    fc.assert(
      fc.property(values, anyText, (given, branch) => {
        expect(typeof isOff(given)).toBe('boolean')
        expect(typeof allowsPrebuild(given, branch)).toBe('boolean')
        expect(allowsPrebuild([...given, 'true'], branch)).toBe(true)
        expect(allowsPrebuild([...given, 'no', branch.trim() === '' ? '*' : '*'], branch)).toBe(
          !/[\n\r\u2028\u2029]/.test(branch),
        )
      }),
    )
  })
})

// vlb.yaml: its defaults, and for every mistake a message with line, column and what to do.
import { describe, expect, test } from 'vitest'
import schema from '../../../docs/vlb.schema.json' with { type: 'json' }
import { compileExpect } from '../../../src/core/config.ts'
import { parseConfig } from '../../../src/core/config-file.ts'
import { sealSteps } from '../../../src/core/seal.ts'
import { complaint } from '../errors.ts'

const parse = (body: string) => parseConfig(`version: 1\n${body}`, 'vlb.yaml', 'folder')
const wrong = (body: string) => complaint('VLB_CONFIG', () => parse(body))
const sha256 = 'A'.repeat(64)

test('a file that says nothing but its version gets every default', () => {
  expect(parse('')).toMatchObject({
    name: 'folder',
    base: undefined,
    disk: { size: undefined, root: undefined },
    env: {},
    output: { path: 'build/image.qcow2', formats: ['qcow2'], compress: 'none', compat: '1.1', checksums: false },
    seal: sealSteps,
    boot: { memory: 2 ** 30, cpus: 2, firmware: 'bios', expect: undefined, timeout: 300 },
  })
})

test('everything said is taken over', () => {
  const config = parse(`
name: web
base: { url: "https://example.com/x.qcow2", sha256: ${sha256} }
disk: { size: 10G, root: 2 }
env: { RELEASE: stable }
output: { path: out/x.qcow2, compress: zstd }
boot: { memory: 512M, cpus: 4, firmware: uefi, expect: "login:", timeout: 90s }
`)
  expect(config).toMatchObject({
    name: 'web',
    base: { from: 'url', url: 'https://example.com/x.qcow2', digest: { algorithm: 'sha256', hex: 'a'.repeat(64) } },
    disk: { size: 10 * 2 ** 30, root: '2' },
    env: { RELEASE: 'stable' },
    output: { path: 'out/x.qcow2', formats: ['qcow2'], compress: 'zstd' },
    boot: { memory: 512 * 2 ** 20, cpus: 4, firmware: 'uefi', expect: 'login:', timeout: 90 },
  })
})

test('a base by path needs no digest, and may have one', () => {
  expect(parse('base: { path: a.qcow2 }').base).toEqual({ from: 'path', path: 'a.qcow2', digest: undefined })
  const sha512 = 'b'.repeat(128)
  expect(parse(`base: { path: a, sha512: ${sha512} }`).base).toMatchObject({
    digest: { algorithm: 'sha512', hex: sha512 },
  })
})

test('the root can be a label or a UUID', () => {
  expect(parse('disk: { root: LABEL=root }').disk.root).toBe('LABEL=root')
  expect(parse('disk: { root: UUID=ab-cd }').disk.root).toBe('UUID=ab-cd')
})

test('the ending of the output file says its format, and the format the default file', () => {
  expect(parse('output: { path: x.img }').output).toMatchObject({ path: 'x.img', formats: ['raw'] })
  expect(parse('output: { path: x.VMDK }').output.formats).toEqual(['vmdk'])
  expect(parse('output: { format: vdi }').output.path).toBe('build/image.vdi')
})

test('several formats, the main one first', () => {
  const { path, formats } = parse('output: { format: [vpc, ova, vpc], checksums: true }').output
  expect([path, formats]).toEqual(['build/image.vhd', ['vpc', 'ova']])
})

test('a qcow2 for old qemu, however YAML reads the number', () => {
  for (const compat of ['0.10', '"0.10"', '0.1'])
    expect(parse(`output: { compat: ${compat} }`).output.compat).toBe('0.10')
  for (const compat of ['1.1', '"1.1"']) expect(parse(`output: { compat: ${compat} }`).output.compat).toBe('1.1')
})

test('the seal is all steps, none, or those of a list in the order in which they are done', () => {
  expect(parse('seal: true').seal).toEqual(sealSteps)
  expect(parse('seal: false').seal).toEqual([])
  expect(parse('seal: []').seal).toEqual([])
  expect(parse('seal: [logs, machine-id, logs]').seal).toEqual(['machine-id', 'logs'])
  const inSchema = schema.properties.seal.anyOf.flatMap((form) => form.items?.enum ?? [])
  expect(inSchema).toEqual(sealSteps)
})

test('values of env are texts as they are written, never rounded or shortened', () => {
  expect(parse('env: { A: 1.50, B: 007, C: 12345678901234567890, D: true, E: "x y", F: 0x10, G: -3 }').env).toEqual({
    A: '1.50',
    B: '007',
    C: '12345678901234567890',
    D: 'true',
    E: 'x y',
    F: '0x10',
    G: '-3',
  })
  expect(parse('env: { A: &v 1.50, B: *v }').env).toEqual({ A: '1.50', B: '1.50' })
})

test('a byte order mark and Windows line ends do no harm', () => {
  expect(parseConfig('\ufeffversion: 1\r\nname: web\r\n', 'vlb.yaml', 'x').name).toBe('web')
})

describe('a wrong file is refused, with line, column and what to do', () => {
  test.each([
    ['seal:\n  - logs\n  - machineid', ':4:5: seal.1 must be one of machine-id, ', 'did you mean "machine-id"?'],
    ['seal: [logs, nonsense]', ':2:14: seal.1 must be one of machine-id, ', 'VLB.YAML'],
    ['seal: logs', ':2:7: seal is not valid: "logs"', 'true (all), false (nothing) or a list'],
    ['seal: 3', ':2:7: seal is not valid: 3', 'a list'],
    ['bse: 1', ':2:1: unknown key "bse"', 'did you mean "base"?'],
    ['base:\n  pth: a', ':3:3: unknown key "base.pth"', 'did you mean "path"?'],
    ['base: { path: a, sha265: b }', ':2:18: unknown key "base.sha265"', 'did you mean "sha256"?'],
    ['disk:\n  siez: 1G', ':3:3: unknown key "disk.siez"', 'did you mean "size"?'],
    ['output: { fromat: raw }', ':2:11: unknown key "output.fromat"', 'did you mean "format"?'],
    ['boot: { memroy: 1G }', ':2:9: unknown key "boot.memroy"', 'did you mean "memory"?'],
    ['quite_another: 1', ':2:1: unknown key "quite_another"', 'known here: version, name, base'],
    ['constructor: 1', ':2:1: unknown key "constructor"', 'known here: version, name, base'],
    ['1: 2', ':2:1: unknown key "1"', 'known here: version'],
    ['"a\\u001b[31m": 1', ':2:1: unknown key "a?[31m"', 'known here: version'],
    ['name: "a b"', ':2:7: name is not valid: "a b"', 'Name of the project'],
    ['name: 5', ':2:7: name is not valid: 5', 'Name of the project'],
    ['base:', ':2:6: base is not valid: null', 'The disk image under the first layer'],
    ['base: {}', ':2:7: base needs either path or url', 'base: { path:'],
    [`base: { path: a, url: "http://x/" }`, ':2:7: base needs either path or url', 'base: { path:'],
    ['base: { url: "http://x/a" }', ':2:7: base.url needs sha256 or sha512', 'checksum file beside the image'],
    ['base: { url: "file:///etc/passwd" }', ':2:14: base.url is not valid: "file:///etc/passwd"', 'download'],
    [`base: { url: "https://", sha256: ${sha256} }`, ':2:14: base.url is no URL: "https://"', 'https://'],
    [`base: { url: "https://a b/", sha256: ${sha256} }`, ':2:14: base.url is no URL: "https://a b/"', 'https://'],
    ['base: { path: a, sha256: abc }', ':2:26: base.sha256 is not valid: "abc"', 'Digest of the file'],
    [
      `base: { path: a, sha256: ${sha256}, sha512: ${'b'.repeat(128)} }`,
      ':2:7: base takes sha256 or sha512, not both',
      'leave one of the two out',
    ],
    ['disk: [1]', ':2:7: disk is not valid: [1]', 'Size and root partition'],
    ['disk: { size: 10 }', ':2:15: disk.size is not valid: 10', '10G'],
    ['disk: { size: 1000K }', ':2:15: disk.size must be whole MiB, not "1000K"', '10G'],
    ['disk: { root: 0 }', ':2:15: disk.root is not valid: 0', 'a number, LABEL=… or UUID=…'],
    ['disk: { root: sda1 }', ':2:15: disk.root is not valid: "sda1"', 'a number, LABEL=… or UUID=…'],
    ['env: { A-B: 1 }', ':2:8: "A-B" is no name for a value', 'letters, digits and "_"'],
    ['env: { A: [1] }', ':2:11: env.A is not valid: [1]', 'a text, a number or true or false'],
    ['env: { A: }', ':2:11: env.A is not valid: null', 'a text, a number or true or false'],
    ['output: { format: qcow3 }', ':2:19: output.format must be one of qcow2, raw, vmdk', 'did you mean "qcow2"?'],
    ['output: { path: "" }', ':2:17: output.path is not valid: ""', 'Where the image is written'],
    [
      'output: { format: raw, compress: zstd }',
      ':2:34: compress: zstd needs format: qcow2, not raw',
      'leave compress out',
    ],
    ['output: { format: [raw, qcow3] }', ':2:25: output.format.1 must be one of qcow2, raw', 'did you mean "qcow2"?'],
    ['output: { format: [] }', ':2:19: output.format must be one of qcow2, raw', 'man git-vlb'],
    [
      'output: { format: [raw, ova], compress: zlib }',
      ':2:41: compress: zlib needs format: qcow2, not raw, ova',
      'out',
    ],
    ['output: { format: vdi, compat: 0.10 }', ':2:32: compat: 0.10 needs format: qcow2, not vdi', 'leave compat out'],
    ['output: { compat: 0.10, compress: zstd }', ':2:35: compress: zstd needs compat: 1.1', 'packed with zlib'],
    ['output: { compat: 2 }', ':2:19: output.compat must be one of 0.10, 1.1, not 2', 'man git-vlb'],
    ['output: { checksums: 1 }', ':2:22: output.checksums is not valid: 1', 'SHA256SUMS beside'],
    ['output: { path: a/SHA256SUMS, checksums: true }', ':2:17: the image cannot be called', 'another name'],
    ['boot: { memory: 10 }', ':2:17: boot.memory is not valid: 10', '1G'],
    ['boot: { cpus: 0 }', ':2:15: boot.cpus is not valid: 0', 'number of processors'],
    ['boot: { firmware: efi }', ':2:19: boot.firmware must be one of bios, uefi', 'did you mean "uefi"?'],
    ['boot: { timeout: 5d }', ':2:18: boot.timeout is not valid: "5d"', '5m'],
    [
      'boot: { builtin-checks: { clok: false } }',
      ':2:27: unknown key "boot.builtin-checks.clok"',
      'did you mean "clock"?',
    ],
    ['boot: { builtin-checks: [clock] }', ':2:25: boot.builtin-checks is not valid', '{ NAME: false }'],
    ['boot: { machines: [] }', ':2:19: boot.machines is not valid: []', 'one boot each'],
    ['boot: { machines: [{ cpu: 1 }] }', ':2:22: unknown key "boot.machines.0.cpu"', 'did you mean "cpus"?'],
    ['boot: { expect: 5 }', ':2:17: boot.expect is not valid: 5', 'regular expression'],
    ['boot: { expect: "(" }', ':2:17: boot.expect is no regular expression: (', 'put "\\" before'],
  ])('%s', (body, message, hint) => {
    const said = wrong(body)
    expect(said).toContain(`vlb.yaml${message}`)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })
})

describe('a file that is no YAML, or not such YAML, is refused with line and column', () => {
  test.each([
    ['', 'vlb.yaml:1:1: version is missing', 'add the line: version: 1'],
    ['name: x', 'vlb.yaml:1:1: version is missing', 'add the line: version: 1'],
    ['just words', 'vlb.yaml:1:1: must be a mapping of keys to values', 'man git-vlb'],
    ['- a', 'vlb.yaml:1:1: must be a mapping of keys to values', 'man git-vlb'],
    ['version: 2', 'vlb.yaml:1:10: version must be 1, not 2', 'newer git vlb'],
    ['version: "1"', 'vlb.yaml:1:10: version must be 1, not "1"', 'newer git vlb'],
    ['version: 1\nname: "x', 'vlb.yaml:2:9: Missing closing', 'man git-vlb'],
    ['a: [', 'vlb.yaml:1:5: Flow sequence', 'man git-vlb'],
    ['\tversion: 1', 'vlb.yaml:1:1: Tabs are not allowed', 'man git-vlb'],
    ['version: 1\nversion: 1', 'vlb.yaml:2:1: Map keys must be unique', 'man git-vlb'],
    ['version: 1\n? [a]\n: b', 'vlb.yaml:2:3: a key must be a plain word', 'man git-vlb'],
    ['version: 1\n---\nversion: 1', 'vlb.yaml:2:1: a line "---" starts a second document', 'man git-vlb'],
    ['version: 1\nname: *a', 'vlb.yaml:1:1: Unresolved alias', 'man git-vlb'],
    ['version: 1\nenv: !!binary ""', 'vlb.yaml:2:6: Unresolved tag: tag:yaml.org,2002:binary', 'man git-vlb'],
    ['version: 1\nname: !mine x', 'vlb.yaml:2:7: Unresolved tag: !mine', 'man git-vlb'],
  ])('%s', (text, message, hint) => {
    const said = complaint('VLB_CONFIG', () => parseConfig(text, 'vlb.yaml', 'folder'))
    expect(said).toContain(message)
    expect(said.split('\nhint: ')[1]).toContain(hint)
  })

  test('aliases that multiply without end', () => {
    const levels = Array.from({ length: 20 }, (_, i) =>
      i === 0
        ? 'l0: &l0 [x,x,x,x,x,x,x,x,x,x]'
        : `l${i}: &l${i} [${Array(10)
            .fill(`*l${i - 1}`)
            .join(',')}]`,
    )
    expect(wrong(levels.join('\n'))).toContain('Excessive alias count')
  })

  test('half a character as a key', () => {
    expect(wrong('env: { "\\ud800": x }')).toContain('half a character')
  })

  test('a text of any length stays one short line', () => {
    const said = wrong(`name: "${'x '.repeat(5000)}"`).split('\nhint')[0] ?? ''
    expect(said.length).toBeLessThan(200)
  })
})

test('the machines of boot.machines are like the one of boot where they do not say otherwise', () => {
  const boot = (text: string) => parseConfig(`version: 1\nbase: { path: a }\nboot: ${text}\n`, 'vlb.yaml', 'p').boot
  expect(boot('{ cpus: 3 }').machines).toEqual([{ cpus: 3, memory: 2 ** 30, firmware: 'bios' }])
  expect(
    boot('{ memory: 512M, firmware: uefi, machines: [{ cpus: 1 }, { memory: 2G, firmware: bios }] }').machines,
  ).toEqual([
    { cpus: 1, memory: 2 ** 29, firmware: 'uefi' },
    { cpus: 2, memory: 2 ** 31, firmware: 'bios' },
  ])
})

test('built-in checks run unless they are named, or all of them refused', () => {
  const checks = (text: string) =>
    parseConfig(`version: 1\nbase: { path: a }\nboot: ${text}\n`, 'vlb.yaml', 'p').boot.builtinChecks
  const all = ['boot-settled', 'failed-units', 'root-space', 'disk-size', 'clock']
  expect(checks('{}')).toEqual(all)
  expect(checks('{ builtin-checks: true }')).toEqual(all)
  expect(checks('{ builtin-checks: false }')).toEqual([])
  expect(checks('{ builtin-checks: { clock: false, root-space: true } }')).toEqual(all.slice(0, 4))
})

test('what boot.expect may be', () => {
  expect(compileExpect('login: $')?.test('web login: ')).toBe(true)
  expect(compileExpect('(')).toBeUndefined()
})

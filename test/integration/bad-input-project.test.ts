// Mistakes in vlb.yaml, in layer folders, in scripts and on the command line: each is refused with what, where and what
// to do, before anything is done.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { describe, expect } from 'vitest'
import { refused } from '../rig/refused.ts'
import { type Rig, rigTest } from '../rig/rig.ts'

/** A project of one good layer, and these files; all committed. */
function project(rig: Rig, files: Record<string, string> = {}, config = ''): void {
  rig.project({ '10_good': 'echo good > /good' }, config)
  rig.write(files)
  rig.commit()
}

describe('vlb.yaml', () => {
  rigTest('there is none', async (rig) => {
    rig.write({ 'README.md': 'x', 'sub/file': 'x' })
    rig.commit()
    for (const args of [['build'], ['status'], ['log', '10'], ['new', 'x']])
      await refused(rig, args, { says: `no vlb.yaml in ${rig.repo} or above it`, hint: 'git vlb init' })
    await refused(rig, ['build'], { cwd: rig.path('sub'), says: ['no vlb.yaml in', '/sub'], hint: 'git vlb init' })
    await refused(rig, ['build', 'HEAD'], { says: 'no HEAD:vlb.yaml', hint: '-C DIR' })
  })

  rigTest('an unknown key and a mistyped one, in the working tree and in a revision', async (rig) => {
    project(rig)
    rig.write({ 'vlb.yaml': 'version: 1\nbase:\n  pth: tiny.raw\n' })
    await refused(rig, ['build'], { says: 'vlb.yaml:3:3: unknown key "base.pth"', hint: 'did you mean "path"?' })
    rig.commit()
    rig.write({ 'vlb.yaml': 'version: 1\nkernel: x\nbase: { path: tiny.raw }\n' })
    await refused(rig, ['status'], { says: 'vlb.yaml:2:1: unknown key "kernel"', hint: 'known here: version, name' })
    await refused(rig, ['build', 'main'], { says: 'main:vlb.yaml:3:3: unknown key "base.pth"', hint: 'did you mean' })
  })

  rigTest('no YAML at all', async (rig) => {
    project(rig, { 'vlb.yaml': 'version: 1\nbase: { path: tiny.raw\n' })
    await refused(rig, ['build'], { says: 'vlb.yaml:', hint: 'man git-vlb' })
  })

  rigTest('it is a folder', async (rig) => {
    project(rig)
    rmSync(rig.path('vlb.yaml'))
    rig.write({ 'vlb.yaml/x': 'x' })
    await refused(rig, ['build'], { says: 'no vlb.yaml', hint: 'git vlb init' })
  })

  rigTest('a base, and a layer that makes one', async (rig) => {
    project(rig, { '00_base/build-base': '#!/bin/sh\n' })
    await refused(rig, ['build'], { says: 'vlb.yaml names a base, and 00_base makes one', hint: 'keep one of the two' })
    rig.write({ 'vlb.yaml': 'version: 1\n', '20_base/build-base': '#!/bin/sh\n' })
    await refused(rig, ['build'], { says: '20_base holds a build-base script', hint: 'the first is 00_base' })
  })

  rigTest('neither a base nor a layer that makes one', async (rig) => {
    project(rig, { 'vlb.yaml': 'version: 1\n' })
    await refused(rig, ['build'], { says: ['no base: vlb.yaml', '10_good'], hint: 'base: { path: … }' })
  })

  rigTest('the image would be written over its own base', async (rig) => {
    project(rig, {}, 'output: { path: tiny.raw }\n')
    await refused(rig, ['build'], { says: ['would overwrite its own base', 'tiny.raw'], hint: 'another name' })
    await refused(rig, ['build', '-o', './tiny.raw'], { says: 'would overwrite its own base', hint: 'another name' })
  })
})

describe('layer folders', () => {
  rigTest('none', async (rig) => {
    rig.project({})
    rig.commit()
    await refused(rig, ['build'], { says: 'this project has no layers', hint: 'git vlb new' })
    await refused(rig, ['build', 'HEAD'], { says: 'this project has no layers', hint: 'git vlb new' })
  })

  rigTest('misnamed', async (rig) => {
    project(rig)
    for (const name of ['5_x', '10_foo bar', '20_']) {
      rig.write({ [`${name}/build-layer`]: '#!/bin/sh\n' })
      await refused(rig, ['build'], { says: `folder "${name}" looks like a layer`, hint: ['two digits', 'git mv'] })
      rmSync(rig.path(name), { recursive: true })
    }
  })

  rigTest('without a script', async (rig) => {
    project(rig, { '20_b/files/x': 'x' })
    await refused(rig, ['build'], { says: '20_b holds no script', hint: 'add an executable 20_b/build-layer' })
  })

  rigTest('empty, or with nothing but ignored files', async (rig) => {
    project(rig)
    mkdirSync(rig.path('20_b'))
    await refused(rig, ['build'], { says: '20_b holds nothing that git would store', hint: '20_b/build-layer' })
    rig.write({ '.gitignore': '/build/\n/tiny.raw\nbuild-layer\n', '20_b/build-layer': '#!/bin/sh\n' })
    await refused(rig, ['build'], { says: '20_b holds nothing that git would store', hint: 'git check-ignore -v' })
  })

  rigTest('with two kinds of script', async (rig) => {
    project(rig, { '20_b/build-layer': '#!/bin/sh\n', '20_b/build-base': '#!/bin/sh\n' })
    await refused(rig, ['build'], { says: '20_b holds two scripts, build-base and build-layer', hint: 'two layers' })
  })

  rigTest('a symlink', async (rig) => {
    project(rig)
    symlinkSync('10_good', rig.path('20_link'))
    await refused(rig, ['build'], { says: 'layer 20_link is a symlink', hint: 'copy the folder' })
    rig.commit()
    await refused(rig, ['build', 'HEAD'], { says: 'layer 20_link is a symlink', hint: 'copy the folder' })
  })

  rigTest('a submodule, or a submodule inside a layer', async (rig) => {
    project(rig)
    const other = rig.path('..', 'other')
    execFileSync('git', ['clone', '--quiet', rig.repo, other], { env: rig.env })
    const add = (path: string) =>
      rig.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', other, path)
    add('10_good/vendor')
    rig.commit()
    const inside = { says: '10_good/vendor is a submodule', hint: 'move the submodule out of the layer' }
    await refused(rig, ['build'], inside)
    await refused(rig, ['build', 'HEAD'], inside)
    rig.git('rm', '-q', '-f', '10_good/vendor')
    add('20_module')
    rig.commit()
    const whole = { says: '20_module is a submodule', hint: 'move the submodule out of the layer' }
    await refused(rig, ['build'], whole)
    await refused(rig, ['build', 'HEAD'], whole)
  })

  rigTest('another repository inside a layer, which git would not take', async (rig) => {
    project(rig)
    execFileSync('git', ['clone', '--quiet', rig.repo, rig.path('10_good/nested')], { env: rig.env })
    await refused(rig, ['build'], { says: '10_good/nested is a submodule', hint: 'move the submodule out' })
  })

  rigTest('a Git LFS pointer, as script or as file', async (rig) => {
    const pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n'
    project(rig, { '20_b/build-layer': '#!/bin/sh\n', '20_b/data/big.bin': pointer })
    await refused(rig, ['build'], { says: '20_b/data/big.bin is a Git LFS pointer', hint: 'git lfs migrate export' })
    rig.write({ '10_good/build-layer': pointer })
    chmodSync(rig.path('10_good/build-layer'), 0o755)
    await refused(rig, ['build'], { says: '10_good/build-layer is a Git LFS pointer', hint: 'git lfs migrate export' })
  })

  rigTest('a merge conflict', async (rig) => {
    project(rig, { '10_good/motd': 'base\n' })
    rig.git('checkout', '-q', '-b', 'theirs')
    rig.write({ '10_good/motd': 'theirs\n' })
    rig.commit()
    rig.git('checkout', '-q', 'main')
    rig.write({ '10_good/motd': 'ours\n' })
    rig.commit()
    expect(() => rig.git('merge', 'theirs')).toThrow()
    await refused(rig, ['build'], { says: '10_good/motd has a merge conflict', hint: ['git add', 'abort the merge'] })
    // What is committed is not touched by it.
    expect(await rig.build('theirs')).toEqual(['10_good built'])
  })
})

describe('scripts', () => {
  rigTest('not executable: the command of the hint mends it', async (rig) => {
    project(rig)
    chmodSync(rig.path('10_good/build-layer'), 0o644)
    rig.commit()
    const { stderr } = await refused(rig, ['build'], {
      says: '10_good/build-layer is not executable',
      hint: 'git add --chmod=+x',
    })
    const command = /hint: (.*)\n/.exec(stderr)?.[1] ?? ''
    execFileSync('sh', ['-c', command], { cwd: rig.repo, env: rig.env })
    expect(await rig.build()).toEqual(['10_good built'])
  })

  rigTest('not executable and not yet added to git: the same command mends it', async (rig) => {
    project(rig)
    rig.write({ '20_new/build-layer': '#!/bin/sh\n' })
    chmodSync(rig.path('20_new/build-layer'), 0o644)
    const { stderr } = await refused(rig, ['build'], {
      says: '20_new/build-layer is not executable',
      hint: 'chmod +x 20_new/build-layer',
    })
    const command = /hint: (.*)\n/.exec(stderr)?.[1] ?? ''
    execFileSync('sh', ['-c', command], { cwd: rig.repo, env: rig.env })
    expect(await rig.build()).toEqual(['10_good built', '20_new built'])
  })

  rigTest('Windows line ends: the commands of the hint mend them', async (rig) => {
    project(rig, { '10_good/build-layer': '#!/bin/sh\r\necho a\r\n' })
    const { stderr } = await refused(rig, ['build'], {
      says: ['10_good/build-layer has Windows line ends', '"/bin/sh\\r"'],
      hint: 'text eol=lf',
    })
    const command = /hint: (.*); and to keep it so: (.*)\n/.exec(stderr)
    execFileSync('sh', ['-c', `${command?.[1]} && ${command?.[2]}`], { cwd: rig.repo, env: rig.env })
    expect(await rig.build()).toEqual(['10_good built'])
    rig.commit()
    expect(await rig.build('HEAD')).toEqual(['10_good cached'])
  })

  rigTest('no #! line, or one without a path', async (rig) => {
    project(rig, { '10_good/build-layer': 'echo hello\n' })
    chmodSync(rig.path('10_good/build-layer'), 0o755)
    await refused(rig, ['build'], { says: '10_good/build-layer does not start with #!', hint: '#!/bin/sh' })
    rig.write({ '10_good/build-layer': '#!sh\n' })
    await refused(rig, ['build'], { says: ['10_good/build-layer', 'no absolute path: "#!sh"'], hint: '/usr/bin/env' })
  })

  rigTest('an interpreter that the image lacks', async (rig) => {
    project(rig, { '20_py/build-layer': '#!/usr/bin/python3\n' })
    await rig.ok('build', '--last', '10')
    await refused(rig, ['build'], {
      says: '20_py/build-layer wants /usr/bin/python3 as its interpreter, which is not in the image',
      hint: ['#! line', 'install the interpreter in a layer before'],
    })
  })

  rigTest('an unknown directive, with its line', async (rig) => {
    project(rig, { '10_good/build-layer': '#!/bin/sh\n# Says hello.\n# vlb: tiemout 5m\n' })
    await refused(rig, ['build'], {
      says: '10_good/build-layer:3: unknown directive "tiemout"',
      hint: 'did you mean "# vlb: timeout"?',
    })
  })
})

describe('values', () => {
  rigTest('given, but not declared; declared, but not given', async (rig) => {
    project(rig, { '20_b/build-layer': '#!/bin/sh\n# vlb: env RELEASE\necho "$RELEASE" > /r\n' })
    await refused(rig, ['build', '--env', 'RELAESE=x'], {
      says: 'no layer declares the value RELAESE',
      hint: 'RELEASE',
    })
    await refused(rig, ['build'], { says: '20_b needs a value for RELEASE', hint: ['--env RELEASE=', 'vlb.yaml'] })
    await refused(rig, ['build', '--env', 'RELEASE'], {
      says: '--env takes NAME=VALUE, not "RELEASE"',
      hint: 'git vlb',
    })
    expect(await rig.build('--env', 'RELEASE=stable')).toEqual(['10_good built', '20_b built'])
  })
})

describe('the command line', () => {
  rigTest('a layer that is not there', async (rig) => {
    project(rig)
    for (const option of ['--last', '--rebuild'])
      await refused(rig, ['build', option, '30_x'], { says: 'no layer "30_x"', hint: 'layers: 10_good' })
    await refused(rig, ['log', '30_x'], { says: 'no layer "30_x"', hint: 'layers: 10_good' })
  })

  rigTest('a revision that is not there', async (rig) => {
    project(rig)
    for (const name of ['nope', '-x', 'main^2', 'main:vlb.yaml', 'a b', ''])
      await refused(rig, ['build', '--', name], { says: `no such revision: "${name}"`, hint: 'git branch --all' })
    await refused(rig, ['status', 'nope'], { says: 'no such revision: "nope"', hint: 'git tag' })
  })

  rigTest('-o for several revisions', async (rig) => {
    project(rig)
    rig.git('tag', 'v1')
    await refused(rig, ['build', '-o', 'x', 'v1', 'main'], { says: '-o names one file', hint: 'leave -o out' })
  })

  rigTest('formats and numbers that are none', async (rig) => {
    project(rig)
    await refused(rig, ['build', '--format', 'iso'], { says: '--format takes one of qcow2, raw', hint: '-h' })
    await refused(rig, ['build', '-j', '0'], { says: '-j takes a number of at least 1, not "0"', hint: 'git vlb' })
    await refused(rig, ['build', '--compress', 'zstd', '--format', 'raw'], {
      says: 'needs the format qcow2',
      hint: 'one',
    })
  })

  rigTest('an unknown option or verb, in the words of the parser', async (rig) => {
    project(rig)
    const said = async (...args: string[]) => {
      const ran = await rig.vlb(args)
      expect(ran.code, ran.all).toBe(2)
      expect(ran.stdout).toBe('')
      expect(ran.stderr).not.toMatch(/^ {4}at /m)
      return ran.stderr
    }
    expect(await said('build', '--fromat', 'raw')).toMatch(/unknown option '--fromat'\n\(Did you mean --format\?\)/)
    expect(await said('biuld')).toMatch(/unknown command 'biuld'\n\(Did you mean build\?\)/)
    expect(await said('new')).toContain("missing required argument 'name'")
    expect(await said('build', '-o')).toContain('argument missing')
    expect(await said()).toContain('git vlb')
  })

  rigTest('outside of any repository', async (rig) => {
    project(rig)
    const outside = { cwd: rig.temporary, status: 128, says: `not in a git repository: ${rig.temporary}` }
    for (const verb of ['build', 'status']) await refused(rig, [verb], { ...outside, hint: 'git vlb init' })
    await refused(rig, ['build', '-C', '/nonexistent'], { says: 'cannot go to /nonexistent', hint: '-C' })
  })

  rigTest('an error as JSON has the same words and a code', async (rig) => {
    project(rig)
    const ran = await rig.vlb(['build', '--json', '--last', '30_x'])
    expect(ran.code).toBe(2)
    expect(JSON.parse(ran.stdout)).toEqual({
      ok: false,
      layers: [],
      image: null,
      images: [],
      error: { code: 'VLB_LAYER_UNKNOWN', message: 'no layer "30_x"', hint: 'layers: 10_good' },
    })
    expect(ran.stderr).toBe('')
  })
})

rigTest('a layer that is moved away and back is the same layer', async (rig) => {
  project(rig)
  expect(await rig.build()).toEqual(['10_good built'])
  renameSync(rig.path('10_good'), rig.path('..', 'away'))
  await refused(rig, ['build'], { says: 'this project has no layers', hint: 'git vlb new' })
  renameSync(rig.path('..', 'away'), rig.path('10_good'))
  expect(await rig.build()).toEqual(['10_good cached'])
})

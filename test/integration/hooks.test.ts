// Hooks: what was there before still runs and comes back to the byte, and ours starts something only where layers changed.
import { execFileSync, spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import { projectRoot, type Rig, rigTest } from '../rig/rig.ts'

const hookNames = ['post-checkout', 'post-merge', 'post-rewrite']

/** Programs in front of those of the host. `setsid` is a fake that writes down, at once, what the hook starts. */
class Place {
  readonly rig: Rig
  readonly bin: string
  readonly calls: string

  constructor(rig: Rig) {
    this.rig = rig
    this.bin = join(rig.folder, 'bin')
    this.calls = join(rig.folder, 'calls')
    mkdirSync(this.bin)
    this.program('setsid', `shift 5; printf '%s\\n' "$*" >>${this.calls}`)
    this.program('git-vlb', 'exit 0')
  }

  program(name: string, script: string): void {
    writeFileSync(join(this.bin, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  }

  get env(): Record<string, string> {
    return { ...this.rig.env, PATH: `${this.bin}:${this.rig.env['PATH']}` }
  }

  git(...args: string[]): { status: number | null; stderr: string } {
    const ran = spawnSync('git', args, { cwd: this.rig.repo, env: this.env, encoding: 'utf8' })
    return { status: ran.status, stderr: ran.stderr }
  }

  /** How often something was started since the last time it was asked. */
  started(): number {
    if (!existsSync(this.calls)) return 0
    const lines = readFileSync(this.calls, 'utf8').trim().split('\n')
    rmSync(this.calls)
    return lines.length
  }
}

/** main and other differ in a layer, other and notes in another file, old has no vlb.yaml. */
function branches(rig: Rig): void {
  rig.write({ readme: 'x' })
  rig.commit()
  rig.git('branch', 'old')
  rig.write({
    'vlb.yaml': 'version: 1\nbase: { path: tiny.raw }\n',
    '10_a/build-layer': '#!/bin/sh\n# main\n',
    '20_b/build-layer': '#!/bin/sh\n',
  })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'other')
  rig.write({ '10_a/build-layer': '#!/bin/sh\n# other\n' })
  rig.commit()
  rig.git('checkout', '--quiet', '-b', 'notes')
  rig.write({ readme: 'y' })
  rig.commit()
  rig.git('checkout', '--quiet', 'main')
}

const git = ['tool:git'] as const

rigTest(
  'a checkout that changes layers starts the prebuild, others do not',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    await rig.ok('hooks', 'install')
    const starts = (...args: string[]) => {
      const ran = place.git(...args)
      expect(ran, args.join(' ')).toEqual({ status: 0, stderr: expect.not.stringContaining('git vlb') })
      return place.started()
    }
    expect(starts('checkout', '-q', 'other')).toBe(1)
    expect(starts('checkout', '-q', 'notes')).toBe(0)
    expect(starts('checkout', '-q', '-b', 'new')).toBe(0)
    expect(starts('checkout', '-q', 'main', '--', '10_a')).toBe(0)
    expect(starts('reset', '-q', '--hard')).toBe(0)
    expect(starts('switch', '-q', 'old')).toBe(0)
    expect(starts('switch', '-q', 'main')).toBe(1)
    expect(starts('checkout', '-q', '--detach', 'other')).toBe(1)
    rig.git('config', 'vlb.prebuild', 'false')
    expect((await rig.json('hooks', 'status')).notes).toEqual(['vlb.prebuild is false: they start nothing'])
    expect(starts('checkout', '-q', 'main')).toBe(0)
    rig.git('config', 'vlb.prebuild', 'main release/*')
    expect(starts('checkout', '-q', 'other')).toBe(1)
    rig.git('config', '--unset', 'vlb.prebuild')
    // The first checkout of a clone or a worktree tells of no commit before.
    expect(starts('worktree', 'add', '-q', join(rig.folder, 'linked'), 'main')).toBe(0)
    expect(starts('-C', join(rig.folder, 'linked'), 'checkout', '-q', 'notes')).toBe(1)
    const templates = join(rig.folder, 'templates')
    mkdirSync(templates)
    execFileSync('cp', ['-r', rig.path('.git/hooks'), templates])
    expect(starts('clone', '-q', `--template=${templates}`, rig.repo, join(rig.folder, 'clone'))).toBe(0)
  },
  git,
)

rigTest(
  'what a layer includes counts, and vlb.yaml, and a project below the top',
  async (rig) => {
    const place = new Place(rig)
    const project = 'images/a [b]'
    rig.write({
      [`${project}/vlb.yaml`]: 'version: 1\nbase: { path: tiny.raw }\n',
      [`${project}/10_a/build-layer`]: '#!/bin/sh\n',
      [`${project}/common/lib`]: '1',
    })
    rig.commit()
    const branch = (name: string, files: Record<string, string>) => {
      rig.git('checkout', '--quiet', '-b', name)
      rig.write(files)
      rig.commit()
    }
    branch('lib', { [`${project}/common/lib`]: '2' })
    branch('including', { [`${project}/10_a/build-layer`]: '#!/bin/sh\n# vlb: include common\n' })
    branch('included', { [`${project}/common/lib`]: '3' })
    branch('elsewhere', { readme: '' })
    branch('inner', {
      [`${project}/10_a/build-layer`]: '#!/bin/sh\n',
      [`${project}/20_all/layers/10_b/build-layer`]: '#!/bin/sh\n# vlb: include common\n',
    })
    branch('innermost', { [`${project}/common/lib`]: '4' })
    branch('config', { [`${project}/vlb.yaml`]: 'version: 1\nbase: { path: other.raw }\n' })
    rig.git('checkout', '--quiet', 'main')
    await rig.ok('-C', rig.path(project, '10_a'), 'hooks', 'install')
    expect(await rig.ok('-C', rig.path(project), 'hooks', 'status')).toContain(
      `post-merge     installed    for ${project}`,
    )
    // Asked from elsewhere: that is another project.
    expect((await rig.json('hooks', 'status')).hooks[0].state).toBe('outdated')
    const starts = (name: string) => {
      expect(place.git('checkout', '-q', name).status).toBe(0)
      return place.started()
    }
    expect(starts('lib')).toBe(0)
    expect(starts('including')).toBe(1)
    expect(starts('included')).toBe(1)
    expect(starts('elsewhere')).toBe(0)
    expect(starts('inner')).toBe(1)
    expect(starts('innermost')).toBe(1)
    expect(starts('config')).toBe(1)
    place.git('checkout', '-q', 'main')
    expect(readFileSync(place.calls, 'utf8')).toBe(
      `${rig.path('.git/vlb-prebuild')}/${project} git-vlb -C ${project} prebuild --hook\n`,
    )
  },
  git,
)

rigTest('the script is one that every sh understands', async () => {
  const script = join(projectRoot, 'hooks/prebuild.sh')
  execFileSync('shellcheck', [script])
  for (const shell of [['dash'], ['bash', '--posix'], ['busybox', 'sh'], ['zsh', '--emulate', 'sh']])
    execFileSync(shell[0] ?? '', [...shell.slice(1), '-n', script])
}, ['tool:shellcheck', 'tool:dash', 'tool:busybox', 'tool:zsh'])

rigTest(
  'merges and rewrites start it when they are done; rebase, bisect and cherry-pick do not while they last',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    await rig.ok('hooks', 'install')
    const starts = (...args: string[]) => {
      expect(place.git(...args).status, args.join(' ')).toBe(0)
      return place.started()
    }
    rig.git('checkout', '--quiet', '-b', 'ff', 'main')
    place.started()
    expect(starts('merge', '-q', 'notes')).toBe(1)
    rig.git('checkout', '--quiet', '-b', 'real', 'main')
    rig.write({ more: '' })
    rig.commit()
    place.started()
    expect(starts('merge', '-q', '--no-edit', 'notes')).toBe(1)
    rig.git('reset', '--quiet', '--hard', 'HEAD^')
    expect(starts('merge', '-q', '--squash', 'notes')).toBe(1)
    rig.git('reset', '--quiet', '--hard')
    expect(starts('cherry-pick', 'notes')).toBe(0)
    expect(starts('commit', '--amend', '-q', '-m', 'only the message')).toBe(0)
    rig.write({ '20_b/build-layer': '#!/bin/sh\n# amended\n' })
    expect(starts('commit', '-q', '-a', '--amend', '-m', 'a layer')).toBe(1)
    for (const backend of ['--merge', '--apply']) {
      rig.git('checkout', '--quiet', '-B', 'topic', 'real')
      place.started()
      expect(starts('rebase', '-q', backend, 'other'), backend).toBe(1)
    }
    // Stopped in the middle: what is checked out and amended there starts nothing.
    rig.git('checkout', '--quiet', '-B', 'topic', 'real')
    place.started()
    expect(place.git('rebase', '-q', '--exec', 'false', 'other').status).not.toBe(0)
    expect(starts('commit', '--amend', '-q', '--allow-empty', '-m', 'm')).toBe(0)
    expect(starts('checkout', '-q', 'main')).toBe(0)
    expect(starts('rebase', '--abort')).toBe(0)
    rig.git('checkout', '--quiet', 'notes')
    place.started()
    expect(starts('bisect', 'start')).toBe(0)
    expect(starts('checkout', '-q', 'main')).toBe(0)
    expect(starts('bisect', 'reset')).toBe(0)
    expect(starts('checkout', '-q', 'main')).toBe(1)
  },
  git,
)

interface There {
  /** Content, mode and target of every file below a folder. */
  [path: string]: string
}

function everything(folder: string, below = ''): There {
  const found: There = {}
  for (const name of existsSync(folder) ? readdirSync(join(folder, below)) : []) {
    const path = join(below, name)
    const stat = lstatSync(join(folder, path))
    if (stat.isDirectory()) Object.assign(found, { [path]: 'folder' }, everything(folder, path))
    else if (stat.isSymbolicLink()) found[path] = `-> ${readlinkSync(join(folder, path))}`
    else found[path] = `${stat.mode.toString(8)} ${readFileSync(join(folder, path)).toString('base64')}`
  }
  return found
}

/** Says how it was called, and what it read. */
const told = 'echo "$(basename "$0") $*; $(cat)" >>"$(git rev-parse --git-common-dir)/ran"'

const programs: Record<string, (folder: string, name: string) => string> = {
  'a plain script that exits': () => `#!/bin/sh\n${told}\nexit 0\n`,
  'bash, by way of env, that ends badly': () => `#!/usr/bin/env bash\nset -u\n${told}\nfalse\n`,
  'a script with sh -e, no line end at its end': () => `#! /bin/sh -e\n${told}`,
  'no first line that says who runs it': () => `${told}\n`,
  'bytes that are no text': () => `#!/bin/sh\n${told} # \xff\xfe\n`,
  python: () =>
    [
      '#!/usr/bin/env python3',
      'import os, sys, subprocess',
      'top = subprocess.check_output(["git", "rev-parse", "--git-common-dir"], text=True).strip()',
      'name = os.path.basename(sys.argv[0])',
      'assert os.path.dirname(os.path.abspath(__file__)).endswith("hooks")',
      'open(top + "/ran", "a").write(f"{name} {\' \'.join(sys.argv[1:])}; {sys.stdin.read().strip()}\\n")',
      '',
    ].join('\n'),
  'awk, with an argument': () =>
    '#!/usr/bin/awk -f\nBEGIN { printf "%s %s %s; \\n", "awk", ARGV[1], ARGV[2] >>(".git/ran") }\n',
}

for (const [what, make] of Object.entries(programs)) {
  rigTest(
    `an existing hook: ${what}: it runs as before, and is as before afterwards`,
    async (rig) => {
      const place = new Place(rig)
      branches(rig)
      const hooks = rig.path('.git/hooks')
      const ran = () => {
        const text = readFileSync(rig.path('.git/ran'), 'utf8')
        rmSync(rig.path('.git/ran'))
        return text
      }
      for (const name of hookNames)
        writeFileSync(join(hooks, name), make(hooks, name), { encoding: 'latin1', mode: 0o750 })
      const act = () => {
        place.git('checkout', '-q', 'other')
        place.git('checkout', '-q', 'main')
        rig.git('config', 'core.editor', 'true')
        place.git('commit', '-q', '--amend', '--date', '2024-01-01T00:00:00Z')
        return ran()
      }
      const alone = act()
      expect(alone.trim().split('\n').length).toBe(3)
      expect(place.started()).toBe(0)
      const before = everything(hooks)
      for (let i = 0; i < 2; i++) await rig.ok('hooks', 'install')
      for (const { state, other } of (await rig.json('hooks', 'status')).hooks)
        expect([state, other]).toEqual(['installed', true])
      expect(act()).toBe(alone)
      expect(place.started()).toBe(2)
      await rig.ok('hooks', 'uninstall')
      expect(everything(hooks)).toEqual(before)
      expect(act()).toBe(alone)
      expect(place.started()).toBe(0)
    },
    git,
  )
}

rigTest(
  'links, programs and hooks that git does not run are kept aside, and come back',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    const hooks = rig.path('.git/hooks')
    // One program for all hooks knows by its name which it is.
    rig.write({ '.git/tools/all': `#!/bin/sh\n${told}\n` })
    symlinkSync('../tools/all', join(hooks, 'post-checkout'))
    copyFileSync('/bin/true', join(hooks, 'post-merge'))
    chmodSync(join(hooks, 'post-merge'), 0o711)
    writeFileSync(join(hooks, 'post-rewrite'), `#!/bin/sh\n${told}\n`, { mode: 0o644 })
    const before = everything(hooks)
    for (let i = 0; i < 2; i++) await rig.ok('hooks', 'install')
    expect((await rig.json('hooks', 'status')).hooks.map((h: { how: string }) => h.how)).toEqual([
      'kept',
      'kept',
      'kept',
    ])
    expect(place.git('checkout', '-q', 'other').status).toBe(0)
    expect(place.started()).toBe(1)
    expect(place.git('commit', '-q', '--amend', '-m', 'x').status).toBe(0)
    expect(readFileSync(rig.path('.git/ran'), 'utf8')).toMatch(/^post-checkout [0-9a-f]+ [0-9a-f]+ 1; \n$/)
    await rig.ok('hooks', 'uninstall')
    expect(everything(hooks)).toEqual(before)
    rmSync(join(hooks, 'post-checkout'))
    symlinkSync('nowhere', join(hooks, 'post-checkout'))
    await rig.ok('hooks', 'install')
    expect(place.git('checkout', '-q', 'main')).toEqual({ status: 0, stderr: expect.not.stringContaining('hook') })
    await rig.ok('hooks', 'uninstall')
    expect(readlinkSync(join(hooks, 'post-checkout'))).toBe('nowhere')
  },
  git,
)

rigTest(
  'without hooks before, nothing is left afterwards, not even the folder',
  async (rig) => {
    branches(rig)
    rmSync(rig.path('.git/hooks'), { recursive: true })
    const before = everything(rig.path('.git'))
    await rig.ok('hooks', 'install')
    expect(Object.keys(everything(rig.path('.git/hooks'))).sort()).toEqual(hookNames)
    await rig.ok('hooks', 'uninstall')
    await rig.ok('hooks', 'uninstall')
    expect(everything(rig.path('.git'))).toEqual(before)
  },
  git,
)

rigTest(
  'core.hooksPath of husky, lefthook and of a user: there they go, and there the others still run',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    const home = join(rig.folder, 'home')
    const husky = rig.path('.husky/_')
    mkdirSync(husky, { recursive: true })
    for (const name of hookNames) {
      writeFileSync(join(husky, name), '#!/usr/bin/env sh\n. "$(dirname "$0")/h"', { mode: 0o755 })
      writeFileSync(rig.path('.husky', name), `echo ran $# >>.git/ran\n`)
    }
    writeFileSync(
      join(husky, 'h'),
      '#!/usr/bin/env sh\ns=$(dirname "$(dirname "$0")")/$(basename "$0")\nsh -e "$s" "$@"\nexit $?',
    )
    writeFileSync(join(husky, '.gitignore'), '*')
    const lefthook = join(rig.folder, 'lefthook')
    mkdirSync(lefthook)
    for (const name of hookNames)
      writeFileSync(
        join(lefthook, name),
        `#!/bin/sh\n\nif [ "$LEFTHOOK_VERBOSE" = 1 ]; then set -x; fi\ncall_lefthook() { echo ran "$@" >>.git/ran; }\ncall_lefthook run "${name}" "$@"\n`,
        { mode: 0o755 },
      )
    mkdirSync(join(home, 'own hooks'))
    writeFileSync(join(home, 'own hooks/post-checkout'), '#!/usr/bin/perl\nopen F, ">>.git/ran"; print F "ran\\n";\n', {
      mode: 0o755,
    })
    const early = everything(rig.path('.git/hooks'))
    await rig.ok('hooks', 'install')
    for (const [path, folder] of [
      ['.husky/_', husky],
      [lefthook, lefthook],
      ['~/own hooks', join(home, 'own hooks')],
    ] as const) {
      rig.git('config', 'core.hooksPath', path)
      const before = everything(folder)
      // Relative paths start at the top, wherever the command runs.
      const result = await rig.json('-C', rig.path('10_a'), 'hooks', 'install')
      expect(result.folder).toBe(folder)
      expect(result.notes.length).toBe(1)
      for (const name of ['other', 'main']) expect(place.git('checkout', '-q', name).status).toBe(0)
      expect(place.started(), path).toBe(2)
      expect(readFileSync(rig.path('.git/ran'), 'utf8').match(/^ran/gm)?.length, path).toBe(2)
      rmSync(rig.path('.git/ran'))
      await rig.ok('hooks', 'uninstall')
      expect(everything(folder)).toEqual(before)
    }
    // Those that were installed before go with them.
    expect(everything(rig.path('.git/hooks'))).toEqual(early)
  },
  [...git, 'tool:perl'],
)

rigTest(
  'an older block is replaced, one that was damaged is refused, a lost one is told of',
  async (rig) => {
    branches(rig)
    const hook = rig.path('.git/hooks/post-merge')
    writeFileSync(hook, '#!/bin/sh\necho mine\n', { mode: 0o755 })
    await rig.ok('hooks', 'install')
    const now = readFileSync(hook, 'utf8')
    writeFileSync(hook, now.replace('git vlb hook 1', 'git vlb hook 0').replace('set +eu', 'old=1'))
    const states = async () => (await rig.json('hooks', 'status')).hooks.map(({ state }: { state: string }) => state)
    expect(await states()).toEqual(['installed', 'outdated', 'installed'])
    await rig.ok('hooks', 'install')
    expect(readFileSync(hook, 'utf8')).toBe(now)
    writeFileSync(hook, now.replace('# <<< git vlb hook <<<\n', ''))
    for (const action of ['install', 'uninstall', 'status']) {
      const ran = await rig.vlb(['hooks', action])
      expect([ran.code, ran.stderr]).toEqual([2, expect.stringContaining(`${hook} have no end`)])
    }
    writeFileSync(hook, '#!/bin/sh\nwritten anew by a manager\n')
    expect(await states()).toEqual(['installed', 'missing', 'installed'])
    await rig.ok('hooks', 'uninstall')
    expect(readFileSync(hook, 'utf8')).toBe('#!/bin/sh\nwritten anew by a manager\n')
  },
  git,
)

rigTest(
  'lines that somebody added to our own hook stay when it goes',
  async (rig) => {
    branches(rig)
    await rig.ok('hooks', 'install')
    const hook = rig.path('.git/hooks/post-merge')
    writeFileSync(hook, `${readFileSync(hook, 'utf8')}echo mine\n`)
    await rig.ok('hooks', 'uninstall')
    expect(readFileSync(hook, 'utf8')).toBe('#!/bin/sh\necho mine\n')
  },
  git,
)

rigTest(
  'the program is found by PATH, else where install ran; when it is gone the hook is silent',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    const program = join(rig.folder, "it's a $(program)", 'main.mjs')
    mkdirSync(dirname(program))
    writeFileSync(program, '')
    await rig.ok('hooks', 'install')
    for (const name of hookNames) {
      const hook = rig.path('.git/hooks', name)
      writeFileSync(
        hook,
        readFileSync(hook, 'utf8').replace(/^main=.*$/m, `main='${program.replaceAll("'", "'\\''")}'`),
      )
    }
    const called = (name: string) => {
      expect(place.git('checkout', name)).toEqual({ status: 0, stderr: expect.not.stringMatching(/vlb|found|hook/) })
      const text = existsSync(place.calls) ? readFileSync(place.calls, 'utf8').replace(/^\S+ /, '') : ''
      rmSync(place.calls, { force: true })
      return text
    }
    expect(called('other')).toBe('git-vlb -C . prebuild --hook\n')
    rmSync(join(place.bin, 'git-vlb'))
    expect(called('main')).toBe(`${process.execPath} ${program} -C . prebuild --hook\n`)
    rmSync(program)
    expect(called('other')).toBe('')
  },
  git,
)

rigTest(
  'hooks are refused where they cannot be, with the reason',
  async (rig) => {
    branches(rig)
    const bare = join(rig.folder, 'bare.git')
    rig.git('clone', '--quiet', '--bare', rig.repo, bare)
    const refused = async (code: number, text: string, ...args: string[]) => {
      const ran = await rig.vlb([...args, 'hooks', 'install'])
      expect([ran.code, ran.stderr]).toEqual([code, expect.stringContaining(text)])
      expect(ran.stderr).toContain('hint: ')
    }
    await refused(2, 'bare repository', '-C', bare)
    rig.git('config', 'core.hooksPath', '/dev/null')
    await refused(2, 'which is no folder')
    // Nobody can write there, not even root.
    rig.git('config', 'core.hooksPath', '/sys/kernel')
    await refused(3, 'cannot write to the folder of the hooks')
    rig.git('config', '--unset', 'core.hooksPath')
    mkdirSync(rig.path('.git/hooks/post-merge'))
    await refused(2, 'neither a file nor a link')
    expect(existsSync(rig.path('.git/hooks/post-checkout'))).toBe(false)
    rig.git('checkout', '--quiet', 'old')
    await refused(2, 'no vlb.yaml')
    expect((await rig.vlb(['hooks', 'instal'])).stderr).toContain('git vlb hooks install')
  },
  git,
)

rigTest(
  'git returns at once, and the prebuild goes on by itself: own session, lowest priority, no terminal, no pipe',
  async (rig) => {
    const place = new Place(rig)
    branches(rig)
    rmSync(join(place.bin, 'setsid'))
    const [up, down] = [join(rig.folder, 'up'), join(rig.folder, 'down')]
    execFileSync('mkfifo', [up, down])
    // Says which process it is, then waits for us.
    place.program('git-vlb', `echo logged; echo $$ >${up}; read -r line <${down}`)
    await rig.ok('hooks', 'install')
    // Ends when nobody holds the pipe any more.
    execFileSync('sh', ['-c', 'git checkout other 2>&1 | cat'], { cwd: rig.repo, env: place.env })
    const pid = readFileSync(up, 'utf8').trim()
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    const [session, terminal, nice] = [stat[3], stat[4], stat[16]]
    expect([session, terminal, nice]).not.toContain(String(process.pid))
    expect([terminal, nice]).toEqual(['0', '19'])
    const opened = ['0', '1', '2'].map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`))
    const log = rig.path('.git/vlb-prebuild/prebuild.log')
    expect(opened).toEqual(['/dev/null', log, log])
    expect(readFileSync(log, 'utf8')).toBe('logged\n')
    writeFileSync(down, 'go\n')
  },
  git,
)

// Completion in the shells themselves: what they offer for a line, with git's own completion around it.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Rig, rigTest } from '../rig/rig.ts'

/** A project in a subfolder, with branches, one of which has a name that a shell must not run. */
async function prepare(rig: Rig): Promise<void> {
  rig.write({ 'web/vlb.yaml': 'version: 1\nbase: { path: x }\n' })
  for (const name of ['10_base', '20_nginx', '20_ssh']) rig.write({ [`web/${name}/build-layer`]: '#!/bin/sh\n' })
  rig.commit()
  rig.git('branch', 'release')
  // biome-ignore lint/suspicious/noTemplateCurlyInString: sh's
  rig.git('branch', 'x$(touch${IFS}ran)')
  rig.git('tag', 'v1.0')
}

async function script(rig: Rig, shell: string, ...path: string[]): Promise<string> {
  const file = join(rig.folder, ...path)
  mkdirSync(join(file, '..'), { recursive: true })
  writeFileSync(file, await rig.ok('completion', shell))
  return file
}

const lines: [line: string, offered: string[]][] = [
  ['vlb bu', ['build']],
  ['vlb -C web st', ['status']],
  ['vlb build --la', ['--last']],
  ['vlb build --last 20', ['20_nginx', '20_ssh']],
  ['vlb build --last 20_nginx rel', ['release']],
  ['vlb build v1.0 rel', ['release']],
  ['vlb shell 10', ['10_base']],
  ['vlb shell v', ['v1.0']],
  ['vlb hooks un', ['uninstall']],
  ['vlb build --compress zs', ['zstd']],
  ['vlb completion f', ['fish']],
  ['vlb status nothing-like-this', []],
]

rigTest(
  'bash: with the completion of git, and for git-vlb alone',
  async (rig) => {
    await prepare(rig)
    const file = await script(rig, 'bash', 'home/.local/share/bash-completion/completions/git-vlb')
    const offers = (line: string, around: string): string[] => {
      const harness = `${around}
COMP_LINE=$1 COMP_POINT=\${#1} COMP_TYPE=9 COMP_KEY=9
read -ra COMP_WORDS <<<"\${1//=/ = }"
[ "\${1% }" = "$1" ] || COMP_WORDS+=('')
COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
compopt() { :; }
COMPREPLY=()
$function
[ \${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "\${COMPREPLY[@]}"`
      const answer = execFileSync('bash', ['--norc', '-c', harness, 'bash', line], {
        cwd: rig.path('web/10_base'),
        env: rig.env,
        encoding: 'utf8',
      })
      return answer
        .split('\n')
        .map((word) => word.trim())
        .filter(Boolean)
    }
    // git's completion loads ours by itself.
    const git = `. /usr/share/bash-completion/bash_completion; . /usr/share/bash-completion/completions/git
function=__git_wrap__git_main`
    const alone = `. '${file}'; function=__git_vlb_alone`
    for (const [line, offered] of lines) {
      expect(offers(`git ${line}`, git), line).toEqual(offered)
      expect(offers(line.replace(/^vlb/, 'git-vlb'), alone), line).toEqual(offered)
    }
    // bash takes "=" for a word of its own, and only what is behind it is replaced.
    expect(offers('git vlb build --compress=zs', git)).toEqual(['zstd'])
    expect(offers('git-vlb build --compress=zs', `. /usr/share/bash-completion/bash_completion; ${alone}`)).toEqual([
      'zstd',
    ])
    expect(offers('git vlb diff v1.0..rel', git)).toEqual(['v1.0..release'])
    expect(offers('git vlb status x', git)).toEqual(['x\\$\\(touch\\$\\{IFS\\}ran\\)'])
    expect(offers('git -C web vlb -', git)).toContain('--json')
    expect(existsSync(rig.path('web/10_base/ran'))).toBe(false)
  },
  ['tool:bash', 'tool:git', 'file:/usr/share/bash-completion/completions/git'],
)

rigTest(
  'zsh: with the completion of git, and for git-vlb alone',
  async (rig) => {
    await prepare(rig)
    await script(rig, 'zsh', 'functions/_git-vlb')
    // A shell in a terminal of its own: what is completed lands in its line, which a key writes to a file.
    const harness = `zmodload zsh/zpty
zpty shell zsh -f -i
ask() { zpty -w shell "$1"; }
ask "PS1= PS2= RPS1= fpath=(${join(rig.folder, 'functions')} \\$fpath)"
ask 'autoload -Uz compinit; compinit -D -u'
ask 'zstyle ":completion:*" insert-unambiguous false; setopt no_list_ambiguous no_auto_menu'
ask 'show() { print -r -- "$BUFFER" >$OUT; BUFFER=; zle accept-line }; zle -N show; bindkey "^Xs" show'
for line in "$@"; do
  mkfifo $OUT
  zpty -w -n shell "$line"$'\\t'
  zpty -w -n shell $'\\x18s'
  read -r answer <$OUT
  print -r -- "$answer"
  rm $OUT
done
zpty -d shell`
    const unique = lines.filter(([, offered]) => offered.length === 1)
    for (const command of ['git vlb', 'git-vlb']) {
      const typed = unique.map(([line]) => line.replace(/^vlb/, command))
      const answer = execFileSync('zsh', ['-f', '-c', harness, 'zsh', ...typed], {
        cwd: rig.path('web/10_base'),
        env: { ...rig.env, TERM: 'dumb', OUT: join(rig.folder, 'line') },
        encoding: 'utf8',
        timeout: 60_000,
      })
      const wanted = unique.map(([, [word]], i) => `${typed[i]?.replace(/\S+$/, '')}${word}`)
      expect(
        answer
          .trimEnd()
          .split('\n')
          .map((line) => line.replace(/[ =]$/, '')),
      ).toEqual(wanted)
    }
  },
  ['tool:zsh', 'tool:git'],
)

rigTest(
  'fish: with the completion of git, and for git-vlb alone',
  async (rig) => {
    await prepare(rig)
    await script(rig, 'fish', 'home/.config/fish/conf.d/git-vlb.fish')
    writeFileSync(join(rig.folder, 'git-vlb'), '#!/bin/sh\n', { mode: 0o755 })
    const offers = (line: string): string[] => {
      const answer = execFileSync('fish', ['-c', 'complete -C "$argv[1]"', line], {
        cwd: rig.path('web/10_base'),
        env: { ...rig.env, PATH: `${rig.folder}:${rig.env['PATH']}`, TERM: 'dumb' },
        encoding: 'utf8',
      })
      return answer
        .split('\n')
        .filter(Boolean)
        .map((row) => row.split('\t')[0] ?? '')
        .sort()
    }
    for (const [line, offered] of lines) {
      expect(offers(`git ${line}`), line).toEqual(offered)
      expect(offers(line.replace(/^vlb/, 'git-vlb')), line).toEqual(offered)
    }
    expect(offers('git vl')).toContain('vlb')
  },
  ['tool:fish', 'tool:git'],
)

rigTest(
  'the scripts are sound, and another shell is refused',
  async (rig) => {
    execFileSync('shellcheck', ['-s', 'bash', await script(rig, 'bash', 'c.bash')])
    execFileSync('zsh', ['-n', await script(rig, 'zsh', 'c.zsh')])
    execFileSync('fish', ['-n', await script(rig, 'fish', 'c.fish')])
    expect((await rig.vlb(['completion', 'zish'])).stderr).toContain('git vlb completion zsh')
  },
  ['tool:shellcheck', 'tool:zsh', 'tool:fish'],
)

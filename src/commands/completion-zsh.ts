// The completion for zsh: a function that zsh's completion of git finds by its name.
import type { CompletedOption, CompletedVerb, Offer, Place } from './completion-words.ts'

const actions: Record<Offer, string> = {
  layers: '__git_vlb_layers',
  revisions: '__git_vlb_revisions',
  files: '_files',
  folders: '_files -/',
}

export function zshCompletion(verbs: readonly CompletedVerb[], common: readonly CompletedOption[]): string {
  const cases = verbs.map(({ name, options, operands }) => {
    const lines = [...options.flatMap(optionSpecs), ...operands.map(operandSpec)]
    return `    ${name}) _arguments -s -S $common${lines.map((line) => ` \\\n      ${line}`).join('')} && ret=0 ;;`
  })
  return `#compdef git-vlb
# zsh completion for git vlb, written by: git vlb completion zsh

__git_vlb_layers() {
  local folder=\${__git_vlb_folder:-.}
  folder=\${folder:A}
  while [[ ! -f $folder/vlb.yaml ]]; do
    [[ $folder != / ]] || return 1
    folder=\${folder:h}
  done
  local -a layers=($folder/[0-9][0-9]*_*(N/:t))
  compadd "$@" -a layers
}

__git_vlb_revisions() {
  local -a revisions
  revisions=(\${(f)"$(git -C \${__git_vlb_folder:-.} for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null)"} HEAD)
  compadd "$@" -a revisions
}

__git_vlb_any() {
  local kind ret=1
  for kind in "$@"; do \${=kind} && ret=0; done
  return ret
}

_git-vlb() {
  local curcontext=$curcontext state line ret=1 __git_vlb_folder=.
  typeset -A opt_args
  local -a common=(
${common
  .flatMap(optionSpecs)
  .map((line) => `    ${line}`)
  .join('\n')}
    '(- *)'{-h,--help}'[show the options]'
  )
  _arguments -C -S $common '1: :->verb' '*:: :->rest' && ret=0
  __git_vlb_folder=\${opt_args[-C]:-.}
  case $state in
  verb)
    local -a verbs=(
${verbs.map(({ name, summary }) => `      ${quoted(`${name}:${summary.replaceAll(':', '\\:')}`)}`).join('\n')}
    )
    _describe -t verbs 'verb of git vlb' verbs && ret=0
    ;;
  rest)
    case $words[1] in
${cases.join('\n')}
    esac
    ;;
  esac
  return ret
}

if [[ $funcstack[1] == _git-vlb ]]; then
  _git-vlb "$@"
else
  compdef _git-vlb git-vlb
fi
`
}

function optionSpecs({ names, summary, repeatable, value }: CompletedOption): string[] {
  const text = `[${escaped(summary)}]${value ? `:${value.name}:${action(value)}` : ''}`
  const others = repeatable ? '*' : names.length > 1 ? `(${names.join(' ')})` : ''
  return names.map((name) => quoted(`${others}${name}${value && name.startsWith('--') ? '=' : ''}${text}`))
}

function operandSpec({ repeatable, ...place }: Place & { repeatable: boolean }): string {
  return quoted(`${repeatable ? '*' : ''}:${escaped(place.name)}:${action(place)}`)
}

function action({ offers, words }: Place): string {
  if (words.length > 0) return `(${words.join(' ')})`
  const [only, ...more] = offers.map((offer) => actions[offer])
  if (only === undefined) return ' '
  return more.length === 0
    ? only
    : `__git_vlb_any ${[only, ...more].map((one) => one.replaceAll(' ', '\\ ')).join(' ')}`
}

const escaped = (text: string): string => text.replace(/[[\]:\\]/g, '\\$&')

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

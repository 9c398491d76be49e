// The completion for fish: for `git vlb` beside fish's own completion of git, and for `git-vlb`.
import type { CompletedOption, CompletedVerb, Offer, Place } from './completion-words.ts'

const lists: Record<Offer, string> = {
  layers: '(__git_vlb_layers)',
  revisions: '(__git_vlb_revisions)',
  files: '',
  folders: '(__fish_complete_directories)',
}

export function fishCompletion(verbs: readonly CompletedVerb[], common: readonly CompletedOption[]): string {
  const lines: string[] = []
  for (const { name, summary } of verbs) lines.push(`-n '__git_vlb_in' -f -a ${name} -d ${quoted(summary)}`)
  for (const option of common) lines.push(...optionLines('__git_vlb_in_any', option))
  for (const { name, options, operands } of verbs) {
    for (const option of options) lines.push(...optionLines(`__git_vlb_in ${name}`, option))
    lines.push(...operandLines(name, operands))
  }
  return `# fish completion for git vlb, written by: git vlb completion fish

# The words behind vlb, without those of -C; fails where there is no vlb.
function __git_vlb_words
    set -l words (commandline -opc)
    set -l command (string replace -r '.*/' '' -- $words[1])
    set -e words[1]
    set -l inside no
    test "$command" = git-vlb; and set inside yes
    while set -q words[1]
        switch $words[1]
            case -C -c --git-dir --work-tree --namespace
                set -e words[1]
            case '-*'
                test $inside = yes; and echo -- $words[1]
            case '*'
                if test $inside = yes
                    echo -- $words[1]
                else if test $words[1] = vlb
                    set inside yes
                else
                    return 1
                end
        end
        set -e words[1]
    end
    test $inside = yes
end

# Whether the verb is this one; without one, whether there is none yet.
function __git_vlb_in
    set -l words (__git_vlb_words); or return 1
    set -l words (string match -v -- '-*' $words)
    test "$words[1]" = "$argv[1]"
end

function __git_vlb_in_any
    __git_vlb_words >/dev/null
end

function __git_vlb_folder
    set -l words (commandline -opc)
    set -l at (contains -i -- -C $words); and echo -- $words[(math $at + 1)]; or echo .
end

function __git_vlb_layers
    set -l folder (realpath -- (__git_vlb_folder) 2>/dev/null); or return
    while not test -f $folder/vlb.yaml
        test $folder != /; or return
        set folder (dirname -- $folder)
    end
    for layer in $folder/*_*/
        string match -r -- '[0-9][0-9][^/]*(?=/$)' $layer
    end
end

function __git_vlb_revisions
    git -C (__git_vlb_folder) for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null
    echo HEAD
end

complete -c git -n 'test (count (commandline -opc)) -eq 1' -f -a vlb -d 'VM images from layers'
complete -c git-vlb -n '__git_vlb_in' -f
for command in git git-vlb
${lines.map((line) => `    complete -c $command ${line}`).join('\n')}
end
`
}

function optionLines(condition: string, { names, summary, value }: CompletedOption): string[] {
  const spelled = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`))
  return [`-n '${condition}' ${spelled.join(' ')}${value ? valueArguments(value) : ''} -d ${quoted(summary)}`]
}

/** -r: it takes a value; -x: and that is no file. */
function valueArguments(place: Place): string {
  const list = listOf(place)
  const files = place.offers.includes('files')
  return `${files ? ' -r' : ' -x'}${list ? ` -a ${quoted(list)}` : ''}`
}

function operandLines(verb: string, operands: readonly Place[]): string[] {
  if (operands.some(({ offers }) => offers.includes('files'))) {
    const list = [...new Set(operands.map(listOf))].filter(Boolean).join(' ')
    return list ? [`-n '__git_vlb_in ${verb}' -a ${quoted(list)}`] : []
  }
  const list = [...new Set(operands.map(listOf))].filter(Boolean).join(' ')
  return [`-n '__git_vlb_in ${verb}' -f${list ? ` -a ${quoted(list)}` : ''}`]
}

function listOf({ offers, words }: Place): string {
  return [...words, ...offers.map((offer) => lists[offer])].filter(Boolean).join(' ')
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}

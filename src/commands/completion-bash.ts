// The completion for bash: a function that git's own completion finds by its name, and that serves `git-vlb` as well.
import type { CompletedOption, CompletedVerb, Offer, Place } from './completion-words.ts'

const offerLines: Record<Offer, string> = {
  layers: '$(__git_vlb_layers)',
  revisions: '$(__git_vlb_revisions)',
  // An empty answer has bash complete names of files.
  files: '',
  folders: '',
}

export function bashCompletion(verbs: readonly CompletedVerb[], common: readonly CompletedOption[]): string {
  const all = (...options: CompletedOption[]) => options.flatMap((option) => option.names).join(' ')
  const cases = verbs.map(
    ({ name, options }) => `\t${name}) __git_vlb_offer '${all(...options, ...common)} -h --help' ;;`,
  )
  return `# bash completion for git vlb, written by: git vlb completion bash

# Offers the words that begin with what is typed. Not by compgen -W: that would run what a branch may have in its name.
# git's completion runs without a space behind each.
__git_vlb_offer ()
{
	local word before=''
	case $cur in ?*..*) before=\${cur%..*}.. ;; esac
	COMPREPLY=()
	while read -r word; do
		[[ -n $word && $before$word == "$cur"* ]] || continue
		printf -v word %q "$before$word"
		COMPREPLY+=("$word ")
	done <<<"\${1// /$'\\n'}"
}

__git_vlb_layers ()
{
	local folder layer
	folder=$(cd "$__git_vlb_folder" 2>/dev/null && pwd) || return
	until [ -f "$folder/vlb.yaml" ]; do
		[ -n "$folder" ] || return
		folder=\${folder%/*}
	done
	for layer in "$folder"/[0-9][0-9]*_*/; do
		layer=\${layer%/}
		[ ! -d "$layer" ] || printf '%s\\n' "\${layer##*/}"
	done
}

__git_vlb_revisions ()
{
	git -C "$__git_vlb_folder" for-each-ref --format='%(refname:short)' refs/heads refs/tags refs/remotes 2>/dev/null
	printf 'HEAD\\n'
}

_git_vlb ()
{
	local __git_vlb_folder=. verb='' operands=0 option i
	for ((i = 1; i < cword; i++)); do
		case \${words[i]} in
		-C) __git_vlb_folder=\${words[++i]} ;;
		esac
	done
	for ((i = \${__git_cmd_idx:-1} + 1; i < cword; i++)); do
		case \${words[i]} in
		-C) ((i++)) ;;
		--) ;;
		-*) case " \${verb:-} \${words[i]} " in
${valueCases(verbs)}
			esac ;;
		*) if [ -z "$verb" ]; then verb=\${words[i]}; else ((operands++)); fi ;;
		esac
	done
	option=$prev
	case $cur in
	--*=*) option=\${cur%%=*} cur=\${cur#*=} ;;
	esac
	COMPREPLY=()
	case " \${verb:-} $option " in
	*' -C ') return ;;
${optionCases(verbs)}
	esac
	case $cur in
	-*) case $verb in
	'') __git_vlb_offer '${all(...common)} -h --help --version' ;;
${cases.join('\n')}
	esac
	return ;;
	esac
	case "$verb $operands" in
	' 0') __git_vlb_offer '${verbs.map(({ name }) => name).join(' ')}' ;;
${operandCases(verbs)}
	esac
}

# For git-vlb without git's completion around it.
__git_vlb_alone ()
{
	local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} cword=$COMP_CWORD __git_cmd_idx=0
	local words=("\${COMP_WORDS[@]}")
	# bash breaks words at "=", which git's and bash's own completion put together again.
	! declare -F _get_comp_words_by_ref >/dev/null || _get_comp_words_by_ref -n =: cur prev words cword
	_git_vlb
}

complete -o bashdefault -o default -o nospace -F __git_vlb_alone git-vlb
`
}

/** Options whose value is the next word, which is therefore no operand. */
function valueCases(verbs: readonly CompletedVerb[]): string {
  const patterns = verbs.flatMap(({ name, options }) =>
    options.filter(({ value }) => value).flatMap(({ names }) => names.map((option) => `' ${name} ${option} '`)),
  )
  return `\t\t\t${patterns.join(' | ')}) ((i++)) ;;`
}

/** Those without an answer come last, together: their value is the user's own. */
function optionCases(verbs: readonly CompletedVerb[]): string {
  const own: string[] = []
  const lines: string[] = []
  for (const { name, options } of verbs) {
    for (const { names, value } of options) {
      if (!value) continue
      const patterns = names.map((option) => `' ${name} ${option} '`).join(' | ')
      const text = answer(value)
      if (text === '') own.push(patterns)
      else lines.push(`\t${patterns}) ${text}; return ;;`)
    }
  }
  return [...lines, `\t${own.join(' | ')}) return ;;`].join('\n')
}

function operandCases(verbs: readonly CompletedVerb[]): string {
  return verbs
    .flatMap(({ name, operands }) =>
      operands.flatMap((operand, i) => {
        const text = answer(operand)
        return text === '' ? [] : [`\t'${name} ${i}'${operand.repeatable ? ` | '${name} '*` : ''}) ${text} ;;`]
      }),
    )
    .join('\n')
}

function answer({ offers, words }: Place): string {
  const all = [...words, ...offers.map((offer) => offerLines[offer])].filter(Boolean)
  return all.length === 0 ? '' : `__git_vlb_offer "${all.join(' ')}"`
}

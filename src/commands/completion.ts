// git vlb completion bash, zsh, fish
import { printable, VlbError } from '../core/errors.ts'
import { nearest } from '../core/nearest.ts'
import { bashCompletion } from './completion-bash.ts'
import { fishCompletion } from './completion-fish.ts'
import { completedOptions, completedVerbs } from './completion-words.ts'
import { zshCompletion } from './completion-zsh.ts'
import type { Command, Verb } from './table.ts'

const shells = { bash: bashCompletion, zsh: zshCompletion, fish: fishCompletion }

/** The verb, for these verbs and the options that all have. */
export function completionOf(verbs: readonly Verb[], common: string): Command {
  return async (_, [word = '']) => {
    const shell = (Object.keys(shells) as (keyof typeof shells)[]).find((one) => one === word)
    if (!shell) {
      const meant = nearest(word, Object.keys(shells)) ?? 'bash'
      throw new VlbError('VLB_USAGE', `there is a completion for bash, zsh and fish, not for "${printable(word)}"`, {
        hint: `git vlb completion ${meant}`,
      })
    }
    const script = shells[shell](completedVerbs(verbs), completedOptions(common))
    return { kind: 'completion', data: { shell, script } }
  }
}

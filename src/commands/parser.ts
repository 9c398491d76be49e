// The command line, made from the man pages.
import type { Command } from 'commander'
import { parsePage } from './page.ts'
import type { Options, Verb } from './table.ts'

/** Adds a page's options to a command. */
export function addOptions(command: Command, markdown: string): void {
  for (const { flags, description, repeatable } of parsePage(markdown).options) {
    if (repeatable)
      command.option(flags, description, (value: string, all: string[] | undefined) => [...(all ?? []), value])
    else command.option(flags, description)
  }
}

export type Start = (verb: Verb, operands: string[], options: Options) => Promise<void>

/** Adds all verbs; `start` is called with the one that was given. */
export function addVerbs(program: Command, verbs: readonly Verb[], common: string, start: Start): void {
  for (const verb of verbs) {
    const page = parsePage(verb.page)
    const command = program
      .command(verb.name)
      .description(page.summary)
      .usage(`[options] ${page.operands.join(' ')}`.trim())
    for (const operand of page.operands)
      command.argument(operand.startsWith('[') ? operand.toLowerCase() : `<${operand.toLowerCase()}>`)
    addOptions(command, verb.page)
    addOptions(command, common)
    if (page.examples) command.addHelpText('after', `\nExamples:\n${page.examples.replace(/^ {4}/gm, '  ')}\n`)
    command.addHelpText('after', `\nThe whole page: man git-vlb-${verb.name}`)
    command.action(async () => {
      const options = { ...program.opts(), ...command.opts() } as Options
      await start(verb, command.args, options)
    })
  }
}

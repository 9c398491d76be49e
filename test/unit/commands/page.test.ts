// Every verb has a page, and the command line that is made from it is the one that the page shows.
import { Command } from 'commander'
import { describe, expect, test } from 'vitest'
import { parsePage } from '../../../src/commands/page.ts'
import { addOptions, addVerbs } from '../../../src/commands/parser.ts'
import { type Options, overview, verbs } from '../../../src/commands/table.ts'

interface Started {
  verb: string
  operands: string[]
  options: Options
}

/** Parses a command line as the program does, and says what it would start. */
async function parse(...args: string[]): Promise<Started | undefined> {
  let started: Started | undefined
  const program = new Command('git vlb')
  program
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({ writeErr: () => {} })
  addOptions(program, overview)
  addVerbs(program, verbs, overview, async (verb, operands, options) => {
    started = { verb: verb.name, operands, options }
  })
  for (const command of program.commands) command.exitOverride().configureOutput({ writeErr: () => {} })
  await program.parseAsync(args, { from: 'user' })
  return started
}

describe.each(verbs.map((verb) => [verb.name, parsePage(verb.page), verb] as const))('%s', (name, page, verb) => {
  test('its page names it, says what it does and how it is called', () => {
    expect(verb.page.split('\n')[0]).toBe(`# git-vlb-${name}(1) -- ${page.summary}`)
    expect(page.summary).toMatch(/^[a-z].*[^.]$/)
    expect(verb.page).toContain(`\`git vlb ${name}\``)
    expect(verb.page).toContain('\n## DESCRIPTION\n')
  })

  test('every option of the page is understood, and every other text in OPTIONS is an option', () => {
    const command = new Command(name)
    addOptions(command, verb.page)
    for (const option of page.options) expect(option.description, option.flags).not.toBe('')
    const items = (/\n## OPTIONS\n([\s\S]*?)(\n## |$)/.exec(verb.page)?.[1] ?? '').match(/^- .*$/gm) ?? []
    expect(items).toHaveLength(page.options.length)
    expect(command.options).toHaveLength(page.options.length)
    for (const [i, option] of command.options.entries()) {
      const none = option.optional ? / \[[A-Z]+\]`:/ : /[a-z]`:/
      expect(items[i], option.flags).toMatch(option.required ? / [A-Z][A-Z:=]*(\.\.\.)?`:/ : none)
    }
  })

  test('the overview lists it', () => expect(overview).toContain(`**git-vlb-${name}**(1)`))

  test('its examples use options that are there', async () => {
    for (const line of page.examples.split('\n').flatMap((text) => text.split('&&'))) {
      const words = line
        .trim()
        .split(/\s+/)
        .map((word) => word.replaceAll("'", ''))
      if (words[0] === 'git' && words[1] === 'vlb') expect(await parse(...words.slice(2)), line).toBeDefined()
    }
  })

  test('its code is there', async () => expect(await verb.load()).toBeTypeOf('function'))
})

describe('the command line', () => {
  test('options with values, repeated ones, and operands', async () => {
    expect(
      await parse(
        'build',
        'v1',
        '--env',
        'A=1',
        '--env',
        'B=2',
        '-o',
        '/x',
        '--dry-run',
        'v2',
        '--no-flatten',
        '-j',
        '2',
      ),
    ).toEqual({
      verb: 'build',
      operands: ['v1', 'v2'],
      options: { env: ['A=1', 'B=2'], output: '/x', remote: true, dryRun: true, flatten: false, jobs: '2' },
    })
  })

  test('what is common to all stands before or behind the verb', async () => {
    const wanted = { C: '/x', json: true, quiet: true }
    expect((await parse('-C', '/x', '--json', '-q', 'status'))?.options).toEqual(wanted)
    expect((await parse('status', '-C', '/x', '--json', '-q'))?.options).toEqual(wanted)
  })

  test('behind "--" everything is an operand', async () => {
    expect((await parse('build', '--', '-x'))?.operands).toEqual(['-x'])
  })

  test.each([
    [['build', '--fromat', 'raw'], "unknown option '--fromat'"],
    [['biuld'], "unknown command 'biuld'"],
    [['build', '-o'], 'argument missing'],
    [['new'], "missing required argument 'name'"],
    [['log', 'a', 'b'], 'too many arguments'],
  ])('%j is refused', async (args, message) => {
    await expect(parse(...args)).rejects.toThrow(message)
  })
})

test('what a page may hold', () => {
  const page = parsePage(`# git-vlb-x(1) -- does x

## SYNOPSIS

\`git vlb x\` [OPTIONS] NAME [REV|FILE] [MORE...]

## OPTIONS

- \`-a, --all\`:
  Takes \`all\`
  of it.

- \`--forward HOST:GUEST...\`:
  Ports.

## EXAMPLES

    git vlb x
`)
  expect(page).toEqual({
    summary: 'does x',
    operands: ['NAME', '[REV|FILE]', '[MORE...]'],
    options: [
      { flags: '-a, --all', repeatable: false, description: 'Takes all of it.' },
      { flags: '--forward <HOST:GUEST>', repeatable: true, description: 'Ports.' },
    ],
    examples: '    git vlb x',
  })
})

// What the hooks add to a checkout.
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import type { Lab } from './lab.ts'
import { least, ms, type Row, secondsRow, takeTurns } from './row.ts'

/** A project of 30 layers, nothing of which is built. `changed` differs from main in a layer, `same` does not. */
export function hookRows(lab: Lab): Row[] {
  const project = lab.project('hooks')
  project.write('vlb.yaml', 'version: 1\nbase: { path: base.raw }\n')
  for (let i = 10; i < 40; i++) project.layer(`${i}_layer`, `echo ${i} >/layer`)
  project.commit()
  for (const [name, file] of [
    ['changed', '20_layer/build-layer'],
    ['same', 'readme'],
  ] as const) {
    project.git('checkout', '--quiet', '-b', name, 'main')
    project.write(file, `#!/bin/sh\n# ${name}\n`)
    project.commit()
  }
  project.git('checkout', '--quiet', 'main')
  project.vlb(['hooks', 'install'])
  // In place of the program: what the hook starts goes on by itself, and would be measured with the next checkout.
  mkdirSync(lab.path('bin'))
  writeFileSync(lab.path('bin/git-vlb'), '#!/bin/sh\n')
  chmodSync(lab.path('bin/git-vlb'), 0o755)
  const env = { PATH: `${lab.path('bin')}:${lab.env['PATH']}` }
  const checkout = (name: string, ...options: string[]): number => {
    const there = lab.run('git', [...options, 'checkout', '--quiet', name], project.folder, env).seconds
    return (there + lab.run('git', [...options, 'checkout', '--quiet', 'main'], project.folder, env).seconds) / 2
  }
  const rows = [
    ['changed', 'layers change, the prebuild is started'],
    ['same', 'no layer changes'],
  ] as const
  return rows.map(([name, what]) => {
    const samples = takeTurns(40, {
      without: () => checkout(name, '-c', 'core.hooksPath=/dev/null'),
      hook: () => checkout(name),
    })
    return secondsRow({
      what: `Hook: ${what}`,
      measured: `\`git checkout\` of 30 layers: ${ms(least(samples.hook))}`,
      comparedWith: `the same without hooks: ${ms(least(samples.without))}`,
      value: least(samples.hook) - least(samples.without),
      bound: 0.02,
      samples,
    })
  })
}

// A shell in a snapshot or in what a failed script left: the same surroundings as a script's, and nothing kept.
import { execFileSync, spawn } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { expect } from 'vitest'
import { projectRoot, type Rig, rigTest } from '../rig/rig.ts'
import { tinyDisk } from '../rig/tiny-disk.ts'

const program = join(projectRoot, 'dist/main.mjs')

/** Runs `git vlb shell` with these lines on its standard input; with `terminal`, in a terminal of its own. */
async function shell(
  rig: Rig,
  args: string[],
  lines: string[],
  terminal = false,
): Promise<{ code: number | null; out: string }> {
  const words = [process.execPath, program, 'shell', ...args]
  const quoted = words.map((word) => `'${word}'`).join(' ')
  const [tool = '', ...rest] = terminal ? ['script', '--quiet', '--return', '--command', quoted, '/dev/null'] : words
  const child = spawn(tool, rest, {
    cwd: rig.repo,
    env: { ...rig.env, TERM: 'xterm' },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  let out = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (out += chunk))
  child.stdin.end(`${lines.join('\n')}\n`)
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, out }
}

rigTest('a shell sees what a script sees, and leaves no trace', async (rig) => {
  rig.project({ '10_a': 'echo a >/a', '20_b': 'echo b >/b' })
  await rig.build()
  const overlays = () =>
    execFileSync('sh', ['-c', 'sha256sum "$1"/*/layer.qcow2', 'sh', rig.store('snapshots')], { encoding: 'utf8' })
  const before = overlays()
  const { code, out } = await shell(rig, ['10'], ['pwd; cat /a; ls /b; echo "$VLB_LAYER"; echo x >/a; exit 7'])
  expect(code).toBe(7)
  expect(out).toContain('/mnt\na\n')
  expect(out).toContain('10_a')
  expect(out).toMatch(/\/b: No such file/)
  expect(overlays()).toBe(before)
  expect((await shell(rig, [], ['cat /a /b'])).out).toContain('a\nb\n')
})

rigTest('a shell on a revision, built first if need be; what is neither layer nor revision is refused', async (rig) => {
  rig.project({ '10_a': 'echo old >/a' })
  rig.commit()
  rig.git('tag', 'v1')
  rig.layer('10_a', 'echo new >/a')
  expect((await shell(rig, ['v1'], ['cat /a'])).out).toContain('old')
  const { code, out } = await shell(rig, ['nonsense'], [])
  expect(code).toBe(2)
  expect(out).toContain('no layer and no revision "nonsense"')
})

rigTest(
  '--failed: commands 1 to 6 of 10 are done, with files, environment, secrets and directory of the script',
  async (rig) => {
    rig.write({ '../token': 'open-sesame\n' })
    const steps = Array.from({ length: 10 }, (_, i) => (i === 6 ? 'sh /mnt/fail' : `echo ${i + 1} >>/steps`))
    rig.project({
      '10_a': {
        'build-layer': `#!/bin/sh\n# vlb: env COLOUR=red\n# vlb: secret token\n# vlb: hostname maker\nset -e\n${steps.join('\n')}\n`,
        fail: 'echo oh no; exit 3\n',
      },
    })
    const secret = ['--secret', 'id=token,src=../token']
    const failed = await rig.vlb(['build', ...secret])
    expect(failed.code).toBe(1)
    const { code, out } = await shell(
      rig,
      ['--failed', ...secret],
      ['pwd; tr "\\n" " " </steps; echo "$COLOUR $(hostname)"; wc -c </run/secrets/token; ls /mnt'],
    )
    expect(code, out).toBe(0)
    expect(out).toContain('10_a/build-layer ended with status 3')
    expect(out).toContain('| oh no')
    expect(out).toContain('/mnt\n1 2 3 4 5 6 red maker\n12\nbuild-layer\nfail\n')
    const without = await shell(rig, ['--failed'], [])
    expect(without.code).toBe(2)
    expect(without.out).toContain('had the secret token')
    // It can be looked at again and again.
    expect((await shell(rig, ['--failed', '10_a', ...secret], ['cat /steps'])).out).toContain('6\n')
  },
)

rigTest('--failed where nothing failed says so', async (rig) => {
  rig.project({ '10_a': 'true' })
  await rig.build()
  const { code, out } = await shell(rig, ['--failed'], [])
  expect(code).toBe(1)
  expect(out).toContain('no failed build is kept')
})

/** bash of this host with its libraries. */
function addBash(root: string): void {
  const libraries = execFileSync('ldd', ['/bin/bash'], { encoding: 'utf8' }).match(/\/\S+/g) ?? []
  for (const file of ['/bin/bash', ...libraries]) {
    mkdirSync(join(root, dirname(file)), { recursive: true })
    cpSync(file, join(root, file), { dereference: true })
  }
}

rigTest('--record: what was typed becomes a layer that does it', async (rig) => {
  rig.project({ '10_a': 'true' })
  tinyDisk(rig.path('tiny.raw'), { prepare: addBash })
  const typed = ['echo "it\'s" >/typed', 'for i in 1 2; do', '  echo "$i" >>/typed', 'done', 'false', 'exit 0']
  const { code, out } = await shell(rig, ['--record', 'typed', '--no-edit'], typed, true)
  expect(code, out).toBe(0)
  expect(out).toContain('recorded in 20_typed/build-layer')
  expect(statSync(rig.path('20_typed/build-layer')).mode & 0o777).toBe(0o755)
  expect(readFileSync(rig.path('20_typed/build-layer'), 'utf8')).toBe(
    '#!/bin/bash\nset -eu\n\necho "it\'s" >/typed\nfor i in 1 2; do\n  echo "$i" >>/typed\ndone\n# ended with status 1:\n# false\n',
  )
  expect(await rig.build()).toEqual(['10_a cached', '20_typed built'])
  expect(rig.readFromImage(rig.path('build/image.qcow2'), '/typed')).toBe("it's\n1\n2\n")
})

rigTest('--record with a name that cannot be, or without bash in the image, says so', async (rig) => {
  rig.project({ '10_a': 'true' })
  expect((await shell(rig, ['--record', '../x'], [])).out).toContain('is no name for a layer')
  const { code, out } = await shell(rig, ['--record', 'x'], ['true'])
  expect(out).toContain('the image needs /bin/bash')
  expect(code).not.toBe(0)
  expect(existsSync(rig.path('20_x'))).toBe(false)
})

rigTest('a shell whose program is killed leaves nothing', async (rig) => {
  rig.project({ '10_a': 'true' })
  await rig.build()
  const hold = await rig.hold()
  const child = spawn(process.execPath, [program, 'shell'], {
    cwd: rig.repo,
    env: rig.env,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  child.stdin.write(`${hold.line}\n`)
  await hold.reached()
  child.kill('SIGKILL')
  await new Promise((resolve) => child.once('close', resolve))
  expect(await rig.leaks()).toEqual([])
})

rigTest('an interrupt while the shell is being started ends it', async (rig) => {
  rig.project({ '10_a': 'true' })
  await rig.build()
  const hold = await rig.hold()
  const shims = join(rig.folder, 'shims')
  mkdirSync(shims)
  const real = rig.tool('sh', '-c', 'command -v mkfifo').trim()
  const held = hold.line.replace('| nc', '| busybox nc')
  writeFileSync(join(shims, 'mkfifo'), `#!/bin/sh\n${held}\nexec ${real} "$@"\n`, { mode: 0o755 })
  const child = spawn(process.execPath, [program, 'shell'], {
    cwd: rig.repo,
    env: { ...rig.env, PATH: `${shims}:${rig.env['PATH']}` },
    // Stays open: nothing but the signal ends the shell.
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  await hold.reached()
  child.kill('SIGTERM')
  // The signal is there before the fifo is.
  await delay(300)
  hold.release()
  const late = await Promise.race([ended, delay(20_000, 'it goes on', { ref: false })])
  child.kill('SIGKILL')
  expect(late).toBe(143)
  expect(await rig.leaks()).toEqual([])
})

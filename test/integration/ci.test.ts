// What git vlb ci writes, run as the services would run it: but for what installs packages, all of its shell.
import { execFile } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { parse } from 'yaml'
import { Clone } from '../rig/clone.ts'
import { DockerRegistry, testUser } from '../rig/docker-registry.ts'
import type { Need } from '../rig/need.ts'
import { refused } from '../rig/refused.ts'
import { type Hold, type Rig, rigTest } from '../rig/rig.ts'

const needs: Need[] = [
  'root',
  'fuse',
  'loop',
  'tool:docker-registry',
  'tool:htpasswd',
  'tool:qemu-img',
  'tool:busybox',
  'tool:mke2fs',
]

/** A project whose registry wants a password, and scripts that count how often they are run. */
function ciTest(name: string, body: (rig: Rig, registry: DockerRegistry, calls: Hold[]) => Promise<void>): void {
  rigTest(
    name,
    async (rig) => {
      const registry = await DockerRegistry.start(join(rig.folder, 'registry'), { access: 'htpasswd' })
      try {
        const calls = [await rig.hold(), await rig.hold()]
        for (const one of calls) one.release()
        const script = (i: number) => `${calls[i]?.line}\ncat /proc/sys/kernel/random/uuid > /${i}`
        rig.project({ '10_a': script(0), '20_b': script(1) }, `remote: ${registry.remote()}\nseal: false\n`)
        await body(rig, registry, calls)
      } finally {
        await registry.end()
      }
    },
    needs,
  )
}

/** git-vlb on the PATH, as npm would put it there. */
function installed(rig: Rig): string {
  const folder = join(rig.folder, 'bin')
  mkdirSync(folder)
  writeFileSync(join(folder, 'git-vlb'), `#!/bin/sh\nexec ${rig.command} "$@"\n`)
  chmodSync(join(folder, 'git-vlb'), 0o755)
  return `${folder}:${process.env['PATH']}`
}

async function bash(script: string, cwd: string, env: Record<string, string>): Promise<string> {
  return await new Promise((resolve, reject) =>
    execFile('bash', ['-e', '-o', 'pipefail', '-c', script], { cwd, env, encoding: 'utf8' }, (error, stdout, stderr) =>
      error ? reject(new Error(`${script}\n${stdout}${stderr}`, { cause: error })) : resolve(stdout + stderr),
    ),
  )
}

interface Step {
  name?: string
  run?: string
  env?: Record<string, string>
}

/** A runner of GitHub's: a shell for each step, and a file that hands variables on. */
async function runSteps(
  steps: readonly Step[],
  runner: { folder: string; cwd: string; env: Record<string, string>; known: Record<string, string> },
): Promise<string> {
  const { folder, cwd, known } = runner
  mkdirSync(folder)
  const handed = join(folder, 'env')
  const env: Record<string, string> = { ...runner.env, RUNNER_TEMP: folder, GITHUB_ENV: handed }
  const expand = (text: string) =>
    text.replace(/\$\{\{ (\S+) \}\}/g, (_, name: string) => known[name] ?? `nothing known of ${name}`)
  let said = ''
  for (const { run, env: own = {} } of steps) {
    const values = Object.fromEntries(Object.entries(own).map(([name, value]) => [name, expand(value)]))
    writeFileSync(handed, '')
    said += await bash(expand(run ?? ''), cwd, { ...env, ...values })
    for (const line of readFileSync(handed, 'utf8').split('\n').filter(Boolean)) {
      const at = line.indexOf('=')
      env[line.slice(0, at)] = line.slice(at + 1)
    }
  }
  return said
}

ciTest('github: two runners that start at once, with nothing, build each layer once', async (rig, registry, calls) => {
  expect(await rig.ok('ci', 'github', '--write')).toBe('workflow .github/workflows/vlb.yml\n')
  const text = rig.read('.github/workflows/vlb.yml')
  expect(await rig.ok('ci', 'github')).toBe(text)
  rig.commit()
  const { jobs } = parse(text)
  const steps: Step[] = jobs.image.steps.filter(({ run, name }: Step) => run && name !== 'install')
  expect(steps.map(({ name }) => name)).toEqual(['log in', 'build'])
  const PATH = installed(rig)
  const known = {
    'secrets.VLB_REGISTRY_USER': testUser.name,
    'secrets.VLB_REGISTRY_PASSWORD': testUser.password,
  }
  const [entry] = jobs.image.strategy.matrix.include
  const runners = ['a', 'b'].map((name) => ({
    clone: new Clone(rig, name),
    folder: join(rig.folder, `runner-${name}`),
  }))
  const said = await Promise.all(
    runners.map(({ clone, folder }) =>
      runSteps(steps, { folder, cwd: join(clone.folder, entry.project), env: { ...rig.env, PATH }, known }),
    ),
  )
  expect(
    calls.map(({ calls: count }) => count),
    said.join('\n'),
  ).toEqual([1, 1])
  expect(said.join('')).not.toContain(testUser.password)
  const [a, b] = runners.map(({ clone }) => clone.image)
  rig.tool('qemu-img', 'compare', a ?? '', b ?? '')
  // Files that the artifact's pattern means.
  expect(entry.files).toBe('build/image.*')
  const login = join(runners[0]?.folder ?? '', 'docker/config.json')
  expect(statSync(login).mode & 0o777).toBe(0o600)
  expect(JSON.parse(readFileSync(login, 'utf8')).auths[registry.host]).toBeDefined()
  // Without a login nothing is written, and the build goes on as anybody's.
  rig.forget()
  const alone = join(rig.folder, 'runner-c')
  const none = { 'secrets.VLB_REGISTRY_USER': '', 'secrets.VLB_REGISTRY_PASSWORD': '' }
  const told = await runSteps(steps, { folder: alone, cwd: rig.repo, env: { ...rig.env, PATH }, known: none })
  expect(told).toContain('does not let us')
  expect(existsSync(join(alone, 'docker'))).toBe(false)
})

ciTest('gitlab: builds with the login of the job, and prunes in a schedule', async (rig, registry, calls) => {
  await rig.ok('ci', 'gitlab', '-o', 'ci/vlb.yml', '--prune', '--branch', 'main')
  rig.commit()
  const pipeline = parse(rig.read('ci/vlb.yml'))
  const job = pipeline['vm-image']
  // All of it is one shell there.
  const scriptOf = (own: string[]) =>
    [...pipeline['.vlb'].before_script, ...own].filter((line) => !/^(apt-get|npm) /.test(line)).join('\n')
  const PATH = installed(rig)
  const run = async (own: string[], clone: Clone) =>
    await bash(scriptOf(own), clone.folder, {
      ...rig.env,
      PATH,
      CI_PROJECT_DIR: clone.folder,
      CI_REGISTRY: registry.host,
      CI_REGISTRY_USER: testUser.name,
      CI_REGISTRY_PASSWORD: testUser.password,
      ...job.parallel.matrix[0],
    })
  const a = new Clone(rig, 'a')
  expect(await run(job.script, a)).toMatch(/pushed to \S+: 20_b/)
  const b = new Clone(rig, 'b')
  expect(await run(job.script, b)).not.toContain('pushed to')
  expect(calls.map(({ calls: count }) => count)).toEqual([1, 1])
  rig.tool('qemu-img', 'compare', a.image, b.image)
  expect(await run(pipeline.prune.script, a)).toMatch(/removed nothing at \S+; 2 snapshots of branches and tags stay/)
})

ciTest('nothing is overwritten unless that is asked for, and what cannot work is refused', async (rig, registry) => {
  rig.write({ '.gitlab-ci.yml': 'test: { script: [make] }\n' })
  const wrong = async (args: string[], says: string, hint: string) =>
    await refused(rig, ['ci', ...args], { says, hint })
  await wrong(['gitlab', '--write'], '.gitlab-ci.yml is there already', '--force')
  expect(rig.read('.gitlab-ci.yml')).toContain('make')
  await rig.ok('ci', 'gitlab', '--write', '--force')
  expect(rig.read('.gitlab-ci.yml')).toContain('git vlb build')
  await wrong(['gitlb'], 'not for "gitlb"', 'git vlb ci gitlab')
  // biome-ignore lint/suspicious/noTemplateCurlyInString: an expression of GitHub's
  await wrong(['github', '--branch', 'a${{ secrets.X }}'], 'a workflow cannot name', 'another name')
  // From a folder of it, all projects of the repository; those without a remote are none of its business.
  const another = (remote: string) => `version: 1\nbase: { path: x.raw }\nboot: { expect: login }\n${remote}`
  rig.write({ 'images/db/vlb.yaml': another(`remote: ${registry.host}/team/db\n`), 'images/try/vlb.yaml': another('') })
  rig.write({ 'images/db/checks/10_up': '#!/bin/sh\ntrue\n' })
  const { text } = JSON.parse((await rig.vlb(['-C', 'images', 'ci', 'github', '--json'])).stdout)
  const { jobs } = parse(text)
  expect(jobs.image.strategy.matrix.include).toEqual([
    { project: 'images/db', name: 'db', files: 'images/db/build/image.*', boot: 'check' },
    { project: '.', name: 'repo', files: 'build/image.*' },
  ])
  expect(text).toContain('qemu-system-x86 ')
  rig.write({ 'images/try/vlb.yaml': another('remote: ghcr.io/o/try\n') })
  await wrong(['github'], 'have several registries', 'at the same one')
  rig.write({ 'images/try/vlb.yaml': another(''), 'images/db/vlb.yaml': another('') })
  rig.write({ 'vlb.yaml': rig.read('vlb.yaml').replace(/^remote.*\n/m, '') })
  await wrong(['github'], 'names a remote to share layers through', 'remote: ghcr.io/')
})

// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of GitHub's
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { type CiProject, type CiWish, ciServices, ciWorkflow } from '../../../src/core/ci.ts'

const web: CiProject = {
  folder: '.',
  name: 'web',
  remote: { host: 'registry.example.com', repository: 'team/web' },
  boot: undefined,
  files: 'build/image.*',
  packages: ['qemu-utils', 'mount'],
}
const db: CiProject = { ...web, folder: 'images/db', name: 'db', boot: 'check', packages: ['qemu-utils', 'ovmf'] }
const plain: CiWish = { branches: [], prune: false }

// biome-ignore lint/suspicious/noExplicitAny: tests look into YAML of any shape
const made = (service: 'github' | 'gitlab', projects: CiProject[], wish: Partial<CiWish> = {}): any =>
  parse(ciWorkflow(service, projects, { ...plain, ...wish }), { strict: true, uniqueKeys: true })

interface Step {
  name?: string
  uses?: string
  run?: string
  if?: string
  with?: Record<string, unknown>
  env?: Record<string, string>
}

describe('for GitHub', () => {
  const keys = ['name', 'on', 'permissions', 'jobs']
  const jobKeys = ['if', 'runs-on', 'strategy', 'defaults', 'steps']
  const stepKeys = ['name', 'uses', 'run', 'if', 'with', 'env', 'working-directory']

  test.each([[{}], [{ prune: true }], [{ branches: ['main', 'feature/x'] }], [{ branches: ['main'], prune: true }]])(
    'is of the form that workflows have: %j',
    (wish) => {
      const workflow = made('github', [web, db, { ...db, folder: 'x y', boot: 'expect' }], wish)
      expect(keys).toEqual(expect.arrayContaining(Object.keys(workflow)))
      for (const job of Object.values<{ steps: Step[] }>(workflow.jobs)) {
        expect(jobKeys).toEqual(expect.arrayContaining(Object.keys(job)))
        for (const step of job.steps) {
          expect(stepKeys).toEqual(expect.arrayContaining(Object.keys(step)))
          expect([step.uses, step.run].filter(Boolean), JSON.stringify(step)).toHaveLength(1)
          // Of actions their major version; and nothing of a repository in a shell but by a variable.
          if (step.uses) expect(step.uses).toMatch(/^actions\/[a-z-]+@v\d$/)
          expect(step.run ?? '').not.toContain('${{')
        }
      }
    },
  )

  test('builds what was pushed, and keeps it', () => {
    const { on, permissions, jobs } = made('github', [web])
    expect(on).toEqual({ push: { branches: ['**'] }, workflow_dispatch: null })
    expect(permissions).toEqual({ contents: 'read' })
    expect(jobs.image.strategy.matrix.include).toEqual([{ project: '.', name: 'web', files: 'build/image.*' }])
    const steps: Step[] = jobs.image.steps
    expect(steps.map(({ name, uses }) => name ?? uses)).toEqual([
      'actions/checkout@v4',
      'actions/setup-node@v4',
      'install',
      'log in',
      'build',
      'actions/upload-artifact@v4',
    ])
    expect(steps[2]?.run).toContain('--no-install-recommends mount qemu-utils\n')
    expect(steps[3]?.env).toEqual({
      REGISTRY: 'registry.example.com',
      REGISTRY_USER: '${{ secrets.VLB_REGISTRY_USER }}',
      REGISTRY_PASSWORD: '${{ secrets.VLB_REGISTRY_PASSWORD }}',
    })
    expect(steps[4]?.run).toBe('git config vlb.push auto\ngit vlb build\n')
    expect(JSON.stringify(jobs)).not.toContain('actions/cache')
  })

  test('logs in to its own registry with its own token', () => {
    const { permissions, jobs } = made('github', [{ ...web, remote: { host: 'ghcr.io', repository: 'o/web' } }])
    expect(permissions).toEqual({ contents: 'read', packages: 'write' })
    const login = jobs.image.steps.find(({ name }: Step) => name === 'log in')
    expect(login.env.REGISTRY_PASSWORD).toBe('${{ secrets.GITHUB_TOKEN }}')
  })

  test('boots what is to be booted, and that only', () => {
    const { jobs } = made('github', [web, db, { ...web, folder: 'c', name: 'c', boot: 'expect' }])
    expect(jobs.image.strategy.matrix.include.map(({ boot }: { boot?: string }) => boot)).toEqual([
      undefined,
      'check',
      'expect',
    ])
    const boots = jobs.image.steps.filter(({ if: when }: Step) => when?.includes('matrix.boot'))
    expect(boots.map(({ if: when }: Step) => when)).toEqual([
      'matrix.boot',
      "matrix.boot == 'expect'",
      "matrix.boot == 'check'",
      "always() && matrix.boot == 'check'",
    ])
  })

  test('a job for each branch and project, with names that artifacts may have', () => {
    const { on, jobs } = made('github', [web, { ...db, name: 'web' }], { branches: ['main', 'feature/x'] })
    expect(on.push.branches).toEqual(['main', 'feature/x'])
    expect(jobs.image.strategy.matrix.include.map(({ name }: { name: string }) => name)).toEqual([
      'web-main',
      'web-feature-x',
      'web-main-3',
      'web-feature-x-4',
    ])
    expect(jobs.image.steps[0].with.ref).toBe('${{ matrix.branch }}')
  })

  test('a scheduled prune, once for each repository of the registry', () => {
    const { on, jobs } = made('github', [web, db], { prune: true })
    expect(on.schedule).toEqual([{ cron: '17 3 * * 1' }])
    expect(jobs.image.if).toBe("github.event_name != 'schedule'")
    expect(jobs.prune.if).toBe("github.event_name == 'schedule'")
    expect(jobs.prune.steps[0].with).toEqual({ 'fetch-depth': 0 })
    expect(jobs.prune.steps.filter(({ run }: Step) => run?.includes('prune'))).toHaveLength(1)
  })
})

describe('for GitLab', () => {
  /** Words that a job cannot have for its name (GitLab's CI/CD YAML syntax reference). */
  const reserved = ['image', 'services', 'stages', 'types', 'before_script', 'after_script', 'variables', 'cache']

  test.each([[{}], [{ prune: true }], [{ branches: ['main', 'feature/x'], prune: true }]])(
    'is of the form that pipelines have: %j',
    (wish) => {
      const pipeline = made('gitlab', [web, db], wish)
      expect(Object.keys(pipeline).filter((name) => reserved.includes(name))).toEqual([])
      expect(pipeline['.vlb'].before_script.every((line: unknown) => typeof line === 'string')).toBe(true)
      for (const name of Object.keys(pipeline).filter((one) => one !== '.vlb')) {
        const job = pipeline[name]
        expect(job.extends).toBe('.vlb')
        expect(job.script.every((line: unknown) => typeof line === 'string')).toBe(true)
        for (const rule of job.rules) expect(typeof rule.if).toBe('string')
      }
      expect(JSON.stringify(pipeline)).not.toContain('"cache"')
    },
  )

  test('one job for each project, its values texts', () => {
    const pipeline = made('gitlab', [web, { ...db, name: '123' }, { ...web, folder: 'on', name: 'yes' }])
    const { matrix } = pipeline['vm-image'].parallel
    expect(matrix).toEqual([
      { PROJECT: '.', NAME: 'web', FILES: 'build/image.*', BRANCH: '', BOOT: '' },
      { PROJECT: 'images/db', NAME: '123', FILES: 'images/db/build/image.*', BRANCH: '', BOOT: 'check' },
      { PROJECT: 'on', NAME: 'yes', FILES: 'on/build/image.*', BRANCH: '', BOOT: '' },
    ])
    expect(pipeline['vm-image'].rules).toEqual([{ if: '$CI_COMMIT_BRANCH' }])
    expect(pipeline['vm-image'].artifacts.reports).toEqual({ junit: 'report.xml' })
  })

  test('branches that are named, and the schedule for what prunes', () => {
    const pipeline = made('gitlab', [web], { branches: ['main', 'a"b'], prune: true })
    expect(pipeline['vm-image'].rules).toEqual([
      { if: '$CI_PIPELINE_SOURCE == "schedule"', when: 'never' },
      { if: '$CI_COMMIT_BRANCH == "main"' },
      { if: '$CI_COMMIT_BRANCH == "a\\"b"' },
    ])
    expect(pipeline.prune.script).toEqual(["git vlb -C '.' prune"])
  })
})

test('says who wrote it, and nothing secret', () => {
  for (const service of ciServices) {
    const text = ciWorkflow(service, [web, db], { branches: ['main'], prune: true })
    expect(text).toMatch(new RegExp(`^# Written by: git vlb ci ${service}\n`))
    expect(text).not.toMatch(/[ \t]\n|\n{3}/)
  }
})

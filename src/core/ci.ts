// Workflows for forges that build the images of a repository and share their layers through its registry.
//
// They are text, with comments for who will keep them. What comes from the repository gets into them as JSON strings, which
// are YAML as well, and into a shell only by way of a variable.

import { join } from 'node:path/posix'

export const ciServices = ['github', 'gitlab'] as const
export type CiService = (typeof ciServices)[number]

/** Where each forge looks for it, below the repository's top. */
export const ciFiles: Record<CiService, string> = { github: '.github/workflows/vlb.yml', gitlab: '.gitlab-ci.yml' }

/** A folder with vlb.yaml. */
export interface CiProject {
  /** Below the repository's top; `.` for the top itself. */
  folder: string
  name: string
  remote: { host: string; repository: string }
  /** Whether there is something to boot it for: checks, or a pattern to wait for. */
  boot: 'check' | 'expect' | undefined
  /** What the build writes, as a pattern below the project's folder. */
  files: string
  /** Of Debian and Ubuntu. */
  packages: readonly string[]
}

export interface CiWish {
  /** Built whatever was pushed; none: the one that was. */
  branches: readonly string[]
  /** Once a week, what no branch needs is removed from the registry. */
  prune: boolean
}

interface Entry {
  project: CiProject
  branch: string | undefined
  /** Of the artifact: no slashes (actions/upload-artifact). */
  name: string
}

/** Quoted where YAML would take it for something else than a text. */
function quoted(text: string): string {
  const plain =
    text === '.' || (/^[A-Za-z][A-Za-z0-9_./-]*$/.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text))
  return plain ? text : JSON.stringify(text)
}

function entriesOf(projects: readonly CiProject[], { branches }: CiWish): Entry[] {
  const all = branches.length > 0 ? branches : [undefined]
  const entries = projects.flatMap((project) =>
    all.map((branch): Entry => {
      const words = [project.name, ...(branch === undefined ? [] : [branch])]
      return { project, branch, name: words.join('-').replace(/[^A-Za-z0-9._-]+/g, '-') }
    }),
  )
  const names = entries.map(({ name }) => name)
  return entries.map((entry, i) =>
    names.indexOf(entry.name) === i ? entry : { ...entry, name: `${entry.name}-${i + 1}` },
  )
}

/** Seen from the repository's top, as artifacts are named. */
const filesOf = ({ folder, files }: CiProject): string => (files.startsWith('/') ? files : join(folder, files))

const packagesOf = (projects: readonly CiProject[]): string =>
  [...new Set(projects.flatMap(({ packages }) => packages))].sort().join(' ')

const heading = (service: CiService, projects: readonly CiProject[]): string[] => [
  `# Written by: git vlb ci ${service}`,
  '#',
  `# Builds ${projects.length === 1 ? 'the image' : `the images of ${projects.length} projects`}. Layers are shared through ${projects[0]?.remote.host}: jobs that start at the same`,
  '# time build each layer once between them, and later ones pull it. Nothing else is cached.',
]

/** Indented, but for lines that are empty. */
const block = (indent: number, lines: readonly string[]): string[] =>
  lines.map((line) => (line === '' ? '' : `${' '.repeat(indent)}${line}`))

const expression = (text: string): string => `\${{ ${text} }}`

/** Writes a login where docker's configuration is looked for, without docker; nothing where there is none to write. */
const loginLines = (folder: string): string[] => [
  'if [ -n "$REGISTRY_PASSWORD" ]; then',
  `  mkdir -p ${folder}`,
  '  auth=$(printf "%s:%s" "$REGISTRY_USER" "$REGISTRY_PASSWORD" | base64 -w 0)',
  `  (umask 077; printf '{"auths":{"%s":{"auth":"%s"}}}\\n' "$REGISTRY" "$auth" > ${folder}/config.json)`,
  'fi',
]

/** The workflow, as a file. All projects have one registry. */
export function ciWorkflow(service: CiService, projects: readonly CiProject[], wish: CiWish): string {
  const lines = service === 'github' ? github(projects, wish) : gitlab(projects, wish)
  return `${lines.join('\n')}\n`
}

function github(projects: readonly CiProject[], wish: CiWish): string[] {
  const { branches, prune } = wish
  const host = projects[0]?.remote.host ?? ''
  const entries = entriesOf(projects, wish).map(
    ({ project, branch, name }) =>
      `- { project: ${quoted(project.folder)}, name: ${quoted(name)}, files: ${quoted(filesOf(project))}${
        branch === undefined ? '' : `, branch: ${quoted(branch)}`
      }${project.boot ? `, boot: ${project.boot}` : ''} }`,
  )
  return [
    ...heading('github', projects),
    ...(isGithub(host)
      ? []
      : [
          '# The login for it: the secrets VLB_REGISTRY_USER and VLB_REGISTRY_PASSWORD; without, it is asked as anybody.',
        ]),
    'name: images',
    'on:',
    `  push: { branches: [${branches.length > 0 ? branches.map(quoted).join(', ') : "'**'"}] }`,
    '  workflow_dispatch:',
    ...(prune ? ['  schedule:', "    - cron: '17 3 * * 1'"] : []),
    `permissions: { contents: read${isGithub(host) ? ', packages: write' : ''} }`,
    '',
    'jobs:',
    '  image:',
    ...(prune ? ["    if: github.event_name != 'schedule'"] : []),
    '    runs-on: ubuntu-latest',
    '    strategy:',
    '      fail-fast: false',
    '      matrix:',
    '        include:',
    ...block(10, entries),
    `    defaults: { run: { working-directory: "${expression('matrix.project')}" } }`,
    '    steps:',
    ...block(6, [
      '- uses: actions/checkout@v4',
      `  with: { fetch-depth: 0${branches.length > 0 ? `, ref: "${expression('matrix.branch')}"` : ''} }`,
      ...githubSetup(projects),
      ...githubKvm(projects),
      ...githubLogin(host),
      '- name: build',
      '  run: |',
      '    git config vlb.push auto',
      '    git vlb build',
      ...githubBoots(projects),
      '- uses: actions/upload-artifact@v4',
      '  with:',
      `    name: "${expression('matrix.name')}"`,
      `    path: "${expression('matrix.files')}"`,
      '    if-no-files-found: error',
    ]),
    ...(prune ? githubPrune(projects, host) : []),
  ]
}

const isGithub = (host: string): boolean => host === 'ghcr.io'

function githubSetup(projects: readonly CiProject[]): string[] {
  return [
    '- uses: actions/setup-node@v4',
    '  with: { node-version: 22 }',
    '- name: install',
    '  run: |',
    '    sudo apt-get update',
    `    sudo apt-get install -y --no-install-recommends ${packagesOf(projects)}`,
    '    npm install --global git-vlb',
    '    git vlb doctor',
  ]
}

function githubLogin(host: string): string[] {
  const [user, password] = isGithub(host)
    ? ['github.actor', 'secrets.GITHUB_TOKEN']
    : ['secrets.VLB_REGISTRY_USER', 'secrets.VLB_REGISTRY_PASSWORD']
  return [
    '- name: log in',
    '  env:',
    `    REGISTRY: ${quoted(host)}`,
    `    REGISTRY_USER: "${expression(user ?? '')}"`,
    `    REGISTRY_PASSWORD: "${expression(password ?? '')}"`,
    '  run: |',
    ...block(4, [...loginLines('"$RUNNER_TEMP/docker"'), 'echo "DOCKER_CONFIG=$RUNNER_TEMP/docker" >> "$GITHUB_ENV"']),
  ]
}

/** To the runner's user. */
function githubKvm(projects: readonly CiProject[]): string[] {
  if (projects.every(({ boot }) => !boot)) return []
  return [
    '- name: open KVM, which makes boots faster',
    '  if: matrix.boot',
    '  run: |',
    `    echo 'KERNEL=="kvm", MODE="0666"' | sudo tee /etc/udev/rules.d/99-kvm.rules`,
    '    sudo udevadm control --reload && sudo udevadm trigger --name-match=kvm',
  ]
}

function githubBoots(projects: readonly CiProject[]): string[] {
  const kinds = new Set(projects.map(({ boot }) => boot))
  return [
    ...(kinds.has('expect') ? ['- name: boot', "  if: matrix.boot == 'expect'", '  run: git vlb test-boot'] : []),
    ...(kinds.has('check')
      ? [
          '- name: boot and check',
          "  if: matrix.boot == 'check'",
          '  run: git vlb test-boot --check --junit report.xml',
          '- uses: actions/upload-artifact@v4',
          "  if: always() && matrix.boot == 'check'",
          `  with: { name: "${expression('matrix.name')}-report", path: "${expression('matrix.project')}/report.xml" }`,
        ]
      : []),
  ]
}

/** One project of each repository of the registry: a prune thinks of all projects that share one. */
function prunable(projects: readonly CiProject[]): CiProject[] {
  const names = projects.map(({ remote }) => remote.repository)
  return projects.filter(({ remote }, i) => names.indexOf(remote.repository) === i)
}

function githubPrune(projects: readonly CiProject[], host: string): string[] {
  return [
    '',
    '  # What no branch and no tag needs any more, but for what was pushed in the last week.',
    '  prune:',
    "    if: github.event_name == 'schedule'",
    '    runs-on: ubuntu-latest',
    '    steps:',
    ...block(6, [
      '- uses: actions/checkout@v4',
      '  with: { fetch-depth: 0 }',
      '- uses: actions/setup-node@v4',
      '  with: { node-version: 22 }',
      '- run: npm install --global git-vlb',
      ...githubLogin(host),
      ...prunable(projects).flatMap(({ folder }) => [
        '- name: prune',
        '  run: git vlb prune',
        `  working-directory: ${quoted(folder)}`,
      ]),
    ]),
  ]
}

function gitlab(projects: readonly CiProject[], wish: CiWish): string[] {
  const { branches, prune } = wish
  const host = projects[0]?.remote.host ?? ''
  const entries = entriesOf(projects, wish).map(
    ({ project, branch, name }) =>
      `- { PROJECT: ${quoted(project.folder)}, NAME: ${quoted(name)}, FILES: ${quoted(filesOf(project))}, BRANCH: ${
        branch === undefined ? '""' : quoted(branch)
      }, BOOT: ${project.boot ?? '""'} }`,
  )
  return [
    ...heading('gitlab', projects),
    '# Its runners are containers: building takes one that is privileged. The login is that of GitLab for its own registry; for',
    '# another one, the masked variables VLB_REGISTRY_USER and VLB_REGISTRY_PASSWORD; without, it is asked as anybody.',
    '.vlb:',
    '  image: node:22-bookworm',
    '  variables: { GIT_DEPTH: 0, DEBIAN_FRONTEND: noninteractive }',
    '  before_script:',
    '    - apt-get update',
    `    - apt-get install -y --no-install-recommends ${packagesOf(projects)}`,
    '    - npm install --global git-vlb',
    '    - |',
    ...block(6, [
      'git config --global --add safe.directory "$CI_PROJECT_DIR"',
      'git fetch --quiet --prune origin "+refs/heads/*:refs/remotes/origin/*"',
      `REGISTRY=${quoted(host)}`,
      'REGISTRY_USER=$VLB_REGISTRY_USER REGISTRY_PASSWORD=$VLB_REGISTRY_PASSWORD',
      'if [ "$REGISTRY" = "$CI_REGISTRY" ]; then',
      '  REGISTRY_USER=$CI_REGISTRY_USER REGISTRY_PASSWORD=$CI_REGISTRY_PASSWORD',
      'fi',
      'export DOCKER_CONFIG=$(mktemp -d)',
      `trap 'rm -rf "$DOCKER_CONFIG"' EXIT`,
      ...loginLines('"$DOCKER_CONFIG"'),
    ]),
    '',
    'vm-image:',
    '  extends: .vlb',
    '  rules:',
    ...(prune ? ['    - { if: $CI_PIPELINE_SOURCE == "schedule", when: never }'] : []),
    ...(branches.length > 0
      ? branches.map((branch) => `    - if: ${JSON.stringify(`$CI_COMMIT_BRANCH == ${JSON.stringify(branch)}`)}`)
      : ['    - if: $CI_COMMIT_BRANCH']),
    '  parallel:',
    '    matrix:',
    ...block(6, entries),
    '  script:',
    '    - |',
    ...block(6, [
      'if [ -n "$BRANCH" ]; then git checkout --quiet --detach "origin/$BRANCH"; fi',
      'cd "$PROJECT"',
      'git vlb doctor',
      'git config vlb.push auto',
      'git vlb build',
      'case "$BOOT" in',
      '  check) git vlb test-boot --check --junit "$CI_PROJECT_DIR/report.xml" ;;',
      '  expect) git vlb test-boot ;;',
      'esac',
    ]),
    '  artifacts:',
    '    name: "$NAME"',
    '    when: always',
    '    expire_in: 1 week',
    '    paths: ["$FILES"]',
    ...(projects.some(({ boot }) => boot === 'check') ? ['    reports: { junit: report.xml }'] : []),
    ...(prune ? gitlabPrune(projects) : []),
  ]
}

function gitlabPrune(projects: readonly CiProject[]): string[] {
  return [
    '',
    '# In a scheduled pipeline: what no branch and no tag needs any more, but for what was pushed in the last week.',
    'prune:',
    '  extends: .vlb',
    '  rules:',
    '    - if: $CI_PIPELINE_SOURCE == "schedule"',
    '  script:',
    ...prunable(projects).map(({ folder }) => `    - ${JSON.stringify(`git vlb -C ${shellWord(folder)} prune`)}`),
  ]
}

const shellWord = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

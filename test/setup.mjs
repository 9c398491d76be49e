// Brings a fresh checkout to where the program runs: npm packages, the built program, system packages. With --tests also
// what only the tests need. Plain Node, no dependencies: it runs before there are any.
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const forTests = process.argv.includes('--tests')

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) stop(`Node 20.19 or newer is needed; this is ${process.versions.node}.`)

const say = (text) => console.error(`\u001b[2m${text}\u001b[22m`)

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
  if (error || status !== 0) stop(`${command} ${args.join(' ')}: ${error?.message ?? `failed with status ${status}`}`)
}

function stop(text) {
  console.error(text)
  process.exit(3)
}

function installNpmPackages() {
  const stamp = join(root, 'node_modules/.package-lock.json')
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(join(root, 'package-lock.json')).mtimeMs) return
  say('installing npm packages')
  run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'])
}

function buildProgram() {
  say('building the program')
  run('npm', ['run', '--silent', 'build'])
}

/** Tests read images from outside, serve packed bases and make disks of all kinds. */
const testPackages = [
  'xfsprogs',
  'btrfs-progs',
  'zstd',
  'xz-utils',
  'gzip',
  'sudo',
  'tmux',
  'acl',
  'libcap2-bin',
  'curl',
  'shellcheck',
  'busybox-static',
  'time',
  'strace',
  'qemu-user-static',
  'binfmt-support',
  'chromium',
  'cloud-guest-utils',
  'bash-completion',
  'zsh',
  'fish',
  'rpm',
  'db5.3-util',
  'sqlite3',
  'xorriso',
  'genisoimage',
  'mtools',
  'ovmf',
  'systemd-boot-efi',
  'docker-registry',
  'apache2-utils',
  'skopeo',
  'libxml2-utils',
]

/** Not on every distribution; a test that needs it says so. */
const optional = ['chromium']

/** doctor knows what is missing and how to install it; apt is the one way we take by ourselves. */
function installSystemPackages() {
  const doctor = JSON.parse(capture(process.execPath, [join(root, 'dist/main.mjs'), 'doctor', '--json']))
  const missing = (doctor.install ?? []).filter((word) => !word.startsWith('-')).slice(2)
  const wanted = [...missing, ...(forTests ? testPackages.filter((name) => !isInstalled(name)) : [])]
  if (wanted.length > 0) apt(wanted, doctor)
  const left = JSON.parse(capture(process.execPath, [join(root, 'dist/main.mjs'), 'doctor', '--json']))
  const unmet = left.checks.filter((check) => check.required && !check.ok)
  if (unmet.length > 0)
    stop(`This host cannot build images:\n${unmet.map((c) => `  ${c.name}: ${c.found}`).join('\n')}`)
}

function isInstalled(name) {
  return capture('dpkg', ['--status', name]).includes('\nStatus: install ok installed\n')
}

/** Standard output, whatever the exit status. */
function capture(command, args) {
  return spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).stdout ?? ''
}

function apt(packages, doctor) {
  const isDebian = existsSync('/usr/bin/apt-get') && existsSync('/etc/debian_version')
  if (!isDebian) {
    const lines = doctor.checks.filter((c) => !c.ok).map((c) => `  ${c.name}, for ${c.neededFor}`)
    stop(
      `Please install what is missing, then run this again:\n${lines.join('\n')}\n${doctor.install ? `Try: ${doctor.install.join(' ')}` : ''}`,
    )
  }
  say(`installing system packages: ${packages.join(' ')}`)
  const prefix = process.getuid() === 0 ? [] : ['sudo']
  const env = ['env', 'DEBIAN_FRONTEND=noninteractive']
  const [command, ...args] = [...prefix, ...env, 'apt-get']
  run(command, [...args, '-qq', 'update'])
  const there = packages.filter((name) => !optional.includes(name) || isAvailable(name))
  run(command, [...args, '-qq', 'install', '-y', '--no-install-recommends', '-o', 'Dpkg::Use-Pty=0', ...there])
}

function isAvailable(name) {
  return /Candidate: (?!\(none\))/.test(capture('apt-cache', ['policy', name]))
}

installNpmPackages()
buildProgram()
installSystemPackages()

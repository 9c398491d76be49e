// A bootable Debian disk, made by the debian template's own script. Making it takes a minute and the network, so it is
// kept in the user's cache until the template changes.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const template = 'templates/debian/00_base'

// Under a lock: whoever waited finds it made. In namespaces: killed halfway, it leaves no mount.
const makeScript = `set -eu
[ ! -e "$2/base.raw" ] || exit 0
rm -rf "$2/making" && mkdir -p "$2/making/tmp"
cd "$1"
TMPDIR=$2/making/tmp unshare --mount --pid --fork --kill-child --mount-proc --propagation private -- \
  ./build-base "$2/making/base.raw" </dev/null >"$2/log" 2>&1 || { tail -n 20 "$2/log" >&2; exit 1; }
mv "$2/making/base.raw" "$2/base.raw"
rm -rf --one-file-system "$2/making"`

/** Path of the disk, raw and 2 GiB; must not be written to. Needs root. */
export function debianBase(): string {
  const cache = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'git-vlb-tests')
  const folder = join(cache, templateTree())
  const disk = join(folder, 'base.raw')
  if (existsSync(disk)) return disk
  mkdirSync(folder, { recursive: true })
  const make = ['sh', '-c', makeScript, 'sh', join(projectRoot, template), folder]
  execFileSync('flock', [join(cache, 'lock'), ...make], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  })
  return disk
}

/** The tree id that the template's folder would have if it were committed as it is. */
function templateTree(): string {
  const scratch = mkdtempSync(join(tmpdir(), 'vlb-template-'))
  const env = { ...process.env, GIT_INDEX_FILE: join(scratch, 'index'), GIT_OBJECT_DIRECTORY: scratch }
  const git = (...args: string[]) => execFileSync('git', args, { cwd: projectRoot, env, encoding: 'utf8' }).trim()
  try {
    git('add', '--', template)
    return git('write-tree', `--prefix=${template}/`)
  } finally {
    rmSync(scratch, { recursive: true, force: true })
  }
}

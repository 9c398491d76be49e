// The environment that child processes get: a short list of what we know they need, never all of ours. Git's own
// variables stay out above all: hooks run with GIT_DIR and GIT_INDEX_FILE set, which would turn our git commands
// onto the wrong index.

const proxyNames = ['http_proxy', 'https_proxy', 'ftp_proxy', 'no_proxy', 'all_proxy'].flatMap((n) => [
  n,
  n.toUpperCase(),
])
const passed = [
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'TERM',
  'TMPDIR',
  'TZ',
  'SSH_AUTH_SOCK',
  'GNUPGHOME',
  'XDG_CONFIG_HOME',
  'XDG_CACHE_HOME',
  'XDG_RUNTIME_DIR',
  'DISPLAY',
  'WAYLAND_DISPLAY',
  // Where git's configuration lies, which is no business of ours to change.
  'GIT_CONFIG_NOSYSTEM',
  'GIT_CONFIG_GLOBAL',
  'GIT_CONFIG_SYSTEM',
  'GIT_CEILING_DIRECTORIES',
]

export type Environment = Record<string, string>

function pick(names: readonly string[]): Environment {
  const picked: Environment = {}
  for (const name of names) {
    const value = process.env[name]
    if (value !== undefined) picked[name] = value
  }
  return picked
}

/** Proxy settings of the caller, which scripts may see. */
export function proxyEnvironment(): Environment {
  return pick(proxyNames)
}

/** What git and the caller say of a pager, `git --no-pager` among it; and git's own settings for the pagers it knows. */
export function pagerEnvironment(): Environment {
  return { LESS: 'FRX', LV: '-c', ...pick(['GIT_PAGER', 'PAGER', 'LESS', 'LV']) }
}

/** Who makes a commit, where the caller says so, and what signing one needs. Everything else is in git's configuration. */
export function identityEnvironment(): Environment {
  const who = ['AUTHOR', 'COMMITTER'].flatMap((role) => ['NAME', 'EMAIL', 'DATE'].map((part) => `GIT_${role}_${part}`))
  return pick([...who, 'EMAIL', 'GPG_TTY'])
}

export function childEnvironment(added: Environment = {}): Environment {
  const base = pick([...passed, ...proxyNames])
  // A user's PATH often lacks the folders of blkid, sfdisk and losetup.
  const path = `${base['PATH'] ?? '/usr/local/bin:/usr/bin:/bin'}:/usr/local/sbin:/usr/sbin:/sbin`
  return { ...base, PATH: path, LANG: 'C.UTF-8', LC_ALL: 'C.UTF-8', ...added }
}

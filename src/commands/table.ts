// Every verb: its page, and where its code is. Nothing heavy is imported here: a verb is loaded when it runs.

import mainPage from '../../docs/git-vlb.1.md'
import buildPage from '../../docs/git-vlb-build.1.md'
import cachePage from '../../docs/git-vlb-cache.1.md'
import changelogPage from '../../docs/git-vlb-changelog.1.md'
import ciPage from '../../docs/git-vlb-ci.1.md'
import cloudInitPage from '../../docs/git-vlb-cloud-init.1.md'
import completionPage from '../../docs/git-vlb-completion.1.md'
import diffPage from '../../docs/git-vlb-diff.1.md'
import doctorPage from '../../docs/git-vlb-doctor.1.md'
import gcPage from '../../docs/git-vlb-gc.1.md'
import hooksPage from '../../docs/git-vlb-hooks.1.md'
import initPage from '../../docs/git-vlb-init.1.md'
import logPage from '../../docs/git-vlb-log.1.md'
import lsRemotePage from '../../docs/git-vlb-ls-remote.1.md'
import newPage from '../../docs/git-vlb-new.1.md'
import prebuildPage from '../../docs/git-vlb-prebuild.1.md'
import prunePage from '../../docs/git-vlb-prune.1.md'
import pullPage from '../../docs/git-vlb-pull.1.md'
import pushPage from '../../docs/git-vlb-push.1.md'
import rollupPage from '../../docs/git-vlb-rollup.1.md'
import shellPage from '../../docs/git-vlb-shell.1.md'
import statusPage from '../../docs/git-vlb-status.1.md'
import testBootPage from '../../docs/git-vlb-test-boot.1.md'
import type { CommandResult } from '../core/results.ts'
import type { CommandContext } from './context.ts'

/** Options as commander gives them: a text, true for a bare flag, or a list for a repeatable one. */
export type Options = Record<string, string | boolean | string[] | undefined>

export type Command = (context: CommandContext, operands: string[], options: Options) => Promise<CommandResult>

export interface Verb {
  name: string
  page: string
  load: () => Promise<Command>
}

export const overview = mainPage

export const verbs: readonly Verb[] = [
  { name: 'init', page: initPage, load: async () => (await import('./init.ts')).init },
  { name: 'new', page: newPage, load: async () => (await import('./new.ts')).newLayer },
  { name: 'status', page: statusPage, load: async () => (await import('./status.ts')).status },
  { name: 'build', page: buildPage, load: async () => (await import('./build.ts')).build },
  { name: 'push', page: pushPage, load: async () => (await import('./push.ts')).push },
  { name: 'pull', page: pullPage, load: async () => (await import('./pull.ts')).pull },
  { name: 'ls-remote', page: lsRemotePage, load: async () => (await import('./ls-remote.ts')).lsRemote },
  { name: 'prune', page: prunePage, load: async () => (await import('./prune.ts')).prune },
  { name: 'changelog', page: changelogPage, load: async () => (await import('./changelog.ts')).changelog },
  { name: 'rollup', page: rollupPage, load: async () => (await import('./rollup.ts')).rollup },
  { name: 'log', page: logPage, load: async () => (await import('./log.ts')).log },
  { name: 'shell', page: shellPage, load: async () => (await import('./shell.ts')).shell },
  { name: 'diff', page: diffPage, load: async () => (await import('./diff.ts')).diff },
  { name: 'test-boot', page: testBootPage, load: async () => (await import('./test-boot.ts')).testBoot },
  { name: 'cloud-init', page: cloudInitPage, load: async () => (await import('./cloud-init.ts')).cloudInit },
  { name: 'ci', page: ciPage, load: async () => (await import('./ci.ts')).ci },
  { name: 'hooks', page: hooksPage, load: async () => (await import('./hooks.ts')).hooks },
  { name: 'prebuild', page: prebuildPage, load: async () => (await import('./prebuild.ts')).prebuild },
  { name: 'gc', page: gcPage, load: async () => (await import('./gc.ts')).gc },
  { name: 'cache', page: cachePage, load: async () => (await import('./cache.ts')).cache },
  { name: 'doctor', page: doctorPage, load: async () => (await import('./doctor.ts')).doctor },
  {
    name: 'completion',
    page: completionPage,
    load: async () => (await import('./completion.ts')).completionOf(verbs, overview),
  },
]

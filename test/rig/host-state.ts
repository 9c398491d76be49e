// What a build must never change about the host: looked at before and after.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { expect } from 'vitest'
import { projectRoot } from './rig.ts'

const env = { PATH: `${process.env['PATH']}:/usr/sbin:/sbin` }
const said = (command: string) => execFileSync('sh', ['-c', command], { encoding: 'utf8', env })

/** Of what changes by itself, or by other work on the host, nothing. */
function hostState(): Record<string, string> {
  return {
    hostname: hostname(),
    boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8'),
    settings: said(
      'cd /proc/sys && grep -rs . kernel/core_pattern kernel/hostname kernel/modprobe kernel/panic* kernel/printk kernel/sysrq kernel/pid_max vm/swappiness vm/overcommit_memory fs/suid_dumpable net/ipv4/ip_forward; true',
    ),
    modules: said("cut -d ' ' -f 1 /proc/modules 2>/dev/null | sort"),
    nodes: said(
      "find /dev -xdev ! -type d ! -type l ! -name 'loop*' ! -name 'nbd*' ! -path '/dev/shm/*' ! -path '/dev/pts/*' -printf '%p %M %U\\n' | sort",
    ),
    interfaces: said("ls /sys/class/net; cat /proc/net/if_inet6 2>/dev/null | awk '{ print $1, $6 }' | sort"),
    swaps: readFileSync('/proc/swaps', 'utf8'),
    files: said('sha256sum /etc/passwd /etc/shadow /etc/resolv.conf /etc/hostname 2>/dev/null; ls -A / /usr/sbin'),
    program: said(`find '${projectRoot}/dist' -type f | sort | xargs cat | sha256sum`),
  }
}

/** Runs `body`; afterwards the host is as it was, and its clock has only gone on. */
export async function leavesHostAlone<T>(body: () => Promise<T>): Promise<T> {
  const before = hostState()
  const clock = Date.now() - performance.now()
  const result = await body()
  expect(Math.abs(Date.now() - performance.now() - clock), 'the clock was set').toBeLessThan(5000)
  expect(hostState()).toEqual(before)
  return result
}

// What watching a guest adds to its boot, without KVM.
import { debianBase } from '../rig/debian-base.ts'
import type { Lab, Project } from './lab.ts'
import { least, ms, type Row, ratioRow, takeTurns } from './row.ts'

const prompt = 'login:'

// Reads up to each colon, so that it ends with the prompt, behind which no line ends.
const plainScript = `while IFS= read -r -d : text; do
  case $text in *login) kill $! && wait $!; exit 0 ;; esac
done < <(exec @QEMU@ </dev/null)
exit 1`

/** The bootable Debian to its login prompt, by the same command line of qemu, its serial console on a pipe. */
export function bootRows(lab: Lab): Row[] {
  const project = lab.project('boot').start(debianBase())
  project.layer('10_a', 'true')
  project.commit()
  project.git('config', 'vlb.accel', 'tcg')
  project.build()
  let qemu = ''
  const samples = takeTurns(3, {
    boot: () => {
      lab.settle()
      const { seconds, stderr } = project.vlb(['test-boot', '--expect', prompt], { VLB_TRACE: '1' })
      qemu = tracedCommand(stderr)
      return seconds
    },
    plain: () => plainBoot(lab, project, qemu),
  })
  return [
    ratioRow({
      what: 'Boot of Debian to its login prompt, TCG',
      measured: `\`git vlb test-boot\`, to the verdict: ${ms(least(samples.boot))}`,
      comparedWith: `the same qemu on a pipe, to the prompt: ${ms(least(samples.plain))}`,
      value: least(samples.boot) / least(samples.plain),
      bound: 1.1,
      samples,
    }),
  ]
}

/** qemu as it was run, quoted for a shell, without the socket by which it is asked for more. */
function tracedCommand(trace: string): string {
  const lines = trace.split('\n').filter((line) => line.startsWith('+ qemu-system-'))
  const control = ' -chardev socket,id=control,fd=3 -mon chardev=control,mode=control'
  const [line] = lines
  if (lines.length !== 1 || !line?.includes(control)) throw new Error(`no qemu in the trace:\n${trace}`)
  return line.slice(2).replace(control, '')
}

function plainBoot(lab: Lab, project: Project, qemu: string): number {
  lab.settle()
  return lab.run('bash', ['-c', plainScript.replace('@QEMU@', () => qemu)], project.folder).seconds
}

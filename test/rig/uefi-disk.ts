// What UEFI's firmware starts: an EFI system partition, made with mtools, with systemd-boot and a kernel on it. And the
// bootable Debian as a machine with UEFI has it: a GPT, that partition, and behind it the root file system as it was.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { debianBase } from './debian-base.ts'

/** From Debian's package systemd-boot-efi. */
export const systemdBoot = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi'

// FAT, of the size that the file `esp` has, from `vmlinuz` and `initrd` beside it. $1: the loader, $2: the kernel's arguments.
const espScript = `set -eu
printf 'title Linux\\nlinux /vmlinuz\\ninitrd /initrd\\noptions %s console=ttyS0,115200n8\\n' "$2" >linux.conf
mformat -i esp -T "$(($(stat -c %s esp) / 512))" -h 64 -s 32 ::
mmd -i esp ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i esp "$1" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i esp linux.conf ::/loader/entries/linux.conf
mcopy -i esp vmlinuz initrd ::/`

const debianScript = `set -eu
base=$1 out=$2 loader=$3
at="$base?offset=1048576"
kernel=$(debugfs -R 'ls -p /boot' "$at" 2>/dev/null | cut -d/ -f6 | grep '^vmlinuz' | tail -n 1)
for pair in "$kernel vmlinuz" "initrd.img-\${kernel#vmlinuz-} initrd"; do
  debugfs -R "dump /boot/\${pair% *} \${pair#* }" "$at" 2>/dev/null
done
uuid=$(blkid -p -O 1048576 -o value -s UUID "$base")
truncate -s 128M esp
sh -c "$4" esp "$loader" "root=UUID=$uuid ro console=tty0"
truncate -s 2300M "$out"
printf 'label: gpt\\nstart=1MiB, size=128MiB, type=uefi\\nstart=129MiB, size=2047MiB\\n' | sfdisk --quiet "$out"
dd if=esp of="$out" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$base" of="$out" bs=1M skip=1 seek=129 conv=notrunc,sparse status=none`

function run(cwd: string, script: string, ...args: string[]): void {
  execFileSync('sh', ['-c', script, 'sh', ...args], {
    cwd,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, MTOOLSRC: '/dev/null', PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  })
}

/** Writes the disk, raw, to `path`. */
export function uefiDisk(path: string): void {
  const work = mkdtempSync(join(tmpdir(), 'vlb-uefi-'))
  try {
    run(work, debianScript, debianBase(), path, systemdBoot, espScript)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

/** Makes the file `esp` of so many MiB in a folder that holds `vmlinuz` and `initrd`. */
export function systemPartition(folder: string, mebibytes: number, kernelArguments: string): void {
  run(folder, `truncate -s ${mebibytes}M esp\n${espScript}`, systemdBoot, kernelArguments)
}

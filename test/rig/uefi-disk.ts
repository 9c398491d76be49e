// The bootable Debian as a machine with UEFI has it: a GPT with an EFI system partition, made with mtools, on it systemd-boot
// and the kernel; the root file system is the second partition, as it was.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { debianBase } from './debian-base.ts'

/** From Debian's package systemd-boot-efi. */
export const systemdBoot = '/usr/lib/systemd/boot/efi/systemd-bootx64.efi'

const makeScript = `set -eu
base=$1 out=$2 loader=$3
at="$base?offset=1048576"
kernel=$(debugfs -R 'ls -p /boot' "$at" 2>/dev/null | cut -d/ -f6 | grep '^vmlinuz' | tail -n 1)
for pair in "$kernel vmlinuz" "initrd.img-\${kernel#vmlinuz-} initrd"; do
  debugfs -R "dump /boot/\${pair% *} \${pair#* }" "$at" 2>/dev/null
done
uuid=$(blkid -p -O 1048576 -o value -s UUID "$base")
printf 'title Debian\\nlinux /vmlinuz\\ninitrd /initrd\\noptions root=UUID=%s ro console=tty0 console=ttyS0,115200n8\\n' "$uuid" >debian.conf
truncate -s 128M esp
mformat -i esp -F -T 262144 -h 64 -s 32 ::
mmd -i esp ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i esp "$loader" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i esp debian.conf ::/loader/entries/debian.conf
mcopy -i esp vmlinuz initrd ::/
truncate -s 2300M "$out"
printf 'label: gpt\\nstart=1MiB, size=128MiB, type=uefi\\nstart=129MiB, size=2047MiB\\n' | sfdisk --quiet "$out"
dd if=esp of="$out" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$base" of="$out" bs=1M skip=1 seek=129 conv=notrunc,sparse status=none`

/** Writes the disk, raw, to `path`. */
export function uefiDisk(path: string): void {
  const work = mkdtempSync(join(tmpdir(), 'vlb-uefi-'))
  try {
    execFileSync('sh', ['-c', makeScript, 'sh', debianBase(), path, systemdBoot], {
      cwd: work,
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, MTOOLSRC: '/dev/null', PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
    })
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

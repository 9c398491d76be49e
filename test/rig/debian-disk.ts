// The bootable Debian with its files spread over a disk as many machines have it: /boot apart, and another root file
// system. Kept in the user's cache beside what it is made from.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { debianBase } from './debian-base.ts'

export interface DebianDisk {
  table: 'gpt' | 'dos'
  /** btrfs: the root is its subvolume @, /home its @home. */
  root: 'ext4' | 'xfs' | 'btrfs'
}

// In namespaces, so that killed halfway it leaves no mount. Partition 1 is /boot (extlinux reads neither xfs nor all of
// ext4's features), partition 2 the root.
const makeScript = `set -eu
base=$1 out=$2 table=$3 fs=$4
[ ! -e "$out" ] || exit 0
work=$out.work
rm -rf --one-file-system "$work" && mkdir -p "$work/old" "$work/new"
truncate -s 3G "$work/disk"
if [ "$table" = gpt ]; then flag='attrs="LegacyBIOSBootable"' mbr=gptmbr.bin; else flag=bootable mbr=mbr.bin; fi
printf 'label: %s\\nstart=1MiB, size=255MiB, %s\\nstart=256MiB, size=2700MiB\\n' "$table" "$flag" | sfdisk --quiet "$work/disk"
dd if="/usr/lib/EXTLINUX/$mbr" of="$work/disk" conv=notrunc status=none
truncate -s 255M "$work/boot" && truncate -s 2700M "$work/root"
mke2fs -q -t ext4 -L boot -O ^64bit,^metadata_csum,^metadata_csum_seed,^orphan_file "$work/boot" 2>/dev/null || mke2fs -q -t ext4 -L boot -O ^64bit,^metadata_csum "$work/boot"
flags= option=defaults
case $fs in
  ext4) mke2fs -q -t ext4 "$work/root" ;;
  xfs) mkfs.xfs -q "$work/root" ;;
  btrfs) mkfs.btrfs -q "$work/root"; flags=rootflags=subvol=@ option=subvol=@ ;;
esac
mount -o loop,ro,noload,offset=1048576 "$base" "$work/old"
mount -o loop "$work/root" "$work/new"
root=$work/new
if [ "$fs" = btrfs ]; then
  btrfs -q subvolume create "$root/@" && btrfs -q subvolume create "$root/@home"
  root=$work/new/@
fi
cp -a "$work/old/." "$root/"
mv "$root/boot" "$root/boot.old" && mkdir "$root/boot"
mount -o loop "$work/boot" "$root/boot"
cp -a "$root"/boot.old/*-amd64 "$root/boot/"
rm -rf "$root/boot.old" "$root"/vmlinuz* "$root"/initrd.img*
root_uuid=$(blkid -p -o value -s UUID "$work/root") boot_uuid=$(blkid -p -o value -s UUID "$work/boot")
{
  echo "UUID=$root_uuid / $fs $option 0 0"
  echo "UUID=$boot_uuid /boot ext4 defaults 0 2"
  [ "$fs" != btrfs ] || echo "UUID=$root_uuid /home btrfs subvol=@home 0 0"
} >"$root/etc/fstab"
# As boot loader packages do it: what starts the newest kernel is written anew with every kernel and initramfs.
mkdir -p "$root/boot/extlinux" "$root/etc/initramfs/post-update.d" "$root/etc/kernel/postinst.d"
cat >"$root/usr/local/sbin/update-extlinux" <<END
#!/bin/sh
set -eu
version=\\$(ls /boot/vmlinuz-* | sed 's|/boot/vmlinuz-||' | sort -V | tail -n 1)
root=\\$(findmnt --fstab --noheadings --output SOURCE /)
cat >/boot/extlinux/extlinux.conf <<CONF
DEFAULT linux
LABEL linux
    KERNEL /vmlinuz-\\$version
    INITRD /initrd.img-\\$version
    APPEND root=\\$root ro $flags console=tty0 console=ttyS0,115200n8
CONF
END
chmod 755 "$root/usr/local/sbin/update-extlinux"
ln -s /usr/local/sbin/update-extlinux "$root/etc/initramfs/post-update.d/zz-extlinux"
ln -s /usr/local/sbin/update-extlinux "$root/etc/kernel/postinst.d/zz-extlinux"
chroot "$root" update-extlinux
extlinux --install --heads 255 --sectors 63 "$root/boot/extlinux" >/dev/null 2>&1
umount "$root/boot" && umount "$work/new" && umount "$work/old"
dd if="$work/boot" of="$work/disk" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$work/root" of="$work/disk" bs=1M seek=256 conv=notrunc,sparse status=none
mv "$work/disk" "$out"
rm -rf --one-file-system "$work"`

/** Path of the disk, raw and 3 GiB; must not be written to. Needs root. */
export function debianDisk({ table, root }: DebianDisk): string {
  const base = debianBase()
  const version = createHash('sha256').update(makeScript).digest('hex').slice(0, 12)
  const disk = join(dirname(base), `${table}-${root}-${version}.raw`)
  if (existsSync(disk)) return disk
  const make = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', makeScript, 'sh', base, disk, table, root]
  execFileSync('flock', [`${dirname(base)}/disks.lock`, ...make], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin:/sbin` },
  })
  return disk
}

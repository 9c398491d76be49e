# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# What is on a disk, and growing what is.

# The kernel may not know how to read partition tables, and udev may not run: both are read from the file.
probe_disk() {
  local size whole table line id='' probe=${disk%/*}/probe
  size=$(disk_size)
  whole=$(blkid -p -o export -- "$disk")
  table=$(sed -n 's/^PTTYPE=//p' <<<"$whole")
  case $table in
    gpt | dos) ;;
    *)
      printf 'table none\n'
      grep -q '^TYPE=' <<<"$whole" && probe_partition 0 0 "$size"
      return
      ;;
  esac
  printf 'table %s\n' "$table"
  sfdisk --dump -- "$disk" | while read -r line; do
    [[ $line =~ ^label-id:\ 0x([0-9a-f]+) ]] && id=${BASH_REMATCH[1]}
    [[ $line =~ disk([0-9]+)\ :\ start=\ *([0-9]+),\ *size=\ *([0-9]+) ]] || continue
    probe_partition "${BASH_REMATCH[1]}" $((BASH_REMATCH[2] * 512)) $((BASH_REMATCH[3] * 512)) "$table $id $line"
  done
}

probe_partition() { # NUMBER START SIZE [TABLE ID LINE]
  local found type options
  printf 'partition %s %s %s\n' "$1" "$2" "$3"
  # shellcheck disable=SC2016 # backquotes of a pattern
  case ${4-} in
    dos*) [[ $4 =~ ^dos\ ([0-9a-f]+) ]] && printf 'PARTUUID=%08x-%02d\n' "0x${BASH_REMATCH[1]}" "$1" ;;
    gpt*)
      [[ $4 =~ \ uuid=([0-9A-Fa-f-]+) ]] && printf 'PARTUUID=%s\n' "${BASH_REMATCH[1]}"
      [[ $4 =~ \ name=\"([^\"]*)\" ]] && printf 'PARTLABEL=%s\n' "${BASH_REMATCH[1]}"
      ;;
  esac
  # The form for udev is the one in which a label of any characters stays what it is.
  found=$(blkid -p -o udev -O "$2" -S "$3" -- "$disk" | sed -nE 's/^ID_FS_TYPE=/TYPE=/p; s/^ID_FS_(LABEL|UUID)_ENC=/\1=/p')
  [ -z "$found" ] || printf '%s\n' "$found"
  type=$(sed -n 's/^TYPE=//p' <<<"$found")
  case $type in
    ext[234]) options=noload,errors=remount-ro ;;
    xfs) options=norecovery,nouuid ;;
    btrfs) options=rescue=nologreplay ;;
    *) return ;;
  esac
  mount -t "$type" -o "ro,nodev,nosuid,noexec,loop,offset=$2,sizelimit=$3,$options" -- "$disk" "$probe" || { printf 'unmountable\n' && return; }
  if looks_like_root "$probe"; then
    printf 'looks-like-root\n'
    print_fstab "$probe"
  elif [ "$type" = btrfs ]; then
    # Not the default subvolume: a boot loader's rootflags=subvol= names the root.
    umount -- "$probe" || return
    mount -t btrfs -o "ro,nodev,nosuid,noexec,loop,offset=$2,sizelimit=$3,$options,subvolid=5" -- "$disk" "$probe" || return
    probe_subvolumes "$probe"
  fi
  umount -- "$probe"
}

# Subvolumes are folders whose inode is 256. Deeper down are snapshots and those of containers.
probe_subvolumes() { # FOLDER
  local path
  find "$1" -mindepth 1 -maxdepth 2 -type d -inum 256 -print0 2>/dev/null | sort -z | head -z -n 100 |
    while IFS= read -r -d '' path; do
      case ${path#"$1/"} in *[,$'\n'\\]*) continue ;; esac
      looks_like_root "$path" || continue
      printf 'subvolume %s\n' "$(printf %s "${path#"$1/"}" | base64 -w 0)"
      print_fstab "$path"
    done
}

looks_like_root() { # FOLDER
  [ -d "$1/etc" ] && [ ! -L "$1/etc" ] && [ ! -L "$1/usr" ] || return
  [ -d "$1/usr/bin" ] || [ -d "$1/bin" ] && return
  # /usr is another partition.
  [ -d "$1/usr" ] && [ -f "$1/etc/fstab" ] && [ ! -L "$1/etc/fstab" ] && grep -aqE '^[^#]\S*\s+/usr\s' < <(head -c 65536 -- "$1/etc/fstab")
}

# Prints the layout of a base, or of what a build-base script made.
action_probe() { # WORK FILE FORMAT
  attach "$1" "$2" "$3"
  probe_disk
  detach
  printf 'done\n'
}

# The overlay is larger than the disk was: gives the room to the root partition and its file system.
action_grow() { # WORK PARTITION START SIZE FILESYSTEM
  local number=$2 start=$3 size=$4 type=${5%%,*} around=''
  attach "$1" "$1/layer.qcow2" qcow2
  if [ "$number" != 0 ]; then
    # A logical partition of an MBR needs room in the extended one first.
    ((number < 5)) || around=$(sfdisk --dump -- "$disk" | sed -nE 's/^.*disk([1-4]) :.*type=(5|f|85)(,.*)?$/\1/p')
    [ -z "$around" ] || sfdisk --quiet --no-reread --no-tell-kernel --force -N "$around" -- "$disk" <<<', +' >&2 || die VLB_DISK "sfdisk cannot grow partition $around"
    sfdisk --quiet --no-reread --no-tell-kernel --force -N "$number" -- "$disk" <<<', +' >&2 || die VLB_DISK "sfdisk cannot grow partition $number"
    size=$(sfdisk --dump -- "$disk" | sed -nE "s/.*disk$number : start=.*size= *([0-9]+).*/\1/p")
    size=$((size * 512))
  else
    size=$(disk_size)
  fi
  case $type in
    ext[234]) grow_ext "$start" "$size" "$type" ;;
    xfs) mount_root "$start" "$size" xfs && xfs_growfs "$root" >&2 && unmount_root ;;
    btrfs) mount_root "$start" "$size" btrfs && btrfs filesystem resize max "$root" >&2 && unmount_root ;;
  esac || die VLB_DISK "cannot grow the $type file system; see the log"
  probe_disk
  detach
  printf 'done\n'
}

# Not mounted: growing a mounted ext4 takes CAP_SYS_RESOURCE, which root in a container often lacks. And on a loop device,
# not on the file: resize2fs would cut a file off behind the file system, with the backup partition table. The device
# comes from a mount, because only mount(8) makes one that frees itself, and stays for as long as it is held open.
grow_ext() { # START SIZE FILESYSTEM
  local device hold status
  mount_root "$1" "$2" "$3"
  device=$(findmnt --noheadings --output SOURCE -- "$root")
  exec {hold}<"$device" && unmount_root
  e2fsck -f -p "$device" >&2
  # 1: it found something and repaired it.
  (($? <= 1)) && resize2fs "$device" >&2
  status=$?
  sync -- "$device" >&2 || lost=1
  exec {hold}<&-
  return $status
}

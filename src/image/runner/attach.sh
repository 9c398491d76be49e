# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Attaches a disk image and mounts the root file system in it.

# Shows the disk in an image file as the file or block device `disk`, by FUSE or nbd as `attach_by` has it. Of a second image
# that is NS/second/disk.
attach() { # WORK FILE FORMAT [FILE FORMAT]
  local ns=$1/ns
  # Shared for attach_fuse, which ends that.
  mount --make-shared -t tmpfs -o mode=0755,nosuid,nodev vlb "$ns" || die VLB_HOST_KERNEL "cannot mount a tmpfs in a private namespace"
  mkdir "$ns/root" "$ns/probe" "$ns/dns" "$ns/saved" "$ns/secrets"
  disk=$ns/disk
  : >"$disk"
  if [ -n "${4-}" ]; then
    mkdir -p "$ns/second/root"
    : >"$ns/second/disk"
  fi
  case $attach_by in
    fuse)
      attach_fuse "${@:2}" || die VLB_HOST_ATTACH "$fuse_lacks"
      return
      ;;
    auto)
      attach_fuse "${@:2}" && return
      [ -b /dev/nbd0 ] || die VLB_HOST_ATTACH "the disk can be attached neither by FUSE ($fuse_lacks) nor by nbd (there is no /dev/nbd0)"
      echo "git vlb: attaching by nbd, since $fuse_lacks" >&2
      ;;
  esac
  mount --make-rprivate "$ns"
  meanwhile
  attach_nbd "$2" "$3"
  if [ -n "${4-}" ]; then
    disk=$ns/second/disk
    attach_nbd "$4" "$5"
    disk=$ns/disk
  fi
}

# What an action does while the disk is being attached, which takes other programs some time. Done once.
meanwhile() { :; }

# Exports the images as plain files by FUSE: no nbd module, no device nodes, no udev. Fails, with `fuse_lacks` set, where
# that cannot be.
attach_fuse() { # FILE FORMAT [FILE FORMAT]
  local second=()
  [ -c /dev/fuse ] || { fuse_lacks='there is no /dev/fuse' && return 1; }
  type -P qemu-storage-daemon >/dev/null || { fuse_lacks='qemu-storage-daemon is not installed' && return 1; }
  [ -z "${3-}" ] || second=(
    --blockdev "driver=file,node-name=file2,filename=${3//,/,,},cache.no-flush=on,discard=unmap"
    --blockdev "driver=$4,node-name=disk2,file=file2,cache.no-flush=on,discard=unmap"
    --export "type=fuse,id=disk2,node-name=disk2,mountpoint=${ns//,/,,}/second/disk,writable=on"
  )
  # no-flush: the engine flushes the file once, when it is finished; until then a crash drops it anyway.
  # The daemon gets a mount namespace of its own, with the export in it but nothing that is mounted from it. The last
  # process of a namespace unmounts what is in there. Were that the daemon, killed, it would wait for an answer of its
  # own, never to come, and with it every sync(2) on the host.
  coproc daemon {
    exec unshare --mount --propagation unchanged -- qemu-storage-daemon \
      --blockdev "driver=file,node-name=file,filename=${1//,/,,},cache.no-flush=on,discard=unmap" \
      --blockdev "driver=$2,node-name=disk,file=file,cache.no-flush=on,discard=unmap" \
      --export "type=fuse,id=disk,node-name=disk,mountpoint=${disk//,/,,},writable=on" \
      "${second[@]}" \
      --chardev stdio,id=control --monitor chardev=control
  }
  daemon_pid=$!
  meanwhile
  # Copies of the descriptors: bash closes the originals by itself when the daemon ends. It may have done so.
  # The daemon works through its options in order, so its greeting means that the export is there.
  if { exec {from_daemon}<&"${daemon[0]-}" {to_daemon}>&"${daemon[1]-}"; } 2>/dev/null && read -r -t 60 <&"$from_daemon"; then
    # The export has come from there to here; from now on nothing goes either way.
    mount --make-rprivate "$ns"
    return
  fi
  fuse_lacks='qemu-storage-daemon did not export the disk; FUSE exports need qemu 6.0'
  kill "$daemon_pid" 2>/dev/null
  wait "$daemon_pid" 2>/dev/null
  return 1
}

# Detaches the disk once all that was written to it is in the snapshot's file.
detach() {
  # An unmount ends well whatever becomes of what it writes, and so does qemu: flushing tells, the disk with its tables last.
  [ -n "$lost" ] || sync -- "$disk" >&2 || lost=1
  [ -z "$lost" ] || die VLB_HOST_IO "what was written to the disk did not all get into the snapshot's file; see the log, and dmesg"
  [ -z "$nbd" ] || { detach_nbd && return; }
  printf '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n' >&"$to_daemon"
  wait "$daemon_pid" || die VLB_KILLED "qemu-storage-daemon ended with status $? before all was written"
}

# A loop device that frees itself when nobody has it open any more: told to go while it is held open, it does so later.
# In between nothing may end us. Sets `device` and `hold`.
loop_device() { # FILE OPTION...
  : >"$ns/settling"
  device=$(losetup --find --show "${@:2}" -- "$1") && exec {hold}<"$device" && losetup --detach "$device"
  rm -- "$ns/settling"
  [ -n "$device" ]
}

disk_size() { # prints bytes
  if [ -b "$disk" ]; then blockdev --getsize64 "$disk"; else stat -c %s -- "$disk"; fi
}

mount_options() { # FILESYSTEM: options for a root file system that is built on
  case $1 in
    # Without noinit_itable a thread of the kernel would fill the snapshot with zeroed inode tables. What is to be done about
    # errors is never left to the image: its superblock may say that the kernel is to panic.
    # No barriers (ext4(5)): after a crash nobody looks at the overlay again, and qemu would write its tables for each of
    # dpkg's fsync(2).
    ext4) printf ',discard,noinit_itable,barrier=0,errors=remount-ro' ;;
    ext3) printf ',discard,barrier=0,errors=remount-ro' ;;
    ext2) printf ',discard,errors=remount-ro' ;;
    # Several snapshots of one image carry one UUID, which xfs refuses to mount side by side.
    xfs) printf ',discard,nouuid' ;;
    btrfs) printf ',discard=sync,nobarrier' ;;
    squashfs | erofs) ;;
    *) printf ',discard' ;;
  esac
}

# The kernel that finds a file system damaged stops writing to it (mount_options asks for that): what was written is lost.
# Where fstab asks for `ro`, it is the mount that is read-only, not the file system.
sound_disk() {
  local place options what
  while read -r _ _ _ _ place options; do
    [[ $place/ == */ns/@(root|others)/* && $options =~ ' - '(ext[234]|xfs|btrfs|f2fs)' ' ]] || continue
    [[ ,${options##* }, =~ ,(ro|shutdown|emergency_ro), ]] || continue
    what=$(decoded "$place")
    if [[ $what == "$root"* ]]; then what=${what#"$root"}; else what=''; fi
    die VLB_DISK "the image's file system${what:+ at $what} is damaged: the kernel found errors in it and stopped writing to it"
  done </proc/self/mountinfo
}

# Why mount(8) failed with a file system: this kernel may not know it.
mount_failed() { # FILESYSTEM WHAT [ADVICE]
  local type=${1%%,*}
  ! grep -qE "^(nodev)?[[:space:]]$type\$" /proc/filesystems ||
    die VLB_DISK "cannot mount $2: the $type on it is damaged; see the log for what mount said${3-}"
  die VLB_HOST_KERNEL "cannot mount $2; does this host's kernel know $type (modprobe $type)?${3- see the log for what mount said}"
}

# What is mounted is only looked at: set to options of mount(8), with a comma behind.
reading=''

mount_root() { # START SIZE FILESYSTEM[,OPTION]; sets `root`
  try_mount_root "$@" || mount_failed "$3" "the image's root file system"
}

try_mount_root() { # as mount_root
  local type=${3%%,*}
  root=${disk%/*}/root
  # noatime: reading a file must not change the snapshot. nodev: device nodes in the image are not for the script.
  mount -t "$type" -o "${reading}loop,offset=$1,sizelimit=$2,noatime,nodev$(mount_options "$type")${3#"$type"}" -- "$disk" "$root" || return
  # Kernels before 6.7 can take a second btrfs of one UUID for the first, which is another build's.
  [ "$type" != btrfs ] || [ "$(losetup --noheadings --output BACK-FILE "$(findmnt -nvo SOURCE -- "$root")")" = "$disk" ] ||
    die VLB_HOST_KERNEL "another build on this btrfs base has it mounted, and this kernel cannot tell the two apart; try again when it has ended"
}

# Gives back what the script wrote and deleted again. The discard mount option alone does not: it tells of each deleted
# file by itself, and qcow2 only frees whole clusters, so that small files stay. Not worth it for a layer that wrote little
# more than the file systems now hold more: it takes a tenth of a second, notes all other free space as free in some hundred
# KiB of the snapshot's tables, and frees nothing of what was written in place of files from below, which package managers
# do by the dozen MiB.
trim_root() { # FILE USED; USED: bytes in use before the script
  local place bytes more used
  for place in "$root" "${trimmed[@]}"; do flush "$place" && flushed[$place]=1; done
  bytes=$(($(stat -c '%b * %B' -- "$1")))
  count_used
  more=$((bytes - used + $2))
  ((more < 4 * 1024 * 1024 + bytes / 16)) && return
  ((more < bytes * 2 / 3 && more < 48 * 1024 * 1024 + bytes / 8)) && return
  # On nbd a kernel before 6.10 cannot tell of what is free.
  for place in "$root" "${trimmed[@]}"; do fstrim --quiet-unsupported -- "$place" || true; done
}

# Sets `used` to the bytes in use in the file systems that trim_root looks after.
count_used() {
  local blocks free size
  used=0
  while read -r blocks free size; do ((used += (blocks - free) * size)); done < <(stat -f -c '%b %f %S' -- "$root" "${trimmed[@]}")
}

unmount_root() {
  unmount_others
  unmount "$root"
}

# Set when something that was written is not on the disk, as when the host's own disk is full. A script need not have
# noticed: what it writes is in memory at first.
lost=''
# Places of file systems that were flushed, and that nothing was written to since.
declare -A flushed=()

# Writes out the file system that a path lies on; the kernel tells of what failed since it was mounted (syncfs(2)).
flush() { # PATH
  sync -f -- "$1" >&2 && return
  lost=1
  return 1
}

unmount() { # PLACE
  [ -n "${flushed[$1]-}" ] || flush "$1"
  umount -- "$1" && return
  local place=${1#"$root"} held_by
  held_by=$(holders "$1")
  die VLB_KILLED "the image's file system at ${place:-/} stays busy, held by ${held_by:-nobody that can be seen}; end that, and build again"
}

# Who has something of a mounted file system open, as PID (NAME), by all links that /proc has to it. They are only read: to
# follow those of others could take for ever.
holders() { # PLACE
  local place link target pid found=' ' list=()
  place=$(realpath -- "$1")
  while IFS= read -r -d '' link && IFS= read -r -d '' target; do
    [[ $target/ == "$place"/* ]] || continue
    pid=${link#/proc/} pid=${pid%%/*}
    [[ $found == *" $pid "* ]] || list+=("$pid ($(cat "/proc/$pid/comm" 2>/dev/null))")
    found+="$pid "
  done < <(find /proc/[0-9]*/{cwd,root,exe,fd,map_files} -maxdepth 1 -type l -printf '%p\0%l\0' 2>/dev/null)
  printf -v found ', %s' "${list[@]}"
  [ ${#list[@]} = 0 ] || printf %s "${found#, }"
}

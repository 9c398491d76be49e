# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Runs scripts on the host: against the whole disk, or to make a base.

# Runs a modify-disk script on the host, against the whole disk.
action_disk() { # WORK SOURCE SCRIPT VARIABLE=VALUE...
  local work=$1 source=$2 script=$3 ns=$1/ns status device hold before option=()
  shift 3
  mkdir -p "$work/scratch/tmp"
  chown -R 0:0 -- "$work/src"
  [ ! -d "$work/include" ] || chown -R 0:0 -- "$work/include"
  room=$((128 * 2 ** 30))
  attach "$work" "$work/layer.qcow2" qcow2
  { mount --bind -- "$source" "$source" && mount -o remount,bind,ro -- "$source"; } || die VLB_HOST_KERNEL "cannot protect the parent's snapshot"
  [ -z "$nbd" ] || option=(--sizelimit $(($(disk_size) - room)))
  loop_device "$disk" "${option[@]}" || die VLB_HOST_KERNEL "cannot make a loop device for the disk; see the log"
  mkdir "$ns/bin" "$ns/dev"
  ln -s "$device" "$ns/dev/disk0"
  make_helpers "$work/layer.qcow2"
  before=$(cut -d ' ' -f 1 /proc/self/mountinfo)
  # Not in a mount namespace of its own: the kernel unmounts what is left in one at a time of its own, too.
  limited unshare --pid --ipc --uts --fork --kill-child -- \
    env -i "$@" "TMPDIR=$work/scratch/tmp" \
    "$BASH" "$0" beside "$work" "./$script" "$source" "$work/layer.qcow2" "$ns/dev/disk0" {from_daemon}<&- {to_daemon}>&- {hold}<&- >&2
  status=$?
  tell_limits
  [ -z "$(unmount_since "$before")" ] || lost=1
  sync -- "$device" >&2 || lost=1
  blockdev --flushbufs "$device" >&2
  exec {hold}<&-
  free_devices "$device"
  sync -- "$disk" >&2 || lost=1
  [ -z "$nbd" ] || [ -n "$lost" ] || attach_again "$work/layer.qcow2" qcow2 "$(<"$ns/dev/size")"
  if [ "$status" = 0 ]; then
    probe_disk
    tell "size $(disk_size)"
  fi
  detach
  tell "exit $status"
}

# Holds the device in `hold` open until the script is gone, and nothing else that is open here: growpart calls partx while it
# has a lock on the disk, which udev would wait for.
keep_open() {
  (
    for fd in /proc/self/fd/*; do
      fd=${fd##*/}
      ((fd <= 2 || fd == hold)) || exec {fd}>&-
    done
    exec sleep infinity
  ) </dev/null >/dev/null 2>&1 &
}

# What a modify-disk script has besides the host's programs: vlb-partition and vlb-resize, and stand-ins for programs.
make_helpers() { # TARGET
  local name
  blockdev --getsize64 "$device" >"$ns/dev/size"
  for name in vlb-partition vlb-resize qemu-img qemu-nbd partx partprobe; do
    printf '#!/bin/sh\nexec %q %q helper_%s %q %q "$@"\n' "$BASH" "$0" "${name//-/_}" "$ns" "$1" >"$ns/bin/$name"
  done
  chmod 755 "$ns"/bin/*
}

# vlb-partition NUMBER: prints a block device for the partition, as the table is now. It is gone when the script is.
helper_vlb_partition() { # NS TARGET NUMBER
  local ns=$1 disk device='' hold start size
  disk=$(readlink -- "$1/dev/disk0")
  [[ ${3-} =~ ^[1-9][0-9]*$ ]] || { echo 'usage: vlb-partition NUMBER' >&2 && exit 2; }
  read -r start size < <(sfdisk --dump -- "$disk" | sed -nE "s|^${disk}p$3 : start= *([0-9]+), size= *([0-9]+).*|\\1 \\2|p")
  [ -n "${size-}" ] || { echo "vlb-partition: the disk has no partition $3" >&2 && exit 1; }
  loop_device "$disk" --offset $((start * 512)) --sizelimit $((size * 512)) || exit 1
  keep_open
  printf '%s\n' "$device"
}

# vlb-resize SIZE: makes the disk larger, in the words of truncate(1). Partitions stay as they are.
helper_vlb_resize() { # NS TARGET SIZE
  local ns=$1 size device='' hold
  size=$(numfmt --from=iec -- "${3-}") || { echo 'usage: vlb-resize SIZE, such as 20G' >&2 && exit 2; }
  ((size >= $(<"$ns/dev/size"))) || { echo 'vlb-resize: a disk can only grow' >&2 && exit 1; }
  size=$(((size + 65535) / 65536 * 65536))
  if [ ! -b "$ns/disk" ]; then
    truncate -s "$size" -- "$ns/disk" && losetup --set-capacity "$(readlink -- "$ns/dev/disk0")" || exit
  else
    # The size of an nbd device is fixed, and larger than the disk: of that DEVICE shows a part, and now one more.
    ((size <= $(blockdev --getsize64 "$ns/disk"))) || { echo 'vlb-resize: by nbd a disk grows by at most 128G here, otherwise by disk.size in vlb.yaml' >&2 && exit 1; }
    blockdev --flushbufs "$ns/dev/disk0"
    loop_device "$ns/disk" --sizelimit "$size" || exit
    keep_open
    ln -sfn "$device" "$ns/dev/disk0"
    rm -f "$ns"/dev/place*
    show_partitions "$ns" ''
  fi
  printf '%s\n' "$size" >"$ns/dev/size"
}

# Scripts for vm-layer-builder make TARGET and connect DEVICE by themselves. Here that is done already, and of it only the
# size is left to be heeded.
helper_qemu_img() { # NS TARGET ARGUMENT...
  local ns=$1 target=$2 size=${!#} argument
  shift 2
  case ${1-} in
    create | resize)
      for argument; do
        [ "$argument" = "$target" ] || continue
        [ "$size" != "$target" ] || exit 0
        [[ $size != +* ]] || size=$(($(<"$ns/dev/size") + $(numfmt --from=iec -- "${size#+}")))
        helper_vlb_resize "$ns" "$target" "$size"
        exit
      done
      ;;
  esac
  exec qemu-img "$@"
}

helper_qemu_nbd() { # NS TARGET ARGUMENT...
  ! about_device "$@" || exit 0
  exec qemu-nbd "${@:3}"
}

# Whether an argument is DEVICE, by its name or by the one that this is a link to.
about_device() { # NS TARGET ARGUMENT...
  local argument device
  device=$(readlink -- "$1/dev/disk0")
  for argument in "${@:3}"; do
    case ${argument#--*=} in "$1/dev/disk0" | "$device") return ;; esac
  done
  return 1
}

# The kernel is not told of partitions (it may know none), but the nodes beside DEVICE are.
helper_partx() { # NS TARGET ARGUMENT...
  if about_device "$@" && [[ " ${*:3} " =~ \ (--add|--update|--delete|-[aud])\  ]]; then
    show_partitions "$1" "$2"
    exit
  fi
  exec partx "${@:3}"
}

helper_partprobe() { # NS TARGET ARGUMENT...
  ! about_device "$@" || { show_partitions "$1" "$2"; exit; }
  exec partprobe "${@:3}"
}

# Nodes for the partitions, named as the kernel would: DEVICEp1. One that is where and what it was stays.
show_partitions() { # NS TARGET
  local number place node device
  device=$(readlink -- "$1/dev/disk0")
  while read -r number place; do
    [ "$(cat "$1/dev/place$number" 2>/dev/null)" != "$place" ] || continue
    # What was written by way of the old node must be seen by way of the new one.
    [ ! -e "$1/dev/disk0p$number" ] || blockdev --flushbufs "$1/dev/disk0p$number"
    node=$(helper_vlb_partition "$1" "$2" "$number") || return
    ln -sfn "$node" "$1/dev/disk0p$number"
    printf '%s' "$place" >"$1/dev/place$number"
  done < <(sfdisk --dump -- "$device" 2>/dev/null | sed -nE "s|^${device}p([0-9]+) : start= *([0-9]+), size= *([0-9]+).*|\\1 \\2 \\3|p")
}

# Process 1 of a modify-disk script's PID namespace.
beside() { # WORK COMMAND...
  local node bin
  mount -t proc -o nosuid,nodev,noexec proc /proc || exit 70
  cd "$1/src" || exit 70
  show_partitions "$1/ns" ''
  for node in "$1"/ns/dev/disk0p*; do
    [ ! -e "$node" ] || export "VLB_PARTITION_${node##*p}=$node"
  done
  # By a name without the path: a colon in that would end it.
  exec {bin}<"$1/ns/bin"
  PATH=/proc/1/fd/$bin:$PATH
  export -n PWD OLDPWD SHLVL LC_ALL
  "${@:2}" </dev/null {bin}<&- &
  wait $!
  exit $?
}

# Unmounts what was not mounted before, the last first.
unmount_since() { # IDS
  local id place
  # That of the processes that are gone.
  umount /proc 2>/dev/null
  while read -r id _ _ _ place _; do
    grep -qxF "$id" <<<"$1" || printf '%s\n' "$place"
  done </proc/self/mountinfo | tac | while IFS= read -r place; do
    place=$(decoded "$place")
    # In a subshell: told by what it prints.
    sync -f -- "$place" >&2 || printf lost
    umount -- "$place" >&2 || echo "git vlb: $place stays mounted" >&2
  done
}

# Waits until the disk's device and those of its partitions are free, which the kernel sees to by itself.
free_devices() { # DEVICE
  local used
  for _ in {1..600}; do
    used=$(losetup --list --noheadings --output NAME,BACK-FILE | awk -v device="$1" -v disk="$disk" '$1 == device || $2 == device || $2 == disk { print $1 }')
    [ -n "$used" ] || return 0
    sleep 0.05
  done
  die VLB_KILLED "the disk stays in use, by ${used//$'\n'/, }, after the script has ended"
}

# Runs a build-base script on the host. What it writes to OUTPUT becomes WORK/disk.
action_host() { # WORK SCRIPT VARIABLE=VALUE...
  local work=$1 script=$2 status
  shift 2
  mkdir -p "$work/scratch/tmp"
  chown -R 0:0 -- "$work/src"
  limited unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc --propagation private -- \
    env -i -C "$work/src" "$@" "TMPDIR=$work/scratch/tmp" "./$script" "$work/scratch/disk" >&2
  status=$?
  tell_limits
  if [ -f "$work/scratch/disk" ] && [ ! -L "$work/scratch/disk" ]; then
    chown --reference="$work" -- "$work/scratch/disk" && chmod 0644 "$work/scratch/disk" && mv -- "$work/scratch/disk" "$work/disk"
  fi
  printf 'exit %s\n' "$status"
}

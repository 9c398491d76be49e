# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Attaches a disk image by the kernel's nbd, for hosts where FUSE exports do not work.
#
# qemu-nbd stays in NBD_DO_IT, an ioctl(2) on the device, for as long as the device is connected: the kernel disconnects it
# when that process ends, however it ends. (A device connected by netlink, as nbd-client does it, would stay.) The device
# is bound over the file that a FUSE export would be, and partitions are mounted from it by offset, in the same way: the
# kernel need not scan the partitions, and udev need not make nodes.

nbd=''

# What a disk may grow by while it is attached, since the size of a connected device is fixed; the engine's disk is that much
# larger meanwhile. Bytes, or nothing. To cut it off again takes qemu-img a second for every 100 GiB or so.
room=''

# Connects the device that `attach_by` names, or the first that is free.
attach_nbd() { # FILE FORMAT
  local device devices=() said='' status
  type -P qemu-nbd >/dev/null || die VLB_HOST_ATTACH "qemu-nbd is not installed"
  for device in /dev/nbd*; do
    [[ $device =~ ^/dev/nbd[0-9]+$ && -b $device ]] && devices+=("$device")
  done
  if ((${#devices[@]} == 0)); then
    [ ! -e /sys/block/nbd0 ] || die VLB_HOST_ATTACH "there is no /dev/nbd0, though the kernel has it; a container has to be given its nodes"
    die VLB_HOST_ATTACH "there is no /dev/nbd0: the kernel's module nbd is not loaded"
  fi
  if [[ $attach_by == /* ]]; then
    # Only one of these: what is on another device would be overwritten.
    [[ " ${devices[*]} " == *" $attach_by "* ]] || die VLB_HOST_DEVICE "there is no device $attach_by, but ${devices[*]}"
    vacated "$attach_by" || die VLB_HOST_DEVICE "$attach_by is in use$(nbd_user "$attach_by")"
    devices=("$attach_by")
  fi
  # One for each disk: who still hears what the first qemu-nbd says would take the words of the second.
  [ -p "$disk.words" ] || mkfifo "$disk.words"
  [ -z "$room" ] || qemu-img resize -q -f "$2" -- "$1" "+$room" >&2 || die VLB_HOST_ATTACH "cannot make room for the disk to grow"
  for device in "${devices[@]}"; do
    [ ! -e "/sys/block/${device##*/}/pid" ] || continue
    connect "$device" "$1" "$2" && return
    status=$?
    # Another device would do no better.
    ((status == in_use)) || die VLB_HOST_ATTACH "qemu-nbd cannot connect $device: ${said:-it ended with status $status}"
  done
  [[ $attach_by != /* ]] || die VLB_HOST_DEVICE "$attach_by is in use$(nbd_user "$attach_by")"
  die VLB_HOST_DEVICE "all ${#devices[@]} nbd devices are in use"
}

# The same disk, at the size that it has come to.
attach_again() { # FILE FORMAT BYTES
  detach_nbd
  qemu-img resize -q --shrink -f "$2" -- "$1" "$3" >&2 || die VLB_KILLED "the disk could not be cut to its size; see the log"
  room=''
  attach_nbd "$1" "$2"
}

in_use=75

connect() { # DEVICE FILE FORMAT; sets `nbd`, `said`
  local line
  said=''
  # cache=unsafe: the engine flushes the file once, when it is finished. The socket's path: the kernel takes no more than
  # 107 bytes, and qemu-nbd goes to another folder. A mount namespace of its own: see attach_fuse.
  unshare --mount --propagation private -- \
    qemu-nbd --verbose --connect="$1" --socket=/proc/self/fd/9/socket --format="$3" --cache=unsafe --discard=unmap -- "$2" \
    9<"$ns" </dev/null >"$disk.words" 2>&1 &
  daemon_pid=$!
  exec {from_daemon}<"$disk.words" {to_daemon}>/dev/null
  while IFS= read -r -t 60 line <&"$from_daemon"; do
    # From that word on the device is ours: the kernel lets no second one connect it.
    if [[ $line == *' is now connected to '* ]] && started "$1"; then
      nbd=$1
      cat <&"$from_daemon" >&2 &
      mount --bind -- "$1" "$disk" || die VLB_HOST_KERNEL "cannot bind $1 to a file"
      return
    fi
    said+=${said:+ }$line
  done
  # Nothing was written yet, and one that hangs would not hear less.
  kill -KILL "$daemon_pid" 2>/dev/null
  wait "$daemon_pid"
  exec {from_daemon}<&- {to_daemon}>&-
  # Somebody was faster: the socket is the first thing that is set, and by one alone.
  [[ $said != *'Failed to set NBD socket'* ]] || return "$in_use"
  return 1
}

# The ioctl that starts the device is the next thing that qemu-nbd does, and nothing tells of it: sysfs shows that it has
# begun, and the size, which is set last. Until then the wait is for what qemu-nbd says, which is only that it has failed.
started() { # DEVICE
  local sectors _
  for _ in {1..6000}; do
    [ -e "/sys/block/${1##*/}/pid" ] && read -r sectors <"/sys/block/${1##*/}/size" && ((sectors > 0)) && return
    IFS= read -r -t 0.01 line <&"$from_daemon" || (($? > 128)) || return
    [ -z "$line" ] || return
  done
  return 1
}

nbd_user() { # DEVICE; prints who has connected it
  local task process name
  { read -r task <"/sys/block/${1##*/}/pid"; } 2>/dev/null || return
  # It is a thread that the kernel names.
  process=$(sed -n 's/^Tgid:[[:space:]]*//p' "/proc/$task/status" 2>/dev/null)
  { read -r name <"/proc/$process/comm"; } 2>/dev/null || name='of another PID namespace, or gone'
  printf ', by process %s (%s)' "${process:-$task}" "$name"
}

# A device that is disconnected stays occupied while somebody has it open, as udev does to look at it. Waits for that, but
# not for a process that uses it.
vacated() { # DEVICE
  local pid _
  for _ in {1..500}; do
    { read -r pid <"/sys/block/${1##*/}/pid"; } 2>/dev/null || return 0
    [ ! -e "/proc/$pid" ] || return 1
    sleep 0.01
  done
  return 1
}

detach_nbd() {
  # What was written to the loop devices is in the cache of this one.
  sync -- "$disk" || die VLB_HOST_IO "what was written to the disk did not all get into the snapshot's file; see the log, and dmesg"
  qemu-nbd --disconnect "$nbd" >/dev/null || die VLB_KILLED "$nbd could not be disconnected"
  wait "$daemon_pid" || die VLB_KILLED "qemu-nbd ended with status $? before all was written"
  vacated "$nbd"
  nbd=''
  return 0
}

#!/bin/sh
# Runs the checks in a booted guest. It lies in the throw-away overlay of a boot, started by a unit of systemd or in front
# of another init, and talks to the host over a virtual port or the second serial port; see core/check-lines.ts for what it says.
#
# Any shell and few tools will do: it must run in whatever is an image. Beside it lie `settings`, `plan` (lines NUMBER
# TIMEOUT KIND NAME), `port` (the device) and checks/.
here=/.vlb-checks
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
LANG=C.UTF-8
export PATH HOME LANG
cd / || exit
. "$here/settings" # nonce, disk, root, limit, sync
umask 022

say() { printf '@vlb %s %s\n' "$nonce" "$*" >&3; }

nap() { sleep "$1" 2>/dev/null || sleep 1; }

# Whole seconds since the start, by a clock that nobody sets.
now() {
  if read -r seconds _ 2>/dev/null </proc/uptime; then seconds=${seconds%%.*}; else seconds=$((${seconds:-0} + 1)); fi
}

# A port of virtio where the kernel knows it. Without KVM a serial port may lose an interrupt, and is dead from then on.
# The serial port's node was made in the overlay; images mounted with nodev have one of their own in /dev.
open_port() {
  for port in $(virtual_ports) "$here/port" /dev/ttyS1; do
    # Opening fails with the shell where `exec` alone does it.
    (: <>"$port") 2>/dev/null && exec 3<>"$port" && return
  done
  return 1
}

virtual_ports() {
  for port in /sys/class/virtio-ports/*; do
    read -r name 2>/dev/null <"$port/name" && [ "$name" = vlb.checks ] && echo "/dev/${port##*/}"
  done
}

settle() {
  [ "$1" = systemd ] || { state=unknown && return; }
  state=$(systemctl is-system-running --wait 2>/dev/null)
  # Without --wait (systemd before 240), and while systemd cannot be asked yet.
  while :; do
    case $state in
      '' | initializing | starting | offline | unknown) nap 1 ;;
      *) return ;;
    esac
    state=$(systemctl is-system-running 2>/dev/null)
  done
}

# A folder in memory, so that neither a full nor a read-only disk is in the way.
find_room() {
  for room in /run /dev/shm /tmp "$here"; do
    room=$room/vlb-checks.$$
    mkdir "$room" 2>/dev/null && return
  done
  return 1
}

# One check: its output goes to a file, up to the limit, and the rest nowhere, so that it neither fills the memory nor
# stops the check.
run() { # NUMBER TIMEOUT KIND NAME
  rm -f "$room"/*
  now
  end=$((seconds + $2))
  {
    {
      status=0
      (check "$3" "$4" 3>&- 4>&- </dev/null 2>&1) || status=$?
      echo "$status" >"$room/status.new"
      mv "$room/status.new" "$room/status"
    } 2>/dev/null | drain 3>&- 4>&-
  } &
  status=
  while [ ! -e "$room/status" ]; do
    nap 0.1
    now
    [ "$seconds" -lt "$end" ] || [ -e "$room/status" ] || { status=timeout && break; }
  done
  read -r session 2>/dev/null <"$room/session" || session=
  # Whatever it left behind holds its output open.
  [ -z "$session" ] || kill -9 "-$session" 2>/dev/null || kill -9 "$session" 2>/dev/null
  [ -n "$status" ] || read -r status <"$room/status"
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -e "$room/read" ] && break
    nap 0.1
  done
  if [ -s "$room/out" ]; then
    LC_ALL=C sed "s/^/@vlb $nonce out $1 /" <"$room/out" >&3
    # Behind a last line without an end.
    echo >&3
  fi
  [ ! -s "$room/more" ] || say cut "$1"
  say end "$1" "$status"
}

# Byte by byte, so that what came is in the file whenever this is killed, and no more is read than is kept.
drain() {
  dd bs=1 count="$limit" of="$room/out" 2>/dev/null
  dd bs=1 count=1 of="$room/more" 2>/dev/null
  cat >/dev/null
  : >"$room/read"
}

# In a shell of its own, and in its place: else that one would tell of a check that was killed, among its output.
check() { # KIND NAME
  if [ "$1" = builtin ]; then
    builtin_"$2"
    return
  fi
  cd "$here/checks" || return
  VLB_CHECK=$2
  export VLB_CHECK
  if command -v setsid >/dev/null; then
    # shellcheck disable=SC2016 # for the inner shell
    exec setsid sh -c 'echo $$ >"$1"; exec "$2"' sh "$room/session" "./$2"
  else
    # shellcheck disable=SC2016
    exec sh -c 'echo $$ >"$1"; exec "$2"' sh "$room/session" "./$2"
  fi
}

# --- the built-in checks ----------------------------------------------------------------------------------------------

builtin_boot_settled() {
  case $state in
    running) echo "systemd says: running" ;;
    degraded) echo "systemd says: degraded, which failed units are" ;;
    unknown) echo "the console said what it was to say" ;;
    *) echo "systemd says: $state" && systemctl list-jobs --no-pager 2>&1 | head -n 20 && return 1 ;;
  esac
}

builtin_failed_units() {
  [ "$state" != unknown ] || { echo "no systemd here" && return 77; }
  units=$(systemctl list-units --state=failed --plain --no-legend --no-pager) || return
  [ -n "$units" ] || return 0
  echo "$units"
  echo "$units" | while read -r unit _; do
    echo
    echo "journal of $unit:"
    journalctl --boot --unit="$unit" --lines=20 --no-pager --output=short-monotonic 2>&1
  done
  return 1
}

builtin_root_space() {
  # Not all file systems count inodes, nor does each df.
  df -P -i / 2>/dev/null | {
    read -r _
    read -r _ all used free _
    case $all in '' | *[!0-9]* | 0) exit 0 ;; esac
    echo "$free of $all inodes free"
    [ $((used * 100)) -lt $((all * 97)) ]
  } || return
  df -P / | {
    read -r _
    read -r _ blocks used free _
    [ "${blocks:-0}" -gt 0 ] || { echo "df tells nothing of /" && exit 77; }
    echo "$((free / 1024)) MiB of $((blocks / 1024)) MiB free"
    [ $((used * 100)) -lt $(((used + free) * 97)) ]
  }
}

# disk: bytes that the disk must have; root: bytes of the root file system's place. A file system says less of itself
# than the place it lies in: its own tables are left out.
builtin_disk_size() {
  for name in vda sda; do
    [ -r "/sys/class/block/$name/size" ] && read -r sectors <"/sys/class/block/$name/size" && break
  done
  if [ -n "${sectors:-}" ]; then
    echo "the disk has $((sectors / 2048)) MiB of $((disk / 1048576)) MiB"
    [ "$((sectors * 512))" -ge "$disk" ] || return 1
  fi
  df -P / | {
    read -r _
    read -r _ blocks _
    echo "the root file system has $((${blocks:-0} / 1024)) MiB, in a place of $((root / 1048576)) MiB"
    [ $((${blocks:-0} * 1024 / 1000)) -ge $((root / 1000 * 8 / 10)) ]
  }
}

builtin_clock() {
  here_now=$(date +%s)
  off=$((here_now - epoch))
  echo "$off s from the host's clock"
  [ "$off" -gt -300 ] && [ "$off" -lt 300 ]
}

# ----------------------------------------------------------------------------------------------------------------------

settle "$1"
until open_port; do nap 1; done
stty raw -echo <&3 2>/dev/null
# Who asks too early is not heard: said until it is.
say ready "$state"
while read -r word mark epoch <&3; do [ "$word $mark" = "go $nonce" ] && break; done
epoch=${epoch%%[!0-9]*}
# Not before the system is up: before other inits than systemd, a file system may yet be mounted over such a folder.
until find_room; do nap 1; done
# Before other inits than systemd there were no drivers yet.
[ "$1" = systemd ] || open_port
while read -r number timeout kind name <&4; do
  say start "$number"
  run "$number" "$timeout" "$kind" "$name"
done 4<"$here/plan"
# For a look at the disk afterwards.
[ "$sync" = 0 ] || sync
say done

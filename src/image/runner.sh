#!/usr/bin/env bash
# The one privileged part of git vlb. Attaches a disk image, mounts its root file system and runs a layer's script in
# it, all inside private mount and PID namespaces: whatever happens, the kernel clears up when their first process ends.
#
# usage: runner.sh enter WORK ATTACH MEMORY ACTION ARGUMENT...
# WORK: scratch folder with layer.qcow2, src/ and an empty ns/; ATTACH: auto, fuse, nbd, or an nbd device such as /dev/nbd0;
# MEMORY: the bytes that a script may take, with a ~ before them where that need not be enforced, or none
#
# (for the action `shell`, these two are the user's terminal: WORK/tether and WORK/answers stand in for them)
# standard input  lines "ID BASE64", the secrets of a script, then "go". Then it is only watched: when it ends, everything
#                 here ends. So does it when whoever started us dies.
# standard output lines for the engine: "exit STATUS" of a script, "error CODE TEXT", and what `probe` found
# standard error  what scripts and tools print: the build log
set -u -o pipefail
umask 022
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

# Tells the engine something. A shell has standard output for itself, so it is told by a file then.
answers=1
tell() { # LINE
  printf '%s\n' "$1" >&"$answers"
}

die() { # CODE TEXT
  tell "error $1 ${2//$'\n'/ }"
  exit 70
}

enter() { # WORK ATTACH MEMORY ACTION ARGUMENT...
  local status apart groups=() lacking=''
  make_groups "$3"
  printf -v groups_line '%s\n' "$lacking" "${groups[@]}"
  apart=(unshare --mount --pid --fork --kill-child --propagation private -- "$BASH" "$0" supervise "$1" "$2" "$groups_line" "${@:4}")
  # Of lend_devices; read even when it is gone.
  exec {lent}<>"$1/lent"
  if [ "$4" = shell ]; then
    "${apart[@]}" {lent}<&-
    status=$?
    detach_lent
  else
    piped "${apart[@]}"
  fi
  remove_groups
  # What root made in there, the user who owns WORK could not remove; nor root, where the script made it immutable.
  local made=("$1/src" "$1/include" "$1/scratch" "$1/lent")
  rm -rf --one-file-system -- "${made[@]}" 2>/dev/null || {
    chattr -R -f -i -a -- "${made[@]}" 2>/dev/null
    rm -rf --one-file-system -- "${made[@]}"
  }
  # What was recorded is still to be read.
  [ ! -d "$1/record" ] || { chattr -R -f -i -a -- "$1/record"; chown -R -h --reference="$1" -- "$1/record"; }
  exit "$status"
}

# What a script told the kernel to keep, where nobody lived to take it back. Such a device is known by the file behind it.
detach_lent() {
  local device backing
  while read -r device backing; do
    [ "$(lent_device "$device")" != "$device $backing" ] || losetup --detach "$device"
  done <&"$lent"
}

lent_device() { # DEVICE; prints what it is, in one line
  losetup --list --noheadings --raw --output NAME,BACK-MAJ:MIN,BACK-INO -- "$1" 2>/dev/null
}

piped() { # COMMAND...; sets `status`
  # What we are given as standard error may be a socket, which opens for nobody who writes to /dev/stderr: by way of
  # cat it is a pipe. That also outlives us, should we be killed, until all that may write to it is gone.
  {
    "$@" 2>&1 >&4 4>&- {lent}<&- | {
      cat >&2
      detach_lent
    } 4>&-
    status=${PIPESTATUS[0]}
  } 4>&1
}

secrets=()

# Process 1 of the PID namespace: when it ends, the kernel kills all others in there, drops the mounts with the mount
# namespace and with them the loop device (which mount(8) marks as auto-clear).
supervise() { # WORK ATTACH GROUPS ACTION ARGUMENT...
  # shellcheck disable=SC2034 # for attach
  local work=$1 attach_by=$2 action=$4
  take_groups "$3"
  shift 4
  if [ "$action" = shell ]; then
    # Opened to read alone, a fifo whose writer has gone meanwhile would be waited for without end (fifo(7)).
    exec 4<>"$work/tether" {answers}>"$work/answers"
    exec 3<"$work/tether" 4>&-
  else
    exec 3<&0 </dev/null
  fi
  while read -r <&3 && [ "$REPLY" != go ]; do secrets+=("$REPLY"); done
  # Process 1 only gets signals it has a handler for.
  trap 'exit 143' TERM
  {
    read -r <&3
    # At most a moment: see loop_device.
    for _ in {1..50}; do
      [ -e "$work/ns/settling" ] || break
      sleep 0.02
    done
    kill -TERM 1
  } &
  # bash gives a background command /dev/null to read unless it is told otherwise.
  "action_$action" "$work" "$@" 3<&- <&0 &
  wait $!
  exit $?
}

# All of them take bash longer to read than most of what is in them takes.
case $1:${5-} in
  enter:* | show_parents:*) parts=(limits) ;;
  supervise:layer | supervise:shell) parts=(attach limits nbd partitions paths lend packages layer) ;;
  supervise:diff) parts=(attach limits nbd partitions paths lend diff) ;;
  inside:*) parts=(partitions paths lend layer) ;;
  *) parts=(attach limits nbd partitions probe paths lend packages layer host seal diff checks) ;;
esac
for part in "${parts[@]}"; do
  # shellcheck source=/dev/null
  . "${BASH_SOURCE[0]%/*}/runner/$part.sh"
done

"$@"

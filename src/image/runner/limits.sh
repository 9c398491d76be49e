# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# How much of the host a script may take: memory, and processes, by control groups of its own (cgroups(7)).
#
# The groups are made outside of all namespaces, so that they can be named after a process that others can look for, and
# removed when all is over. Whatever is killed before that leaves an empty folder of a dead process, which the next one
# removes. Their names hold the PID namespace, too: another container's processes have ids of their own.

# Far more than a parallel build has, and few enough for the host to go on working.
most_processes=4096

# Makes the groups. Sets `groups`, their folders, or `lacking`, if the limit was asked for and cannot be had.
make_groups() { # MEMORY
  local memory=${1#\~} parent parents=() made=() space
  [ "$memory" != none ] || return 0
  find_parents
  space=$(readlink /proc/self/ns/pid) && space=${space//[!0-9]/}
  for parent in "${parents[@]}"; do
    remove_stale "$parent" "$space"
    made+=("$parent/git-vlb-$space-$$")
  done
  if ((${#made[@]} > 0)) && mkdir -- "${made[@]}" 2>/dev/null; then
    groups=("${made[@]}")
    set_limits "$memory" && return
    remove_groups
  fi
  groups=()
  [ "$1" = "~$memory" ] || lacking=memory
}

# A path of mountinfo, where a blank is \040 (proc_pid_mountinfo(5)): printf would take a digit behind that for one of its.
decoded() { # PATH
  printf %b "${1//\\0/\\00}"
}

# Sets `parents`: the folders in which groups for memory and processes can be made, one for both in the second version.
find_parents() {
  local id paths place root at controllers own='' memory='' pids='' unified='' line
  local -A path=() mounted=() top=()
  while IFS=: read -r id controllers at; do
    if [ "$id" = 0 ]; then
      path[unified]=$at
    else
      for line in ${controllers//,/ }; do path[$line]=$at; done
    fi
  done </proc/self/cgroup 2>/dev/null
  while read -r _ _ _ root place line; do
    case $line in
      *' - cgroup2 '*) mounted[unified]=$(decoded "$place") top[unified]=$root ;;
      *' - cgroup '*)
        for id in memory pids; do
          case ,${line##* }, in *,"$id",*) mounted[$id]=$(decoded "$place") top[$id]=$root ;; esac
        done
        ;;
    esac
  done </proc/self/mountinfo
  if [ -n "${mounted[memory]-}" ] && [ -n "${mounted[pids]-}" ]; then
    # Below our own, whose limits hold for it, too.
    for id in memory pids; do
      at=${path[$id]-/}
      [ "${top[$id]}" = / ] || at=${at#"${top[$id]}"}
      own=${mounted[$id]}${at%/}
      [ -d "$own" ] || own=${mounted[$id]}
      parents+=("$own")
    done
  elif [ -n "${mounted[unified]-}" ]; then
    # A group that holds processes hands on no controllers; one above it does.
    at=${path[unified]-/}
    [ "${top[unified]}" = / ] || at=${at#"${top[unified]}"}
    at=${at%/}
    for (( ; ; )); do
      own=${mounted[unified]}$at
      line=''
      { read -r line <"$own/cgroup.subtree_control"; } 2>/dev/null
      [[ " $line " != *' memory '* || " $line " != *' pids '* ]] || { parents=("$own") && return; }
      [ -n "$at" ] || return
      at=${at%/*}
    done
  fi
}

# For doctor, which is not root.
show_parents() {
  local parents=()
  find_parents
  ((${#parents[@]} == 0)) || printf '%s\n' "${parents[@]}"
}

# What a process left that was killed. Of another PID namespace we do not see the processes: a group of such a one is used by
# somebody, or about to be, or it is old.
remove_stale() { # FOLDER NAMESPACE
  local group
  for group in "$1"/git-vlb-*; do
    case ${group##*/} in
      'git-vlb-*') continue ;;
      "git-vlb-$2"-*) [ ! -e "/proc/${group##*-}" ] ;;
      *) [ -n "$(find "$group" -maxdepth 0 -mmin +10 2>/dev/null)" ] ;;
    esac && rmdir -- "$group" 2>/dev/null
  done
}

set_limits() { # BYTES
  local group
  for group in "${groups[@]}"; do
    # Swap counts, or is none: what a script takes too much would only move there.
    if [ -e "$group/memory.limit_in_bytes" ]; then
      echo "$1" >"$group/memory.limit_in_bytes" || return
      [ ! -e "$group/memory.memsw.limit_in_bytes" ] || echo "$1" >"$group/memory.memsw.limit_in_bytes" || return
    elif [ -e "$group/memory.max" ]; then
      echo "$1" >"$group/memory.max" || return
      [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max" || return
    fi
    [ ! -e "$group/pids.max" ] || echo "$most_processes" >"$group/pids.max" || return
  done 2>/dev/null
}

remove_groups() {
  ((${#groups[@]} > 0)) || return 0
  local _
  for _ in {1..50}; do
    # Its processes have ended; the kernel may take a moment to count them off.
    rmdir -- "${groups[@]}" 2>/dev/null && return
    [ -d "${groups[0]}" ] || [ -d "${groups[-1]}" ] || return 0
    sleep 0.02
  done
}

# Takes over what `enter` found: sets `groups`, and `own_group`, an option for unshare(1) that hides the others' names.
take_groups() { # LINES
  own_group=()
  mapfile -t groups <<<"${1%$'\n'}"
  lacking=${groups[0]}
  groups=("${groups[@]:1}")
  ((${#groups[@]} == 0)) || own_group=(--cgroup)
}

# Runs a command in the groups.
limited() { # COMMAND...
  [ -z "$lacking" ] || die VLB_HOST_KERNEL "vlb.memory cannot be obeyed here: no control group for memory can be made"
  (
    for group in "${groups[@]}"; do
      # To move a whole process the kernel waits until no other one is starting or ending: for some 10 ms. The first version of
      # control groups takes single threads as well, which is all that this has.
      if [ -e "$group/tasks" ]; then group+=/tasks; else group+=/cgroup.procs; fi
      echo 0 >"$group" || { echo 'git vlb: cannot limit the script' >&2 && exit 70; }
    done
    exec "$@"
  )
}

# Says in the log, and to the engine, what the limits did to the script.
tell_limits() {
  local group file name count
  for group in "${groups[@]}"; do
    for file in memory.oom_control memory.events pids.events; do
      [ -e "$group/$file" ] || continue
      while read -r name count; do
        case $file:$name in
          memory*:oom_kill) ((count == 0)) || said_limit memory "memory ran out, and the kernel ended processes of the script: $count (see vlb.memory)" ;;
          pids*:max) ((count == 0)) || said_limit processes "the script may run $most_processes processes at once, and wanted more" ;;
        esac
      done <"$group/$file"
    done
  done
}

said_limit() { # WHICH TEXT
  echo "git vlb: $2" >&2
  tell "limit $1"
}

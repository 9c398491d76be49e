# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Runs a layer's script, or a shell, inside the image.

# Runs a build-layer script inside the image.
action_layer() { # WORK START SIZE FILESYSTEM NETWORK HOSTNAME SCRIPT INTERPRETER VARIABLE=VALUE...
  local work=$1 start=$2 size=$3 type=$4 network=$5 name=$6 script=$7 interpreter=$8 ns=$1/ns status option=() session=() made=() made_files=() lent='' point used before found=''
  shift 8
  meanwhile() {
    meanwhile() { :; }
    prepare "$work"
  }
  attach "$work" "$work/layer.qcow2" qcow2
  mount_root "$start" "$size" "$type"
  mount_others "$work" "$start"
  count_used && before=$used
  if [ -n "$interpreter" ]; then
    find_within "$root" "$interpreter" && [ -x "$found" ] || die VLB_SCRIPT_INTERPRETER "$interpreter"
  fi
  check_architecture "$found"
  for point in dev proc sys run tmp mnt; do mount_point "$point"; done
  lend_dns
  lend_caches "$work"
  lend_binds "$work"
  lend_devices "$work" "$start"
  forbid_services
  [ "$network" = none ] && option=(--net)
  # A shell controls its terminal, so that ^C and ^Z reach what runs in it.
  [ -z "$script" ] && [ -t 0 ] && session=(setsid --ctty)
  # A PID namespace of its own: daemons that the script leaves behind end with it, before anything is unmounted. The
  # daemon's control pipe stays out of it: whoever writes there can open any file of the host.
  limited unshare --mount --pid --ipc --uts "${option[@]}" "${own_group[@]}" --fork --kill-child --propagation private -- \
    "${session[@]}" "$BASH" "$0" inside "$work" "$network" "$name" "$dns_file" "$script" "$lent" "$@" {from_daemon}<&- {to_daemon}>&-
  status=$?
  return_devices
  tell_limits
  [ -s "$ns/left" ] || die VLB_HOST_KERNEL "cannot set up the sandbox for the script; see the log for what failed"
  sound_disk
  [ "$status" = 0 ] || tell_free
  return_dns
  allow_services
  [ "$status" != 0 ] || note_packages "$work"
  print_fstab "$root"
  trim_root "$work/layer.qcow2" "$before"
  unmount_others
  remove_made
  unmount_root
  detach
  tell "exit $status"
}

# All that the image is not needed for, while its disk is being attached.
prepare() { # WORK
  lay_out_dev "$1/ns"
  copy_dns
  lend_secrets
  chown -R 0:0 -- "$1/src"
  [ ! -d "$1/include" ] || chown -R 0:0 -- "$1/include"
}

# A script that failed may have filled the disk.
tell_free() {
  local blocks size
  read -r blocks size < <(stat -f -c '%a %S' -- "$root") && tell "free $((blocks * size))"
}

# The same without a script: a shell, on an overlay that is thrown away.
action_shell() { # as action_layer
  action_layer "$@"
}

# Process 1 of the script's own namespaces. Its values come as arguments: in the environment of a program of the host's,
# LD_PRELOAD or BASH_ENV would name a file of the host.
inside() { # WORK NETWORK HOSTNAME DNS_FILE SCRIPT LENT VARIABLE=VALUE...
  # Standard output is the engine's; the script's goes to the log.
  [ -z "$5" ] || exec >&2
  cd "$1/ns/root" || exit 70
  local folder place in out from to leaver variable numbers=() become
  {
    list_mounts "$1" >"$1/ns/mounts" && mount --all --fstab "$1/ns/mounts" &&
      name_host "$3" "$1/ns/probe" &&
      while IFS=$'\t' read -r folder place; do
        [ -z "$folder" ] || show_lent "$folder" "$place" || exit 70
      done <<<"$6"
  } || { echo 'git vlb: cannot set up the sandbox' && exit 70; }
  case $4 in
    '' | "$dns_target") ;;
    cover:*) mount --bind run/vlb/resolv.conf ".${4#cover:}" ;;
    *) mkdir -p ".${4%/*}" && ln -sf "$dns_target" ".$4" ;;
  esac
  if [ "$2" = none ]; then ip link set lo up 2>/dev/null; fi
  # Short of memory, the kernel takes the script first, not the host's programs. Nor are its dumps for the host's collector.
  echo 500 >proc/self/oom_score_adj 2>/dev/null
  ulimit -c 0
  # bash itself does not let these be set.
  for variable in "${@:7}"; do [[ $variable != @(UID|EUID|PPID)=* ]] || numbers+=("$variable"); done
  # Leaving the host takes powers that the script must not have, and to be rid of those takes a program of the host. So the
  # script's process is made before, without them, and waits. This one keeps them, which keeps the script from looking into
  # it (ptrace(2)): the host's files that it has open could be written to.
  exec {in}<&0 {out}>&1
  coproc leaver { leave_host "$1/ns"; }
  # Copies: bash closes the originals in what it starts.
  exec {from}<&"${leaver[0]}" {to}>&"${leaver[1]}"
  become=(env -i "${numbers[@]}" setpriv --bounding-set "$kept_powers" --inh-caps -all --ambient-caps -all --
    "$BASH" "${0%/*}/runner/in-image.sh" "$in" "$out" "$5" "${@:7}")
  if [ -n "$5" ]; then
    "${become[@]}" <&"$from" >&"$to" &
    wait $!
  else
    "${become[@]}" <&"$from" >&"$to"
  fi
  exit $?
}

# What a script keeps of root's powers (capabilities(7)): what package managers, the scripts of packages and `chattr` take.
# Not among them is what acts on the running kernel, its devices, its network or other processes, nor what opens files past
# their paths (CAP_DAC_READ_SEARCH). Nodes can be made, and opened nowhere: no mount here lets them be, and without
# CAP_SYS_ADMIN there is no other mount.
kept_powers=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+linux_immutable
kept_powers+=,+net_bind_service,+sys_chroot,+mknod,+audit_write,+setfcap

# What root can change the running kernel by, also without any powers, and where its memory and keys show.
kernel_files=(sys sysrq-trigger irq bus fs acpi scsi mtrr asound driver dynamic_debug)
hidden_files=(kcore keys key-users kmsg kpagecgroup kpagecount kpageflags sched_debug timer_list vmallocinfo slabinfo)

nodes=(null zero full random urandom tty)

# What is mounted where a script runs, as a table for one mount(8) (fstab(5)), which also makes the folders below /run.
list_mounts() { # WORK
  local node here work
  in_table "$PWD" && here=$in_table
  in_table "$1" && work=$in_table
  # First, so that nothing of this table is in it.
  echo "/ $work/ns/host none rbind"
  echo "proc $here/proc proc nosuid,nodev,noexec"
  echo "sysfs $here/sys sysfs ro,nosuid,nodev,noexec"
  echo "$work/ns/dev $here/dev none bind,nosuid,nodev,noexec"
  # The host's nodes: what is mounted at /dev itself allows none.
  for node in "${nodes[@]}"; do echo "/dev/$node $here/dev/$node none bind"; done
  for node in "${kernel_files[@]}"; do
    [ ! -e "/proc/$node" ] || echo "$here/proc/$node $here/proc/$node none bind,ro,nosuid,nodev,noexec"
  done
  for node in "${hidden_files[@]}"; do
    [ ! -e "/proc/$node" ] || echo "/dev/null $here/proc/$node none bind,ro"
  done
  echo "devpts $here/dev/pts devpts newinstance,ptmxmode=0666,mode=0620,nosuid,noexec"
  echo "shm $here/dev/shm tmpfs mode=1777,nosuid,nodev"
  echo "run $here/run tmpfs mode=0755,nosuid,nodev"
  echo "lock $here/run/lock tmpfs mode=1777,nosuid,nodev,noexec,X-mount.mkdir"
  echo "tmp $here/tmp tmpfs mode=1777,nosuid,nodev"
  echo "$work/ns/dns $here/run/vlb none bind,X-mount.mkdir"
  echo "$work/ns/secrets $here/run/secrets none bind,X-mount.mkdir"
  # The host's file system: without nodev a node made there would open the host's disks.
  echo "$work/src $here/mnt none bind,nosuid,nodev"
  [ ! -d "$1/record" ] || echo "$work/record $here/run/vlb-record none bind,nosuid,nodev,X-mount.mkdir"
  [ ! -d "$1/include" ] || echo "$work/include $here/run/vlb-include none bind,ro,nosuid,nodev,X-mount.mkdir"
}

# In a container the host's /proc/sys may be one that nobody can write to.
name_host() { # NAME FOLDER
  { printf %s "$1" >/proc/sys/kernel/hostname; } 2>/dev/null && return
  mount -t proc proc "$2" && printf %s "$1" >"$2/sys/kernel/hostname" && umount -- "$2"
}

in_table() { # PATH; sets `in_table` to how fstab(5) has it
  in_table=${1//\\/\\134}
  in_table=${in_table// /\\040}
  in_table=${in_table//$'\t'/\\011}
}

# What a script will have as /dev, but for what is mounted in there; and the place for leave_host's view.
lay_out_dev() { # NS
  local node
  mkdir "$1/host" "$1/dev" "$1/dev/pts" "$1/dev/shm"
  mkfifo "$1/ready"
  for node in "${nodes[@]}"; do : >"$1/dev/$node"; done
  ln -s pts/ptmx /proc/self/fd "$1/dev/"
  ln -s fd/0 "$1/dev/stdin"
  ln -s fd/1 "$1/dev/stdout"
  ln -s fd/2 "$1/dev/stderr"
}

# Makes the image the root of this mount namespace and unmounts the host, once it is sent a line. A chroot alone would not do:
# root gets out of one. What is started when the image is the root takes files of the image, wherever it lies itself: the
# dynamic loader /etc/ld.so.preload, umount(8) /sbin/umount.ext4. So what unmounts is started before, with another view of
# the host's files for its root, which pivot_root(2) leaves alone and which goes with all else of the host. NS/left then has a
# line.
leave_host() { # NS
  local image left ready
  exec {image}<. {left}>"$1/left" {ready}<>"$1/ready"
  # Put over /mnt, the old root leaves no folder behind: unmounted, /mnt shows the layer's files again.
  {
    read -r && read -r -u "$ready" && [ "$REPLY" = in ] && pivot_root . mnt && echo
  } | {
    chroot "$1/host" "$BASH" -c 'echo in >&"$3" && read -r && umount -i -c -l -- "/proc/self/fd/$1/mnt" && echo >&"$2" && echo left' \
      bash "$image" "$left" "$ready" || {
      echo out >&"$ready"
      echo 'git vlb: cannot leave the host file system' >&2
    }
  }
}

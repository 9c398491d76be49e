# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Runs a layer's script, or a shell, inside the image.

# Runs a build-layer script inside the image.
action_layer() { # WORK START SIZE FILESYSTEM NETWORK HOSTNAME SCRIPT INTERPRETER VARIABLE=VALUE...
  local work=$1 start=$2 size=$3 type=$4 network=$5 name=$6 script=$7 interpreter=$8 ns=$1/ns status option=() session=() made=() made_files=() lent='' point used
  shift 8
  attach "$work" "$work/layer.qcow2" qcow2
  mount_root "$start" "$size" "$type"
  mount_others "$work" "$start"
  used=$(used_bytes)
  if [ -n "$interpreter" ] && [ ! -x "$(within "$root" "$interpreter")" ]; then
    die VLB_SCRIPT_INTERPRETER "$interpreter"
  fi
  check_architecture "$interpreter"
  for point in dev proc sys run tmp mnt; do mount_point "$point"; done
  lend_dns
  lend_secrets
  lend_caches "$work"
  lend_binds "$work"
  lend_devices "$start"
  forbid_services
  chown -R 0:0 -- "$work/src"
  [ ! -d "$work/include" ] || chown -R 0:0 -- "$work/include"
  [ "$network" = none ] && option=(--net)
  # A shell controls its terminal, so that ^C and ^Z reach what runs in it.
  [ -z "$script" ] && [ -t 0 ] && session=(setsid --ctty)
  # A PID namespace of its own: daemons that the script leaves behind end with it, before anything is unmounted. The
  # daemon's control pipe stays out of it: whoever writes there can open any file of the host.
  limited unshare --mount --pid --ipc --uts "${option[@]}" "${own_group[@]}" --fork --kill-child --propagation private -- \
    "${session[@]}" "$BASH" "$0" inside "$work" "$network" "$name" "$dns_file" "$script" "$lent" "$@" {from_daemon}<&- {to_daemon}>&-
  status=$?
  tell_limits
  sound_root
  [ "$status" = 0 ] || tell_free
  return_dns
  allow_services
  [ "$status" != 0 ] || note_packages "$work"
  print_fstab "$root"
  trim_root "$work/layer.qcow2" "$used"
  unmount_others
  remove_made
  unmount_root
  detach
  tell "exit $status"
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
    mount -t proc -o nosuid,nodev,noexec proc proc &&
      printf %s "$3" >proc/sys/kernel/hostname &&
      mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys &&
      make_dev "$1/ns" &&
      mount -t tmpfs -o mode=0755,nosuid,nodev run run &&
      mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp &&
      mkdir -m 1777 run/lock && mkdir run/vlb &&
      mount --bind "$1/ns/dns" run/vlb &&
      # The host's file system: without nodev a node made there would open the host's disks.
      mount -o bind,nosuid,nodev "$1/src" mnt &&
      mkdir run/secrets && mount --bind "$1/ns/secrets" run/secrets &&
      { [ ! -d "$1/record" ] || { mkdir run/vlb-record && mount -o bind,nosuid,nodev "$1/record" run/vlb-record; }; } &&
      { [ ! -d "$1/include" ] || mount_read_only "$1/include" run/vlb-include; } &&
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
  coproc leaver { read -r && leave_host && echo left; }
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

mount_read_only() { # FOLDER PLACE
  mkdir "$2" && mount -o bind,ro,nosuid,nodev "$1" "$2"
}

# What root can change the running kernel by, also without any powers, and where its memory and keys show.
kernel_files=(sys sysrq-trigger irq bus fs acpi scsi mtrr asound driver dynamic_debug)
hidden_files=(kcore keys key-users kmsg kpagecgroup kpagecount kpageflags sched_debug timer_list vmallocinfo slabinfo)

# Makes /dev, and protects /proc.
make_dev() { # SCRATCH
  local node nodes='' here=${PWD//\\/\\134}
  mount -t tmpfs -o mode=0755,nosuid,nodev,noexec dev dev && mkdir dev/pts dev/shm || return
  # The host's nodes by bind mounts, for this tmpfs itself allows no device nodes; all by one mount(8), from a table as
  # in fstab(5).
  here=${here// /\\040}
  for node in null zero full random urandom tty; do
    : >"dev/$node" || return
    nodes+="/dev/$node $here/dev/$node none bind"$'\n'
  done
  for node in "${kernel_files[@]}"; do
    [ ! -e "proc/$node" ] || nodes+="$here/proc/$node $here/proc/$node none bind,ro,nosuid,nodev,noexec"$'\n'
  done
  for node in "${hidden_files[@]}"; do
    [ ! -e "proc/$node" ] || nodes+="/dev/null $here/proc/$node none bind,ro"$'\n'
  done
  printf %s "$nodes" >"$1/nodes" && mount --all --fstab "$1/nodes" || return
  mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,nosuid,noexec devpts dev/pts &&
    mount -t tmpfs -o mode=1777,nosuid,nodev shm dev/shm &&
    ln -s pts/ptmx dev/ptmx &&
    ln -s /proc/self/fd dev/fd && ln -s fd/0 dev/stdin && ln -s fd/1 dev/stdout && ln -s fd/2 dev/stderr
}

# Makes the image the root of this mount namespace and unmounts the host. A chroot alone would not do: root gets out of
# one. Once the image is the root, the host's programs are only found below the old root, with paths that no longer
# fit, so the last of them, umount, is started by its dynamic loader, told where its libraries are now.
leave_host() {
  local file loader='' folders=() found libraries
  while read -r file; do
    [[ $file =~ (/[^ ]+) ]] || continue
    file=${BASH_REMATCH[1]}
    [ -n "$loader" ] || [[ $file != */ld*.so* ]] || loader=$file
    folders+=("${file%/*}")
  done < <(ldd "$(type -P umount)")
  mapfile -t found < <(realpath -- "$(type -P umount)" "$loader" "${folders[@]}")
  loader=${found[1]}
  printf -v libraries '/mnt%s:' "${found[@]:2}"
  # Put over /mnt, the old root leaves no folder behind: unmounted, /mnt shows the layer's files again.
  pivot_root . mnt && cd / && "/mnt$loader" --library-path "${libraries%:}" "/mnt${found[0]}" -l /mnt && return
  echo 'git vlb: cannot leave the host file system' >&2
  return 70
}

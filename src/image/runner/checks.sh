# shellcheck shell=bash disable=SC2154 # sourced by runner.sh, which sets `root`
# Puts checks into the throw-away overlay of a boot, and has the image's init start their agent. The image itself is what
# backs the overlay: nothing of this reaches it.

checks_home=/.vlb-checks

# WORK/agent and the folder WORK/src, which has settings, plan and checks/, go to /.vlb-checks. Prints "init NAME".
action_checks() { # WORK START SIZE FILESYSTEM
  local work=$1 home found
  attach "$work" "$work/layer.qcow2" qcow2
  mount_root "$2" "$3" "$4"
  mount_others "$work" "$2"
  home=$root$checks_home
  [ -L "$home" ] || [ -e "$home" ] && die VLB_CHECK "the image has a $checks_home of its own"
  [ -x "$(within "$root" /bin/sh)" ] || die VLB_CHECK "the image has no /bin/sh, which runs the checks"
  mkdir -m 0755 -- "$home" && cp -R -- "$work/src/." "$home" && chown -R 0:0 -- "$home" && chmod 0755 "$home/agent" ||
    die VLB_CHECK "cannot copy the checks; is the image's file system full?"
  # The second serial port (Linux, Documentation/admin-guide/devices.txt): /dev need not be filled when the agent starts.
  mknod -m 0600 "$home/port" c 4 65 2>/dev/null
  find_init || die VLB_CHECK "the image has no /sbin/init, so nothing could start the checks"
  case ${found##*/} in
    systemd) start_by_systemd && tell 'init systemd' ;;
    *) start_before_init && tell 'init other' ;;
  esac || die VLB_CHECK "cannot write beside the image's init; is its file system full?"
  unmount_root
  detach
}

# As the kernel looks for it (Linux, init/main.c). Sets `init` to its path and `found` to where that leads.
find_init() {
  for init in /sbin/init /etc/init /bin/init; do
    find_within "$root" "$init" && [ -f "$found" ] && [ -x "$found" ] && return
  done
  return 1
}

# Wanted by basic.target, which all that boots goes through, and without dependencies: it waits by itself. Whatever is
# wanted must not be waited for, else the boot would wait for the agent, which waits for the boot: hence Type=simple.
start_by_systemd() {
  local units=$root/etc/systemd/system
  plain_folder /etc/systemd/system/basic.target.wants || return
  # A link of that name would lead what is written there out of the image.
  rm -f -- "$units/vlb-checks.service" "$units/basic.target.wants/vlb-checks.service" || return
  cat >"$units/vlb-checks.service" <<END || return
[Unit]
Description=checks of git vlb
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
Type=simple
ExecStart=/bin/sh $checks_home/agent systemd
StandardOutput=null
StandardError=null
OOMScoreAdjust=-900
END
  ln -s ../vlb-checks.service "$units/basic.target.wants/vlb-checks.service"
}

# Makes a folder of the image, if no symlink is on the way to it.
plain_folder() { # PATH
  local found
  find_within "$root" "$1" && [ "$found" = "$root$1" ] && mkdir -p -- "$found"
}

# In place of init stands a script that starts the agent and becomes init. Its name stays: busybox goes by it.
start_before_init() {
  local folder at name=${init##*/}
  find_within "$root" "${init%/*}" && folder=$found && find_within "$root" "$init" || return
  at=$root$checks_home/init
  mkdir -- "$at" || return
  if [ -L "$folder/$name" ]; then
    ln -s -- "${found#"$root"}" "$at/$name" && rm -- "$folder/$name" || return
  else
    mv -- "$folder/$name" "$at/$name" || return
  fi
  cat >"$folder/$name" <<END && chmod 0755 "$folder/$name"
#!/bin/sh
/bin/sh $checks_home/agent other </dev/null >/dev/null 2>&1 &
exec $checks_home/init/$name "\$@"
END
}

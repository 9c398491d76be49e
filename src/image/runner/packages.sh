# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# What the image's package manager says is installed.

# Copies what the image's package manager says is installed to WORK/packages, for the engine to parse. Nothing of the
# image is run for it, but for rpm. Not even a database is read that is where and what it was in the parent: WORK/packages
# holds what is known of that, and `state` of this one goes there.
note_packages() { # WORK
  local into=$1/packages path found known='' state='' paths=()
  local -A places=()
  [ -d "$into" ] || return 0
  for path in /etc/os-release /usr/lib/os-release /var/lib/dpkg/status /var/lib/dpkg/status.d /lib/apk/db/installed \
    /usr/lib/apk/db/installed /var/lib/pacman/local {/var/lib/rpm,/usr/lib/sysimage/rpm}/{rpmdb.sqlite,rpmdb.sqlite-wal,Packages.db,Packages}; do
    find_within "$root" "$path" || continue
    [ -e "$found" ] || continue
    places[$path]=$found
    paths+=("$found")
    state+="$path "
  done
  # A script cannot set the time of change, and inode numbers differ between files of one name.
  ((${#paths[@]} == 0)) || state+=$(TZ=UTC0 stat -c '%i %s %y %z %F' -- "${paths[@]}") || state="unknown $RANDOM $EPOCHREALTIME"
  # Small ext4 file systems keep whole seconds, and a script may take less.
  [[ $state != *'.000000000 +0000 '[rd]* ]] || state+=" $(find "${paths[@]}" -maxdepth 1 -printf '%i %P ' -type f -exec head -q -c "$most" -- {} + | head -c $((8 * most)) | cksum)"
  state=${state//$'\n'/;}
  printf '%s\n' "$state" >"$into/state"
  read -r known <"$into/known"
  [ "$state" != "$known" ] || return 0
  copy_database os "${places[/etc/os-release]-}" || copy_database os "${places[/usr/lib/os-release]-}"
  copy_database dpkg "${places[/var/lib/dpkg/status]-}"
  copy_databases dpkg "${places[/var/lib/dpkg/status.d]-}" 1 '*' ! -name '*.md5sums'
  copy_database apk "${places[/lib/apk/db/installed]-}" || copy_database apk "${places[/usr/lib/apk/db/installed]-}"
  copy_databases pacman "${places[/var/lib/pacman/local]-}" 2 desc
  [ -s "$into/dpkg" ] || [ -s "$into/apk" ] || [ -s "$into/pacman" ] || ask_rpm "$into"
}

most=$((32 * 1024 * 1024))

copy_database() { # NAME FILE
  [ -f "$2" ] && [ ! -L "$2" ] || return
  (($(stat -c %s -- "$2") <= most)) || echo "$1's database is larger than 32 MiB" >>"$into/problem"
  head -c "$most" -- "$2" >>"$into/$1"
}

copy_databases() { # NAME FOLDER DEPTH PATTERN TEST...
  [ -d "$2" ] && [ ! -L "$2" ] || return
  # An empty line after each: the last of one must not go on in the next.
  # shellcheck disable=SC2016 # a program of sed
  find "$2" -mindepth "$3" -maxdepth "$3" -type f -size -256k -name "$4" "${@:5}" -exec sed -s '$G' {} + |
    head -c "$most" >>"$into/$1"
}

# rpm's databases are of three kinds, and only the rpm that wrote one reads it for sure: the image's own. It gets a copy,
# since reading alone would write, a root file system that nobody can write to, and namespaces as a script has.
ask_rpm() { # INTO
  local name file found program='' bytes=0 files=() kind=''
  for name in rpmdb.sqlite Packages.db Packages; do
    for file in "${places[/var/lib/rpm/$name]-}" "${places[/usr/lib/sysimage/rpm/$name]-}"; do
      [ -z "$kind" ] && [ -f "$file" ] && [ ! -L "$file" ] && kind=$file && files=("$file")
    done
  done
  [ -n "$kind" ] || return 0
  [ ! -f "$kind-wal" ] || [ -L "$kind-wal" ] || files+=("$kind-wal")
  : >"$1/rpm"
  for file in /usr/bin/rpm /bin/rpm; do
    find_within "$root" "$file" && [ -f "$found" ] && [ -x "$found" ] && program=$file
  done
  [ -n "$program" ] || { echo "the image has an rpm database, but no rpm to read it" >>"$1/problem" && return; }
  for file in "${files[@]}"; do bytes=$((bytes + $(stat -c %s -- "$file"))); done
  ((bytes <= 16 * most)) || { echo "the image's rpm database is larger than 512 MiB" >>"$1/problem" && return; }
  mkdir -p "$ns/ask/src" "$ns/ask/ns/dns" "$ns/ask/ns/secrets" "$ns/ask/ns/probe"
  lay_out_dev "$ns/ask/ns"
  mount -t tmpfs -o "size=$((bytes + most * 2)),mode=0755,nosuid,nodev" ask "$ns/ask/src" && mkdir "$ns/ask/src/db" || return
  cp -- "${files[@]}" "$ns/ask/src/db/"
  ln -s "$ns/root" "$ns/ask/ns/root"
  printf '#!/bin/sh\nexec %s -qa --dbpath /mnt/db --qf "%s" >/mnt/list\n' "$program" "$(<"$1/query")" >"$ns/ask/src/ask"
  chmod 755 "$ns/ask/src/ask"
  limited timeout -k 1 60 unshare --mount --pid --ipc --uts --net "${own_group[@]}" --fork --kill-child --propagation private -- \
    "$BASH" "$0" inside_read_only "$ns/ask" none localhost '' ask '' PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 \
    {from_daemon}<&- {to_daemon}>&- ||
    echo "the image's rpm could not read its database; see the log" >>"$1/problem"
  copy_database rpm "$ns/ask/src/list"
  umount -- "$ns/ask/src"
}

inside_read_only() { # as inside
  mount -o remount,bind,ro -- "$(realpath -- "$1/ns/root")" || exit 70
  inside "$@"
}

# The packages of a disk that no script was run in: WORK/layer.qcow2, which is thrown away afterwards.
action_packages() { # WORK START SIZE FILESYSTEM
  local ns=$1/ns made=() made_files=() point
  attach "$1" "$1/layer.qcow2" qcow2
  mount_root "$2" "$3" "$4"
  mount_others "$1" "$2"
  for point in dev proc sys run tmp mnt; do mount_point "$point"; done
  note_packages "$1"
  unmount_others
  remove_made
  unmount_root
  detach
  tell 'done'
}

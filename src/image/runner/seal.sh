# shellcheck shell=bash disable=SC2154 # sourced by runner.sh, which sets `root`
# The steps of the seal: each takes away what must not be the same on two machines.
#
# All is done from outside, as root, on a file system that anybody may have made. Nothing in it runs meanwhile, so what a
# look at a path finds stays true. A folder is only touched if its path leads there without a symlink; find(1) follows
# none (-P) and stays on its file system (-xdev); a file that has other names too is unlinked, never emptied.

# Prints "sealed STEP FILES BYTES" for each step, "warning TEXT" for what was left, and "changed" if anything was written.
action_seal() { # WORK START SIZE FILESYSTEM STEP...
  local work=$1 step place files bytes changed=''
  local -A warned=()
  attach "$work" "$work/layer.qcow2" qcow2
  mount_root "$2" "$3" "$4"
  mount_others "$work" "$2"
  for step in "${@:5}"; do
    files=0 bytes=0
    "seal_$step"
    tell "sealed $step $files $bytes"
    ((files == 0)) || changed=1
  done
  if [ -n "$changed" ]; then
    tell changed
    # Frees what was deleted, here and in the layers: the image leaves it out. This overlay is thrown away, so it does
    # not matter that its tables grow.
    for place in "$root" "${trimmed[@]}"; do
      flush "$place"
      fstrim --quiet-unsupported -- "$place" || true
    done
  fi
  unmount_root
  detach
}

# --- tools ----------------------------------------------------------------------------------------------------------

# Sets `at` to that folder of the image. What lies behind a symlink may be something else altogether: it stays.
folder() { # PATH
  local rest=${1#/}/
  at=$root
  while [ -n "$rest" ]; do
    at+=/${rest%%/*}
    rest=${rest#*/}
    if [ -L "$at" ]; then
      at=$(within "$root" "$1") && [ -d "$at" ] && warn "$1 is behind a symlink, so what is there was not sealed"
      return 1
    fi
    [ -d "$at" ] || return
  done
}

warn() { # TEXT
  [ -z "${warned[$step $1]-}" ] || return 0
  warned[$step $1]=1
  tell "warning $step: ${1//[^[:print:]]/?}"
}

# Removes what find(1) finds below a folder; the folder itself stays.
remove() { # FOLDER FIND_ARGUMENT...
  local at
  folder "$1" || return 0
  count "$1" < <(find -P "$at" -xdev -mindepth 1 "${@:2}" -printf '%y %s %b\n' -delete || echo failed)
}

# Empties the files that find(1) finds below a folder. Mode and owner stay: not every daemon can make its file.
empty() { # FOLDER FIND_ARGUMENT...
  local at
  remove "$1" "${@:2}" -type f -links +1
  folder "$1" || return 0
  count "$1" < <(find -P "$at" -xdev -mindepth 1 "${@:2}" -type f -size +0c -printf '%y %s %b\n' -exec truncate -s 0 -- {} + || echo failed)
}

# Removes files and symlinks by their names' patterns.
remove_named() { # FOLDER PATTERN...
  local at
  folder "$1" || return 0
  remove_in "$1" "$at" -- "${@:2}"
}

remove_in() { # WHAT FOLDER... -- PATTERN...; FOLDER: as `folder` or `within` gave it
  local what=$1 folders=() tests=()
  while shift && [ "$1" != -- ]; do folders+=("$1"); done
  while shift && [ $# != 0 ]; do tests+=(-o -name "$1"); done
  ((${#folders[@]} > 0)) || return 0
  count "$what" < <(find -P "${folders[@]}" -xdev -mindepth 1 -maxdepth 1 \( -type f -o -type l \) \( "${tests[@]:1}" \) -printf '%y %s %b\n' -delete || echo failed)
}

# Adds up lines "TYPE LENGTH BLOCKS" of find(1). A sparse file counts with what it takes.
count() { # FOLDER
  local type length blocks
  while read -r type length blocks; do
    case $type in
      failed) die VLB_SEAL "$step: cannot change all that is in $1; is something in there immutable (chattr)?" ;;
      d) ;;
      *) ((files += 1, bytes += length < blocks * 512 ? length : blocks * 512)) ;;
    esac
  done
}

# Writes a file of ours, in place of one that may be there.
write() { # PATH MODE [LINE...]
  local place
  place=$(within "$root" "$1") && [ "$place" = "$root$1" ] && mkdir -p -- "${place%/*}" && rm -f -- "$place" &&
    printf '%s' "${@:3}" >"$place" && chmod "$2" "$place" && changed=1 && return
  die VLB_SEAL "$step: cannot write $1; is the image's disk full, or a symlink in the way?"
}

# Prints the file of the image that has one of these paths, symlinks followed as in there.
find_file() { # PATH...
  local path place
  for path; do
    place=$(within "$root" "$path") && [ -f "$place" ] && printf '%s\n' "$place" && return
  done
  return 1
}

has() { find_file "$@" >/dev/null; } # PATH...

has_systemd() { has /usr/lib/systemd/systemd /lib/systemd/systemd; }

# --- steps ----------------------------------------------------------------------------------------------------------

# Emptied, not deleted: without the file systemd takes the machine for a new installation, and does not boot at all while
# /etc is read-only. OpenRC and dbus on it are the other way round: they make a missing one and stumble over an empty one.
seal_machine-id() {
  local at file
  # A symlink leads to the other; a file is made by dbus when it is missing.
  remove /var/lib/dbus -maxdepth 1 -type f -name machine-id
  folder /etc || return 0
  file=$at/machine-id
  # What an image says that wants to be taken for a new installation (machine-id(5)).
  [ ! -L "$file" ] && [ -f "$file" ] && [ "$(head -c 13 -- "$file" | tr -d '\0')" = uninitialized ] && return
  if ! has_systemd && has /sbin/openrc-run /usr/sbin/openrc-run; then
    remove_named /etc machine-id
    return
  fi
  [ -L "$file" ] || [ -e "$file" ] || has_systemd || return 0
  remove /etc -maxdepth 1 -type l -name machine-id
  empty /etc -maxdepth 1 -name machine-id
  [ -e "$file" ] || write /etc/machine-id 0444
}

seal_ssh-host-keys() {
  local place
  remove_named /etc/ssh 'ssh_host_*key*'
  ! place=$(within "$root" /etc/dropbear) || [ -z "$(compgen -G "$place/dropbear_*_host_key")" ] ||
    warn "the host keys of dropbear in /etc/dropbear stay: remove them in a layer, and start dropbear with -R"
  has /usr/sbin/sshd /usr/bin/sshd /usr/local/sbin/sshd || return 0
  local keygen
  keygen=$(find_file /usr/bin/ssh-keygen /usr/local/bin/ssh-keygen) || keygen=''
  if [ -z "$keygen" ]; then
    warn "sshd is in the image, but no ssh-keygen: no machine can make its host keys"
  elif has_systemd; then
    keys_by_systemd "${keygen#"$root"}" || warn_no_keys
  else
    keys_by_init_script || warn_no_keys
  fi
}

warn_no_keys() { warn "nothing known to git vlb starts sshd in this image: have host keys made before it starts"; }

# A unit that makes keys, wanted by sshd's own, unless that wants or runs something of the kind already, as those of
# Fedora, Arch and SUSE do.
keys_by_systemd() { # KEYGEN
  local unit text units=()
  for unit in ssh.service sshd.service ssh@.service sshd@.service; do
    text=$(unit_text "$unit" | head -c 1048576)
    [ -n "$text" ] || continue
    ! grep -qiE '^(Wants|Requires|ExecStartPre)=.*(keygen|gen-?keys|host-?key)' <<<"$text" || return 0
    units+=("$unit")
  done
  ((${#units[@]} > 0)) || return
  write /etc/systemd/system/vlb-ssh-host-keys.service 0644 "\
# The image was sealed by git vlb and holds no SSH host keys: each machine makes its own before sshd first starts.
[Unit]
Description=SSH host keys of this machine
# Where cloud-init runs, it makes keys or brings them.
After=cloud-init.service cloud-init-network.service
ConditionPathExistsGlob=!/etc/ssh/ssh_host_*_key

[Service]
Type=oneshot
ExecStart=$1 -A
"
  for unit in "${units[@]}"; do
    write "/etc/systemd/system/$unit.d/vlb-host-keys.conf" 0644 "\
[Unit]
Wants=vlb-ssh-host-keys.service
After=vlb-ssh-host-keys.service
"
  done
}

# What a unit's file and drop-ins say. Links are other names, or masks.
unit_text() { # UNIT
  local folder place
  for folder in /etc/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
    folder=$(within "$root" "$folder") || continue
    for place in "$folder/$1" "$(within "$root" "${folder#"$root"}/$1.d")"/*.conf; do
      plain_text "$place"
    done
  done
}

# Init scripts of Alpine, Gentoo and Buildroot make keys; that of Debian and Devuan does not, but reads a file first.
keys_by_init_script() {
  local script text settings
  script=$(find_file /etc/init.d/sshd /etc/init.d/ssh /etc/init.d/S50sshd) || return
  text=$(plain_text "$script")
  ! grep -q keygen <<<"$text" || return 0
  grep -q '^ *\. /etc/default/ssh' <<<"$text" || return
  settings=$(find_file /etc/default/ssh) && { (($(stat -c %s -- "$settings") <= 65536)) || return; } && settings=$(plain_text "$settings") || settings=''
  ! grep -q keygen <<<"$settings" || return 0
  write /etc/default/ssh 0644 "$settings

# The image was sealed by git vlb and holds no SSH host keys: each machine makes its own before sshd first starts.
ls /etc/ssh/ssh_host_*_key >/dev/null 2>&1 || ssh-keygen -A >/dev/null 2>&1 || :
"
}

seal_random-seed() {
  local folder
  remove_named /var/lib/systemd random-seed credential.secret
  # systemd-boot's, where it is not on a partition of its own; then those of other init systems.
  for folder in /boot/loader /boot/efi/loader /efi/loader /var/lib /var/lib/urandom /var/lib/misc; do
    remove_named "$folder" random-seed
  done
  remove_named /var/lib/seedrng 'seed.*'
}

seal_dhcp() {
  local folder
  for folder in /var/lib/dhcp /var/lib/dhcp3 /var/lib/dhclient; do
    remove_named "$folder" 'dhclient*.lease*' 'dhclient*.conf'
  done
  for folder in /var/lib/dhcpcd /var/lib/dhcpcd5 /var/db/dhcpcd; do
    remove_named "$folder" duid secret '*.lease' '*.lease6' '*.lease4' '*.rdm_monotonic'
  done
  remove_named /etc dhcpcd.duid dhcpcd.secret
  remove_named /var/lib/NetworkManager '*.lease' 'dhclient-*.conf' secret_key seen-bssids timestamps
  remove /var/lib/systemd/network
  remove_named /var/lib/wicked 'lease-*.xml' duid.xml iaid.xml
}

# What layers put beside it (seed, scripts, handlers) stays.
seal_cloud-init() {
  local name
  remove_named /var/lib/cloud instance
  for name in instances data sem; do remove "/var/lib/cloud/$name"; done
}

seal_logs() {
  local rotated='.*(\.gz|\.xz|\.bz2|\.zst|\.lz4|\.old|\.[0-9]+|-[0-9]{8})'
  remove /var/log/journal -regextype posix-extended \( ! -type d -o -regex '.*/[0-9a-f]{32}(\.[^/]*)?' \)
  remove /var/log -regextype posix-extended -type f -regex "$rotated"
  empty /var/log
  # Often a partition of its own.
  empty /var/log/audit
  # Where newer systems keep what was in wtmp and lastlog.
  empty /var/lib/wtmpdb -maxdepth 1 -name wtmp.db
  empty /var/lib/lastlog -maxdepth 1 -name lastlog2.db
}

seal_package-cache() {
  remove /var/lib/apt/lists -type f ! -name lock
  remove_named /var/cache/apt pkgcache.bin srcpkgcache.bin
  remove /var/cache/apt/archives -type f -name '*.deb'
  remove /var/cache/dnf
  remove /var/cache/libdnf5
  remove /var/cache/yum
  remove /var/cache/zypp
  remove_named /var/cache/apk 'APKINDEX.*' '*.apk'
  remove_named /var/lib/pacman/sync '*.db' '*.db.sig' '*.files' '*.files.sig'
  remove /var/cache/pacman/pkg
}

most_users=1048576
seal_history() {
  local at users home places=() fish=()
  users=$(find_file /etc/passwd) || users=/dev/null
  (($(stat -c %s -- "$users") <= most_users)) || warn "/etc/passwd is larger than 1 MiB: not all users' folders were looked at"
  while IFS= read -r home; do
    # Names as these mean one thing wherever they are, so a home may be behind a symlink.
    home=$(within "$root" "$home") && [ "$home" != "$root" ] && [ -d "$home" ] || continue
    places+=("$home")
    folder "${home#"$root"}/.local/share/fish" && fish+=("$at")
  done < <(
    printf '/root\n'
    head -c "$most_users" -- "$users" | tr -d '\0' | cut -d : -f 6 | grep '^/' | sort -u | grep -vx /root | head -n 10000
  )
  remove_in "the users' folders" "${places[@]}" -- '.*_history' .histfile .zhistory .lesshst .viminfo .wget-hsts
  remove_in "the users' folders" "${fish[@]}" -- fish_history
}

# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# What a script is lent while it runs, and how the image gets rid of it again.

# The host's name servers, for as long as the script runs. The image's disk never holds them: /etc/resolv.conf becomes a
# link to a file that lives in memory, unless it is a link into /run already.
lend_dns() { # sets `dns_file`, the file inside the image that is to show them
  local found
  dns_file='' dns_link=''
  [ -f "$ns/dns/resolv.conf" ] && find_within "$root" /etc/resolv.conf || return
  case $found in "$root"/run/*) dns_file=${found#"$root"} && return ;; esac
  find_within "$root" /etc && [ -d "$found" ] || return
  dns_link=$found/resolv.conf
  if [ -d "$dns_link" ] && [ ! -L "$dns_link" ]; then
    dns_link='' && return
  fi
  if [ -e "$dns_link" ] || [ -L "$dns_link" ]; then
    if [ ! -L "$dns_link" ] && [ -f "$dns_link" ] && (($(stat -c %s -- "$dns_link") > 1048576)); then
      # Nobody's name servers; a copy would fill memory.
      dns_file=cover:${dns_link#"$root"} dns_link='' && return
    fi
    if ! cp -a -- "$dns_link" "$ns/saved/resolv.conf" || ! rm -f -- "$dns_link" 2>/dev/null; then
      # Immutable (chattr(1)): nobody can replace it, so a mount may cover it.
      [ ! -f "$dns_link" ] || [ -L "$dns_link" ] || dns_file=cover:${dns_link#"$root"}
      dns_link='' && return
    fi
  fi
  ln -s "$dns_target" "$dns_link" && dns_file=$dns_target
}
dns_target=/run/vlb/resolv.conf

# The host's name servers, for lend_dns and return_dns.
copy_dns() {
  { dns_ours=$(</etc/resolv.conf); } 2>/dev/null && printf '%s\n' "$dns_ours" >"$ns/dns/resolv.conf"
}

return_dns() {
  local now found
  [ -n "$dns_link" ] || return
  still_within "${dns_link%/*}" || return
  # A script or package that put its own file there means it.
  [ "$(readlink -- "$dns_link")" = "$dns_target" ] || return
  rm -- "$dns_link"
  # The script could put there what it liked: a link that leads out, a fifo. That is no list of name servers.
  now=$(plain_text "$ns/dns/resolv.conf") || now=$dns_ours
  if [ "${now#"$dns_ours"}" = "$now" ] && [ -n "$dns_ours" ]; then
    plain_text "$ns/dns/resolv.conf" >"$dns_link"
    return
  fi
  if [ -e "$ns/saved/resolv.conf" ] || [ -L "$ns/saved/resolv.conf" ]; then
    cp -a -- "$ns/saved/resolv.conf" "$dns_link"
  fi
  # Lines that the script added go to the image's own file, without the host's before them.
  now=${now#"$dns_ours"}
  find_within "$root" /etc/resolv.conf || return
  [ -z "$now" ] || [ ! -d "${found%/*}" ] || { [ -e "$found" ] && [ ! -f "$found" ]; } || printf '%s\n' "${now#$'\n'}" >>"$found"
}

# Secrets lie in this namespace's tmpfs, and go with it.
lend_secrets() {
  local line
  ((${#secrets[@]} > 0)) || return 0
  for line in "${secrets[@]}"; do
    # printf is part of bash: the value never shows in a command line.
    printf %s "${line#* }" | base64 -d >"$ns/secrets/${line%% *}" || die VLB_SECRET "cannot hand over the secret ${line%% *}"
  done
  chmod -R u=rX,go= "$ns/secrets"
}

# Folders of the store, to be mounted in the image.
lend_caches() { # WORK
  local how folder target place at=0
  [ -f "$1/caches" ] || return 0
  while IFS=$'\t' read -r how folder target; do
    if [ "$how" = copy ]; then
      mkdir -p "$1/scratch"
      # What cannot be copied, such as a file that goes meanwhile, is not in this cache. Never is it the other build's own.
      cp -a --reflink=auto -- "$folder" "$1/scratch/cache$((++at))"
      folder=$1/scratch/cache$at
      mkdir -p "$folder"
    fi
    place=$(within "$root" "$target") || die VLB_DISK "$target in the image is a loop of links"
    deep_mount_point "$place"
    lend "$folder" "${place#"$root"}"
  done <"$1/caches"
}

# Like mount_point, for a path of any depth.
deep_mount_point() { # PATH, as `within` gave it
  local path=$root part
  while IFS= read -r -d / part; do
    [ -n "$part" ] || continue
    path+=/$part
    [ -d "$path" ] && continue
    mkdir -- "$path" || die VLB_DISK "cannot make ${path#"$root"} in the image"
    made=("$path" "${made[@]}")
  done <<<"${1#"$root"}/"
}

# Debian's way to keep packages from starting services (invoke-rc.d(8)); systemd's tools see that they are in a chroot.
policy_text=$'#!/bin/sh\n# No service starts while an image is built.\nexit 101\n'
forbid_services() { # sets `policy`
  local found
  policy=''
  find_within "$root" /usr/sbin || return 0
  policy=$found/policy-rc.d
  if [ -e "${policy%/*}/invoke-rc.d" ] && [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    printf %s "$policy_text" >"$policy" && chmod 755 "$policy"
  else
    policy=''
  fi
}

allow_services() {
  [ -z "$policy" ] || ! still_within "$policy" || [ "$(plain_text "$policy")" != "${policy_text%$'\n'}" ] || rm -- "$policy"
}

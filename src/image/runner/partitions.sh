# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# The other partitions of the disk, and folders, mounted where fstab and directives say.

points=() trimmed=()
# Loop devices that were lent, by the process that holds them.
declare -A holders=()
# Block devices of what is mounted, by where it starts on the disk.
declare -A device_at=()

# Mounts the partitions and subvolumes that WORK/mounts lists, parents before children (core/mounts.ts wrote it). Fails
# where they cannot be mounted `reading`.
mount_others() { # WORK START; START: of the root. Sets `points`, the last first, and `trimmed`, one per file system
  local kind start size type options what source target place
  [ -f "$1/mounts" ] || return 0
  device_at[$2]=$(findmnt -nvo SOURCE -- "$root")
  while IFS=$'\t' read -r kind start size type options what source target; do
    [ "$kind" != bind ] || continue
    place=$(within "$root" "$target") || die VLB_DISK "$target in the image is a loop of links ($what)"
    case ${place#"$root"}/ in
      /dev/* | /proc/* | /sys/* | / | /run/* | /tmp/* | /mnt/*)
        # A link led there, or a directive, which is to be seen above what the sandbox puts there.
        [ "$kind" = directive ] || { echo "git vlb: not mounted at $target: $what, git vlb has something of its own there" >&2; continue; }
        lend "$ns/others/$start" "${place#"$root"}"
        place=$ns/others/$start
        mkdir -p "$place"
        ;;
      *)
        [ -z "$reading" ] || [ -d "$place" ] || return
        if [ "$kind" = fstab ]; then lasting_mount_point "$place"; else deep_mount_point "$place"; fi
        ;;
    esac
    mount_other "$start" "$size" "$type" "$options" "$place" && continue
    [ -z "$reading" ] || return
    [ "$kind" = optional ] || mount_failed "$type" "$what at $target" '; nofail in /etc/fstab lets it be missing'
    echo "git vlb: not mounted at $target: $what, which this kernel cannot mount" >&2
  done <"$1/mounts"
}

unmount_others() {
  local place
  for place in "${points[@]}"; do unmount "$place"; done
  points=() trimmed=() device_at=()
}

mount_other() { # START SIZE FILESYSTEM OPTIONS PLACE
  local from=$disk how=${reading}noatime,nodev options=,$4,
  if [ -n "${device_at[$1]-}" ]; then
    # Another subvolume of what is mounted already: by the same device, else two caches would hold one file system.
    from=${device_at[$1]}
  else
    how+=,loop,offset=$1,sizelimit=$2$(mount_options "$3")
  fi
  options=${options//,-,/,}
  options=${options//,ro,/,}
  options=${options%,}
  mount -t "$3" -o "$how${options%,}" -- "$from" "$5" || return
  points=("$5" "${points[@]}")
  if [ -z "${device_at[$1]-}" ]; then
    device_at[$1]=$(findmnt -nvo SOURCE -- "$5")
    case ,$4, in *,ro,*) ;; *) trimmed+=("$5") ;; esac
  fi
  # Only this mount: the file system itself may be mounted elsewhere, too.
  case ,$4, in *,ro,*) mount -o remount,bind,ro,noatime,nodev -- "$5" ;; esac
}

# What the image's own fstab names stays: it would be made when the machine boots. Not so what may be missing there, lest
# it depends on this host's kernel what is in the snapshot.
lasting_mount_point() { # PATH, as `within` gave it
  local made=()
  deep_mount_point "$1"
}

# Files of the layer's folder, to be seen elsewhere: what its script changes there is a copy, and is not in the image.
lend_binds() { # WORK
  local kind start size type options what source target place
  [ -f "$1/mounts" ] || return 0
  while IFS=$'\t' read -r kind start size type options what source target; do
    [ "$kind" = bind ] || continue
    source=$(within "$1/src" "/$source")
    [ -e "$source" ] || die VLB_DIRECTIVE "$what is not in the layer's folder"
    place=$(within "$root" "$target") || die VLB_DISK "$target in the image is a loop of links ($what)"
    case ${place#"$root"}/ in
      / | /dev/* | /proc/* | /sys/*) die VLB_DIRECTIVE "$what: nothing can be mounted at $target, which is ${place#"$root"}/ in the image" ;;
      /run/* | /tmp/* | /mnt/*) ;;
      *)
        if [ -d "$source" ]; then
          deep_mount_point "$place"
        elif [ ! -e "$place" ]; then
          deep_mount_point "${place%/*}"
          : >"$place" || die VLB_DISK "cannot make ${place#"$root"} in the image"
          made_files+=("$place")
        fi
        ;;
    esac
    lend "$source" "${place#"$root"}"
  done <"$1/mounts"
}

lend() { # SOURCE PLACE; PLACE: below the image's root
  lent+=$1$'\t'$2$'\n'
}

# GRUB looks for the devices of file systems and reads them, to find out what it calls them; and without links by UUID it
# would write the devices' names on this host into its menu. So an image that has it sees devices with its own file systems:
# others than those that are mounted, and read-only, for who may write to a loop device may also tell it what to do.
lend_devices() { # WORK START; of the root
  local node uuid found device hold='' offset size
  find_within "$root" /usr/sbin && { [ -e "$found/grub-probe" ] || [ -e "$found/grub2-probe" ]; } || return 0
  device_at[$2]=$(findmnt -nvo SOURCE -- "$root")
  for node in "${device_at[@]}"; do
    read -r offset size < <(losetup --list --noheadings --raw --output OFFSET,SIZELIMIT -- "$node")
    loop_device "$disk" --read-only --offset "$offset" --sizelimit "$size" || die VLB_HOST_KERNEL "cannot make a loop device for GRUB; see the log"
    # By its number it could be somebody else's if it were free before the script has ended.
    sleep infinity <&"$hold" &
    holders[$!]=$device
    exec {hold}<&-
    lent_device "$device" >>"$1/lent"
    lend "$device" "/dev/vlb${device##*/loop}"
    lend "vlb${device##*/loop}" "$node"
    uuid=$(blkid -p -o value -s UUID -- "$device")
    [ -z "$uuid" ] || lend "../../vlb${device##*/loop}" "/dev/disk/by-uuid/$uuid"
  done
}

# The script may have told the kernel that they are to stay.
return_devices() {
  local pid
  for pid in "${!holders[@]}"; do
    losetup --detach "${holders[$pid]}"
    kill "$pid"
    wait "$pid" 2>/dev/null
  done
}

# Shows in the image what was lent. A place below /run, /tmp or /mnt is made now: those are no part of the image.
show_lent() { # SOURCE PLACE
  local place
  case $2 in
    /dev/*)
      mkdir -p ".${2%/*}" || return
      case $1 in
        /*) : >".$2" && mount --bind -- "$1" ".$2" ;;
        *) ln -s "$1" ".$2" ;;
      esac
      return
      ;;
  esac
  place=$(within "$PWD" "$2") || return
  if [ -d "$1" ]; then
    mkdir -p -- "$place"
  elif [ ! -e "$place" ]; then
    mkdir -p -- "${place%/*}" && : >"$place"
  fi &&
    mount --bind -- "$1" "$place" &&
    # The host's file system: without nodev a node made there would open the host's disks.
    mount -o remount,bind,nosuid,nodev -- "$place"
}

# Takes away the mount points that were made, where they still are what they were.
remove_made() {
  local path
  for path in "${made_files[@]}" "${made[@]}"; do
    still_within "$path" || continue
    flushed=()
    if [ -d "$path" ]; then
      rmdir --ignore-fail-on-non-empty -- "$path"
    elif [ -f "$path" ] && [ ! -s "$path" ]; then
      rm -f -- "$path"
    fi
  done
}

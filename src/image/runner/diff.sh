# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Two disks to be compared: lists their files, and reads those that the engine names. What is what is decided there.

# Shows the overlays WORK/a/layer.qcow2 and WORK/b/layer.qcow2, which are thrown away afterwards, and does what it is told by
# the pipe WORK/orders, fields that end in a zero byte, until that says `quit`. The answers about a go to standard output,
# those about b to the pipe WORK/b/answers, in fields, too: image/compare.ts knows their order. What is asked of named files
# has the names in WORK/SIDE/ORDER.
action_diff() { # WORK APART START_A SIZE_A FILESYSTEM_A START_B SIZE_B FILESYSTEM_B; APART: never both mounted at once
  local work=$1 apart=$2 ns=$1/ns side order path attributes orders answers_b
  local place_a=("${@:3:3}") place_b=("${@:6:3}")
  local -A shown=() devices=() device_of=() top=()
  type -P getfattr >/dev/null || die VLB_HOST_TOOL "getfattr is not installed"
  attach "$work" "$work/a/layer.qcow2" qcow2 "$work/b/layer.qcow2" qcow2
  exec {orders}<"$work/orders" {answers_b}>"$work/b/answers" || die VLB_HOST_KERNEL "cannot read orders"
  while IFS= read -r -d '' -u "$orders" order; do
    case $order in
      list)
        IFS= read -r -d '' -u "$orders" path && IFS= read -r -d '' -u "$orders" attributes && on_both list_files
        ;;
      attributes | extents | bytes | digests) on_both "list_$order" ;;
      read)
        IFS= read -r -d '' -u "$orders" side && IFS= read -r -d '' -u "$orders" path && show "$side" && answer read_file "$side"
        ;;
      quit) exit 0 ;;
      *) exit 70 ;;
    esac
  done
}

# Bytes of a file that the engine is shown; one more than it compares line by line.
read_limit=4194305

# Does the same on both sides, at once if it can.
on_both() { # FUNCTION
  local other
  show a
  if [ "$apart" = yes ]; then
    answer "$1" a
    show b
    answer "$1" b
    return
  fi
  show b
  ("$1" b >&"$answers_b") &
  other=$!
  answer "$1" a
  wait "$other" || die VLB_DISK "a file system cannot be read"
}

answer() { # FUNCTION SIDE
  local to=1
  [ "$2" = a ] || to=$answers_b
  ("$@" >&"$to") || die VLB_DISK "a file system cannot be read"
}

# Mounts a side, if it is not.
show() { # SIDE
  [ -z "${shown[$1]-}" ] || return 0
  local other
  if [ "$apart" = yes ]; then
    cd /
    for other in "${!shown[@]}"; do umount -R -- "${top[$other]}" || die VLB_KILLED "a file system that was only read stays busy"; done
    shown=()
  fi
  local root_place=("${place_a[@]}")
  disk=$ns/disk points=() trimmed=() device_at=()
  [ "$1" = a ] || { disk=$ns/second/disk && root_place=("${place_b[@]}"); }
  mount_to_read "$1" "${root_place[@]}"
  shown[$1]=$root
  top[$1]=$root
}

# Only to read: a loop device that nobody can write to, so that not even a journal is replayed. Should one have to be, or
# a mount point be missing, then it is mounted as for a script, on the overlay, and `devices` says so.
mount_to_read() { # SIDE START SIZE FILESYSTEM
  local start how=kept
  reading=ro,nosuid,noexec,
  if ! { try_mount_root "${@:2}" && mount_others "$work/$1" "$2"; } 2>/dev/null; then
    ! mountpoint -q -- "$root" || umount -R -- "$root" || die VLB_KILLED "a file system that was only read stays busy"
    points=() trimmed=() device_at=()
    reading='' how=changed
    mount_root "${@:2}"
    mount_others "$work/$1" "$2"
  fi
  device_at[$2]=$(findmnt -nvo SOURCE -- "$root")
  devices[$1]=$how
  for start in "${!device_at[@]}"; do
    devices[$1]+=" $start:$(stat -c %t:%T -- "${device_at[$start]}")"
    device_of[$1:$start]=${device_at[$start]}
  done
}

# All files below $path: how it was mounted, the path that it is after links, then three fields per file, which end with
# `end`; numbers of devices and their names, which end with `end`; then, if $attributes says `yes`, those of all of them.
list_files() { # SIDE
  local at='' parent='' there=yes found nodes=$ns/nodes-$1
  cd "${top[$1]}" || return
  printf '%s\0' "${devices[$1]}"
  if [ -n "$path" ]; then
    [[ $path != */* ]] || parent=/${path%/*}
    # A loop of links leads nowhere.
    if find_within "$PWD" "$parent"; then at=${found#"$PWD"}/${path##*/}; else there=no; fi
  fi
  printf '%s\0' ".$at"
  [ -e ".$at" ] || [ -L ".$at" ] || there=no
  if [ "$there" = yes ]; then
    LC_ALL=C find ".$at" -printf '%y %m %U %G %s %D %i %n\0%P\0%l\0' \( -type b -o -type c \) -fprint0 "$nodes" || return
    printf 'end\0'
    xargs -0 -r stat --printf '%t:%T\0%n\0' -- <"$nodes" || return
    printf 'end\0'
    [ "$attributes" = no ] || LC_ALL=C getfattr -R -P -h -d -m - -e hex -- ".$at" || return
  else
    printf 'end\0end\0'
  fi
  [ "$attributes" = no ] || printf '\0'
}

# Attributes of named files, in getfattr's form.
list_attributes() { # SIDE
  cd "${top[$1]}" || return
  LC_ALL=C xargs -0 -r getfattr -h -d -m - -e hex -- <"$work/$1/attributes" || return
  printf '\0'
}

# A line for each of the named files, with the size of a block and then, per extent, LOGICAL,PHYSICAL,LENGTH,FLAGS. Names
# start with a dot and have no line breaks, so that no name can pass for an extent.
list_extents() { # SIDE
  cd "${top[$1]}" || return
  # Without it, nothing is known of any.
  type -P filefrag >/dev/null || { printf '\0' && return; }
  xargs -0 -r filefrag -v -- <"$work/$1/extents" | awk '
    /^File size of / { if (n++) print line; line = $(NF - 1); next }
    /^ *[0-9]+:/ {
      gsub(/[.:]+/, " ")
      flags = $NF ~ /^[0-9]+$/ ? "" : $NF
      line = line " " $2 "," $4 "," $6 "," flags
    }
    END { if (n) print line }' || return
  printf '\0'
}

# What lies at places of mounted file systems, one after the other into WORK/SIDE/found. Instead of a name, a place: START
# OFFSET LENGTH, where the file system starts on the disk and where in it the bytes are. Says so if that cannot be.
list_bytes() { # SIDE
  local start offset length
  while read -r -d '' start offset length; do
    dd if="${device_of[$1:$start]}" iflag=skip_bytes,count_bytes skip="$offset" count="$length" bs=1M status=none || break
  done <"$work/$1/bytes" >"$work/$1/found"
  if [ -z "$start" ]; then printf '\0'; else printf 'lacking\0'; fi
}

# SHA-256 and name of each of the named files.
list_digests() { # SIDE
  cd "${top[$1]}" || return
  xargs -0 -r sha256sum -z -- <"$work/$1/digests" || return
  printf 'end\0'
}

# The beginning of the file at $path, in base64.
read_file() { # SIDE
  cd "${top[$1]}" && head -c "$read_limit" -- "$path" | base64 -w 0 && printf '\0'
}

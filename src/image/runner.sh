#!/usr/bin/env bash
# The one privileged part of git vlb. Attaches a disk image, mounts its root file system and runs a layer's script in
# it, all inside private mount and PID namespaces: whatever happens, the kernel clears up when their first process ends.
#
# usage: runner.sh enter WORK ACTION ARGUMENT...     WORK: scratch folder with layer.qcow2, src/ and an empty ns/
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

# --- namespaces -----------------------------------------------------------------------------------------------------

enter() { # WORK ACTION ARGUMENT...
  local status apart=(unshare --mount --pid --fork --kill-child --propagation private -- "$BASH" "$0" supervise "$@")
  if [ "$2" = shell ]; then
    "${apart[@]}"
    status=$?
  else
    piped "${apart[@]}"
  fi
  # What root made in there, the user who owns WORK could not remove.
  rm -rf --one-file-system -- "$1/src" "$1/include" "$1/scratch"
  exit "$status"
}

piped() { # COMMAND...; sets `status`
  # What we are given as standard error may be a socket, which opens for nobody who writes to /dev/stderr: by way of
  # cat it is a pipe.
  {
    "$@" 2>&1 >&4 4>&- | cat >&2 4>&-
    status=${PIPESTATUS[0]}
  } 4>&1
}

secrets=()

# Process 1 of the PID namespace: when it ends, the kernel kills all others in there, drops the mounts with the mount
# namespace and with them the loop device (which mount(8) marks as auto-clear).
supervise() { # WORK ACTION ARGUMENT...
  local work=$1 action=$2
  shift 2
  if [ "$action" = shell ]; then
    exec 3<"$work/tether" {answers}>"$work/answers"
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

# --- attaching ------------------------------------------------------------------------------------------------------

# Exports the image as a plain file by FUSE: no nbd module, no device nodes, no udev. Sets `disk` to that file.
attach() { # WORK FILE FORMAT
  local ns=$1/ns
  mount -t tmpfs -o mode=0755 vlb "$ns" || die VLB_HOST_KERNEL "cannot mount a tmpfs in a private namespace"
  mkdir "$ns/root" "$ns/probe" "$ns/dns"
  disk=$ns/disk
  : >"$disk"
  # no-flush: the engine flushes the file once, when it is finished; until then a crash drops it anyway.
  # The daemon gets a mount namespace of its own, with the export in it but nothing that is mounted from it. The last
  # process of a namespace unmounts what is in there. Were that the daemon, killed, it would wait for an answer of its
  # own, never to come, and with it every sync(2) on the host.
  mount --make-shared "$ns"
  coproc daemon {
    exec unshare --mount --propagation unchanged -- qemu-storage-daemon \
      --blockdev "driver=file,node-name=file,filename=${2//,/,,},cache.no-flush=on,discard=unmap" \
      --blockdev "driver=$3,node-name=disk,file=file,cache.no-flush=on,discard=unmap" \
      --export "type=fuse,id=disk,node-name=disk,mountpoint=${disk//,/,,},writable=on" \
      --chardev stdio,id=control --monitor chardev=control
  }
  # Copies of the descriptors: bash closes the originals by itself when the daemon ends.
  exec {from_daemon}<&"${daemon[0]}" {to_daemon}>&"${daemon[1]}"
  # The daemon works through its options in order, so its greeting means that the export is there.
  read -r -t 60 <&"$from_daemon" || die VLB_HOST_KERNEL "qemu-storage-daemon did not export the disk (FUSE exports need qemu 6.0 and /dev/fuse)"
  # The export has come from there to here; from now on nothing goes either way.
  mount --make-rprivate "$ns"
}

detach() {
  printf '{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n' >&"$to_daemon"
  # shellcheck disable=SC2154 # set by coproc
  wait "$daemon_PID" || die VLB_KILLED "qemu-storage-daemon ended with status $? before all was written"
}

mount_options() { # FILESYSTEM: options for a root file system that is built on
  case $1 in
    # Without noinit_itable a thread of the kernel would fill the snapshot with zeroed inode tables.
    ext4) printf ',discard,noinit_itable' ;;
    # Several snapshots of one image carry one UUID, which xfs refuses to mount side by side.
    xfs) printf ',discard,nouuid' ;;
    btrfs) printf ',discard=sync' ;;
    squashfs | erofs) ;;
    *) printf ',discard' ;;
  esac
}

mount_root() { # START SIZE FILESYSTEM[,OPTION]; sets `root`
  local type=${3%%,*}
  root=${disk%/*}/root
  # noatime: reading a file must not change the snapshot. nodev: device nodes in the image are not for the script.
  mount -t "$type" -o "loop,offset=$1,sizelimit=$2,noatime,nodev$(mount_options "$type")${3#"$type"}" -- "$disk" "$root" ||
    die VLB_HOST_KERNEL "cannot mount the root file system ($3); see the log for what mount said"
  # Kernels before 6.7 can take a second btrfs of one UUID for the first, which is another build's.
  [ "$type" != btrfs ] || [ "$(losetup --noheadings --output BACK-FILE "$(findmnt -nvo SOURCE -- "$root")")" = "$disk" ] ||
    die VLB_HOST_KERNEL "another build on this btrfs base has it mounted, and this kernel cannot tell the two apart; try again when it has ended"
}

# Gives back what the script wrote and deleted again. The discard mount option alone does not: it tells of each deleted
# file by itself, and qcow2 only frees whole clusters. Not worth it for a layer that wrote next to nothing, since it also
# notes all other free space as free, in some hundred KiB of the snapshot's tables.
trim_root() { # FILE
  local place
  for place in "$root" "${trimmed[@]}"; do sync -f "$place"; done
  (($(stat -c '%b * %B' -- "$1") < 4 * 1024 * 1024)) && return
  for place in "$root" "${trimmed[@]}"; do fstrim -- "$place" || true; done
}

unmount_root() {
  unmount_others
  unmount "$root"
}

unmount() { # PLACE
  umount -- "$1" && return
  local holders
  holders=$(fuser -m "$1" 2>/dev/null)
  die VLB_KILLED "the file system at ${1#"${root%/root}"} stays busy; held by processes: ${holders:-unknown}"
}

# --- other partitions -----------------------------------------------------------------------------------------------

points=() trimmed=()
# Block devices of what is mounted, by where it starts on the disk.
declare -A device_at=()

# Mounts the partitions and subvolumes that WORK/mounts lists, parents before children (core/mounts.ts wrote it).
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
      *) if [ "$kind" = fstab ]; then lasting_mount_point "$place"; else deep_mount_point "$place"; fi ;;
    esac
    mount_other "$start" "$size" "$type" "$options" "$place" && continue
    [ "$kind" = optional ] || die VLB_HOST_KERNEL "cannot mount $what at $target; does this host's kernel know $type (modprobe $type)? nofail in /etc/fstab lets it be missing"
    echo "git vlb: not mounted at $target: $what, which this kernel cannot mount" >&2
  done <"$1/mounts"
}

unmount_others() {
  local place
  for place in "${points[@]}"; do unmount "$place"; done
  points=() trimmed=() device_at=()
}

mount_other() { # START SIZE FILESYSTEM OPTIONS PLACE
  local from=$disk how=noatime,nodev options=,$4,
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
# would write the devices' names on this host into its menu. So an image that has it sees those of its own file systems.
lend_devices() { # START; of the root
  local node uuid
  [ -e "$(within "$root" /usr/sbin/grub-probe)" ] || [ -e "$(within "$root" /usr/sbin/grub2-probe)" ] || return 0
  device_at[$1]=$(findmnt -nvo SOURCE -- "$root")
  for node in "${device_at[@]}"; do
    lend "$node" "/dev/vlb${node##*/loop}"
    lend "vlb${node##*/loop}" "$node"
    uuid=$(blkid -p -o value -s UUID -- "$node")
    [ -z "$uuid" ] || lend "../../vlb${node##*/loop}" "/dev/disk/by-uuid/$uuid"
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
    [ "$(within "$root" "${path#"$root"}")" = "$path" ] || continue
    if [ -d "$path" ]; then
      rmdir --ignore-fail-on-non-empty -- "$path"
    elif [ -f "$path" ] && [ ! -s "$path" ]; then
      rm -f -- "$path"
    fi
  done
}

# --- probing and growing --------------------------------------------------------------------------------------------

# The kernel may not know how to read partition tables, and udev may not run: both are read from the file.
probe_disk() {
  local size whole table line id='' probe=${disk%/*}/probe
  size=$(stat -c %s -- "$disk")
  whole=$(blkid -p -o export -- "$disk")
  table=$(sed -n 's/^PTTYPE=//p' <<<"$whole")
  case $table in
    gpt | dos) ;;
    *)
      printf 'table none\n'
      grep -q '^TYPE=' <<<"$whole" && probe_partition 0 0 "$size"
      return
      ;;
  esac
  printf 'table %s\n' "$table"
  sfdisk --dump -- "$disk" | while read -r line; do
    [[ $line =~ ^label-id:\ 0x([0-9a-f]+) ]] && id=${BASH_REMATCH[1]}
    [[ $line =~ disk([0-9]+)\ :\ start=\ *([0-9]+),\ *size=\ *([0-9]+) ]] || continue
    probe_partition "${BASH_REMATCH[1]}" $((BASH_REMATCH[2] * 512)) $((BASH_REMATCH[3] * 512)) "$table $id $line"
  done
}

probe_partition() { # NUMBER START SIZE [TABLE ID LINE]
  local found type options
  printf 'partition %s %s %s\n' "$1" "$2" "$3"
  # shellcheck disable=SC2016 # backquotes of a pattern
  case ${4-} in
    dos*) [[ $4 =~ ^dos\ ([0-9a-f]+) ]] && printf 'PARTUUID=%08x-%02d\n' "0x${BASH_REMATCH[1]}" "$1" ;;
    gpt*)
      [[ $4 =~ \ uuid=([0-9A-Fa-f-]+) ]] && printf 'PARTUUID=%s\n' "${BASH_REMATCH[1]}"
      [[ $4 =~ \ name=\"([^\"]*)\" ]] && printf 'PARTLABEL=%s\n' "${BASH_REMATCH[1]}"
      ;;
  esac
  # The form for udev is the one in which a label of any characters stays what it is.
  found=$(blkid -p -o udev -O "$2" -S "$3" -- "$disk" | sed -nE 's/^ID_FS_TYPE=/TYPE=/p; s/^ID_FS_(LABEL|UUID)_ENC=/\1=/p')
  [ -z "$found" ] || printf '%s\n' "$found"
  type=$(sed -n 's/^TYPE=//p' <<<"$found")
  case $type in
    ext[234]) options=noload ;;
    xfs) options=norecovery,nouuid ;;
    btrfs) options=rescue=nologreplay ;;
    *) return ;;
  esac
  mount -t "$type" -o "ro,nodev,nosuid,noexec,loop,offset=$2,sizelimit=$3,$options" -- "$disk" "$probe" || return
  if looks_like_root "$probe"; then
    printf 'looks-like-root\n'
    print_fstab "$probe"
  elif [ "$type" = btrfs ]; then
    # Not the default subvolume: a boot loader's rootflags=subvol= names the root.
    umount -- "$probe" || return
    mount -t btrfs -o "ro,nodev,nosuid,noexec,loop,offset=$2,sizelimit=$3,$options,subvolid=5" -- "$disk" "$probe" || return
    probe_subvolumes "$probe"
  fi
  umount -- "$probe"
}

# Subvolumes are folders whose inode is 256. Deeper down are snapshots and those of containers.
probe_subvolumes() { # FOLDER
  local path
  find "$1" -mindepth 1 -maxdepth 2 -type d -inum 256 -print0 2>/dev/null | sort -z | head -z -n 100 |
    while IFS= read -r -d '' path; do
      case ${path#"$1/"} in *[,$'\n'\\]*) continue ;; esac
      looks_like_root "$path" || continue
      printf 'subvolume %s\n' "$(printf %s "${path#"$1/"}" | base64 -w 0)"
      print_fstab "$path"
    done
}

# The folder's /etc/fstab as one line, bounded.
print_fstab() { # FOLDER
  local file
  file=$(within "$1" /etc/fstab) && [ -f "$file" ] || return 0
  tell "fstab $(head -c 65537 -- "$file" | base64 -w 0)"
}

looks_like_root() { # FOLDER
  [ -d "$1/etc" ] && [ ! -L "$1/etc" ] && [ ! -L "$1/usr" ] || return
  [ -d "$1/usr/bin" ] || [ -d "$1/bin" ] && return
  # /usr is another partition.
  [ -d "$1/usr" ] && [ -f "$1/etc/fstab" ] && [ ! -L "$1/etc/fstab" ] && grep -qE '^[^#]\S*\s+/usr\s' "$1/etc/fstab"
}

# Prints the layout of a base, or of what a build-base script made.
action_probe() { # WORK FILE FORMAT
  attach "$1" "$2" "$3"
  probe_disk
  detach
  printf 'done\n'
}

# The overlay is larger than the disk was: gives the room to the root partition and its file system.
action_grow() { # WORK PARTITION START SIZE FILESYSTEM
  local number=$2 start=$3 size=$4 type=${5%%,*} around=''
  attach "$1" "$1/layer.qcow2" qcow2
  if [ "$number" != 0 ]; then
    # A logical partition of an MBR needs room in the extended one first.
    ((number < 5)) || around=$(sfdisk --dump -- "$disk" | sed -nE 's/^.*disk([1-4]) :.*type=(5|f|85)(,.*)?$/\1/p')
    [ -z "$around" ] || sfdisk --quiet --no-reread --no-tell-kernel --force -N "$around" -- "$disk" <<<', +' >&2 || die VLB_DISK "sfdisk cannot grow partition $around"
    sfdisk --quiet --no-reread --no-tell-kernel --force -N "$number" -- "$disk" <<<', +' >&2 || die VLB_DISK "sfdisk cannot grow partition $number"
    size=$(sfdisk --dump -- "$disk" | sed -nE "s/.*disk$number : start=.*size= *([0-9]+).*/\1/p")
    size=$((size * 512))
  else
    size=$(stat -c %s -- "$disk")
  fi
  case $type in
    ext[234]) grow_ext "$start" "$size" "$type" ;;
    xfs) mount_root "$start" "$size" xfs && xfs_growfs "$root" >&2 && unmount_root ;;
    btrfs) mount_root "$start" "$size" btrfs && btrfs filesystem resize max "$root" >&2 && unmount_root ;;
  esac || die VLB_DISK "cannot grow the $type file system; see the log"
  probe_disk
  detach
  printf 'done\n'
}

# Not mounted: growing a mounted ext4 takes CAP_SYS_RESOURCE, which root in a container often lacks. And on a loop device,
# not on the file: resize2fs would cut a file off behind the file system, with the backup partition table. The device
# comes from a mount, because only mount(8) makes one that frees itself, and stays for as long as it is held open.
grow_ext() { # START SIZE FILESYSTEM
  local device hold status
  mount_root "$1" "$2" "$3"
  device=$(findmnt --noheadings --output SOURCE -- "$root")
  exec {hold}<"$device" && unmount_root
  e2fsck -f -p "$device" >&2
  # 1: it found something and repaired it.
  (($? <= 1)) && resize2fs "$device" >&2
  status=$?
  exec {hold}<&-
  return $status
}

# --- scripts --------------------------------------------------------------------------------------------------------

# An image for another kind of machine is run by qemu-user, if the kernel knows of it (binfmt_misc): registered with the
# flag F, its program is open already and need not be in the image.
check_architecture() { # PROGRAM of the image, or nothing
  local candidate program='' machine name
  for candidate in "$1" /bin/sh /usr/bin/env /sbin/init; do
    candidate=$(within "$root" "${candidate:-/nothing}") && [ -f "$candidate" ] || continue
    [ "$(head -c 4 -- "$candidate" | od -An -c | tr -d ' ')" = 177ELF ] && program=$candidate && break
  done
  [ -n "$program" ] || return 0
  machine=$(elf_machine "$program")
  case $machine/$(uname -m) in
    "$(uname -m)/$machine" | i386/x86_64 | arm/aarch64 | unknown/*) return ;;
  esac
  name=/proc/sys/fs/binfmt_misc/qemu-$machine
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null
  grep -qs '^enabled' "$name" && grep -qs '^flags:.*F' "$name" && return
  die VLB_HOST_ARCHITECTURE "the image is for $machine, and this $(uname -m) host knows no program to run it with"
}

# e_machine of the ELF header (elf(5)), in the byte order that its sixth byte tells.
elf_machine() { # FILE
  local order=little
  [ "$(od -An -tu1 -j5 -N1 -- "$1" | tr -d ' ')" = 2 ] && order=big
  case $(od -An -tx2 -j18 -N2 --endian=$order -- "$1" | tr -d ' ') in
    003e) echo x86_64 ;;
    0003) echo i386 ;;
    00b7) echo aarch64 ;;
    0028) echo arm ;;
    00f3) echo riscv64 ;;
    0015) [ $order = little ] && echo ppc64le || echo ppc64 ;;
    0016) echo s390x ;;
    0102) echo loongarch64 ;;
    *) echo unknown ;;
  esac
}

# Prints the path below ROOT that an absolute PATH names inside it, links followed as they would be in there. Nothing
# else runs in the image yet or any more, so what this finds stays true.
within() { # ROOT PATH
  local found
  find_within "$1" "$2" && printf '%s\n' "$found"
}

# The same without a process of its own: sets `found`.
find_within() { # ROOT PATH
  local base=$1 rest=$2/ at='' part target hops=0
  while [ -n "$rest" ]; do
    part=${rest%%/*}
    rest=${rest#*/}
    case $part in
      '' | .) continue ;;
      ..) at=${at%/*} && continue ;;
    esac
    if [ -L "$base$at/$part" ]; then
      ((++hops <= 40)) || return 1
      target=$(readlink -- "$base$at/$part")
      [ "${target#/}" = "$target" ] || at=
      rest=$target/$rest
    else
      at=$at/$part
    fi
  done
  found=$base$at
}

# A directory of the image that something is mounted on. Made if it is not there, and then taken away again.
mount_point() { # NAME
  if [ -L "$root/$1" ] || { [ -e "$root/$1" ] && [ ! -d "$root/$1" ]; }; then
    die VLB_DISK "/$1 in the image is no plain directory, so nothing can be mounted there"
  fi
  [ -d "$root/$1" ] && return
  mkdir -- "$root/$1" || die VLB_DISK "cannot make /$1 in the image; is its file system full?"
  made+=("$root/$1")
}

# The host's name servers, for as long as the script runs. The image's disk never holds them: /etc/resolv.conf becomes a
# link to a file that lives in memory, unless it is a link into /run already.
lend_dns() { # sets `dns_file`, the file inside the image that is to show them
  local conf
  dns_file='' dns_link=''
  cat /etc/resolv.conf >"$ns/dns/resolv.conf" 2>/dev/null || return
  conf=$(within "$root" /etc/resolv.conf) || return
  case $conf in "$root"/run/*) dns_file=${conf#"$root"} && return ;; esac
  dns_link=$(within "$root" /etc)/resolv.conf
  [ -d "${dns_link%/*}" ] || return
  rm -rf "$ns/saved" && mkdir "$ns/saved"
  if [ -e "$dns_link" ] || [ -L "$dns_link" ]; then
    if ! cp -a -- "$dns_link" "$ns/saved/resolv.conf" || ! rm -f -- "$dns_link" 2>/dev/null; then
      # Immutable (chattr(1)): nobody can replace it, so a mount may cover it.
      [ ! -f "$dns_link" ] || [ -L "$dns_link" ] || dns_file=cover:${dns_link#"$root"}
      dns_link='' && return
    fi
  fi
  cp -a -- "$ns/dns/resolv.conf" "$ns/saved/ours"
  ln -s "$dns_target" "$dns_link" && dns_file=$dns_target
}
dns_target=/run/vlb/resolv.conf

return_dns() {
  local ours now target
  [ -n "$dns_link" ] || return
  # A script or package that put its own file there means it.
  [ "$(readlink -- "$dns_link")" = "$dns_target" ] || return
  rm -- "$dns_link"
  ours=$(<"$ns/saved/ours") now=$(<"$ns/dns/resolv.conf")
  if [ "${now#"$ours"}" = "$now" ]; then
    cat "$ns/dns/resolv.conf" >"$dns_link"
    return
  fi
  if [ -e "$ns/saved/resolv.conf" ] || [ -L "$ns/saved/resolv.conf" ]; then
    cp -a -- "$ns/saved/resolv.conf" "$dns_link"
  fi
  # Lines that the script added go to the image's own file, without the host's before them.
  now=${now#"$ours"}
  target=$(within "$root" /etc/resolv.conf)
  [ -z "$now" ] || [ ! -d "${target%/*}" ] || printf '%s\n' "${now#$'\n'}" >>"$target"
}

# Secrets lie in this namespace's tmpfs, and go with it.
lend_secrets() {
  local line
  mkdir -m 0700 "$ns/secrets"
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
      cp -a --reflink=auto -- "$folder" "$1/scratch/cache$((++at))" && folder=$1/scratch/cache$at
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
forbid_services() {
  policy=$(within "$root" /usr/sbin)/policy-rc.d
  if [ -e "${policy%/*}/invoke-rc.d" ] && [ ! -e "$policy" ] && [ ! -L "$policy" ]; then
    printf %s "$policy_text" >"$policy" && chmod 755 "$policy"
  else
    policy=''
  fi
}

allow_services() {
  [ -z "$policy" ] || [ -L "$policy" ] || [ "$(cat -- "$policy" 2>/dev/null)" != "${policy_text%$'\n'}" ] || rm -- "$policy"
}

# --- packages -------------------------------------------------------------------------------------------------------

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
  [[ $state != *'.000000000 +0000 '[rd]* ]] || state+=" $(find "${paths[@]}" -maxdepth 1 -printf '%i %P ' -type f -exec cat {} + | cksum)"
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
  mkdir -p "$ns/ask/src" "$ns/ask/ns/dns" "$ns/ask/ns/secrets"
  mount -t tmpfs -o "size=$((bytes + most * 2)),mode=0755,nosuid,nodev" ask "$ns/ask/src" && mkdir "$ns/ask/src/db" || return
  cp -- "${files[@]}" "$ns/ask/src/db/"
  ln -s "$ns/root" "$ns/ask/ns/root"
  printf '#!/bin/sh\nexec %s -qa --dbpath /mnt/db --qf "%s" >/mnt/list\n' "$program" "$(<"$1/query")" >"$ns/ask/src/ask"
  chmod 755 "$ns/ask/src/ask"
  timeout -k 1 60 unshare --mount --pid --ipc --uts --net --fork --kill-child --propagation private -- \
    setpriv --bounding-set -sys_module,-sys_rawio,-sys_boot,-sys_time \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 \
    "$BASH" "$0" inside_read_only "$ns/ask" none localhost '' ask '' {from_daemon}<&- {to_daemon}>&- ||
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

# Runs a build-layer script inside the image.
action_layer() { # WORK START SIZE FILESYSTEM NETWORK HOSTNAME SCRIPT INTERPRETER VARIABLE=VALUE...
  local work=$1 start=$2 size=$3 type=$4 network=$5 name=$6 script=$7 interpreter=$8 ns=$1/ns status option=() session=() made=() made_files=() lent='' point
  shift 8
  attach "$work" "$work/layer.qcow2" qcow2
  mount_root "$start" "$size" "$type"
  mount_others "$work" "$start"
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
  # What acts on the running kernel and its hardware is no matter of an image (capabilities(7)).
  unshare --mount --pid --ipc --uts "${option[@]}" --fork --kill-child --propagation private -- \
    "${session[@]}" setpriv --bounding-set -sys_module,-sys_rawio,-sys_boot,-sys_time \
    env -i "$@" "$BASH" "$0" inside "$work" "$network" "$name" "$dns_file" "$script" "$lent" {from_daemon}<&- {to_daemon}>&-
  status=$?
  return_dns
  allow_services
  [ "$status" != 0 ] || note_packages "$work"
  print_fstab "$root"
  trim_root "$work/layer.qcow2"
  unmount_others
  remove_made
  unmount_root
  detach
  tell "exit $status"
}

# The same without a script: a shell, on an overlay that is thrown away.
action_shell() { # as action_layer
  action_layer "$@"
}

# Process 1 of the script's own namespaces.
inside() { # WORK NETWORK HOSTNAME DNS_FILE SCRIPT LENT
  # Standard output is the engine's; the script's goes to the log.
  [ -z "$5" ] || exec >&2
  cd "$1/ns/root" || exit 70
  local folder place
  {
    mount -t proc -o nosuid,nodev,noexec proc proc &&
      printf %s "$3" >proc/sys/kernel/hostname &&
      protect_kernel proc/sys proc/sysrq-trigger proc/irq proc/bus &&
      mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys &&
      make_dev "$1/ns" &&
      mount -t tmpfs -o mode=0755,nosuid,nodev run run &&
      mount -t tmpfs -o mode=1777,nosuid,nodev tmp tmp &&
      mkdir -m 1777 run/lock && mkdir run/vlb &&
      mount --bind "$1/ns/dns" run/vlb &&
      # The host's file system: without nodev a node made there would open the host's disks.
      mount -o bind,nosuid,nodev "$1/src" mnt &&
      mkdir run/secrets && mount --bind "$1/ns/secrets" run/secrets &&
      { [ ! -d "$1/record" ] || { mkdir run/vlb-record && mount --bind "$1/record" run/vlb-record; }; } &&
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
  leave_host
  # Of bash itself; not for the script.
  export -n PWD OLDPWD SHLVL LC_ALL
  cd /mnt || exit 70
  [ -n "$5" ] || open_shell
  "./$5" </dev/null &
  wait $!
  exit $?
}

open_shell() {
  if [ -e /run/vlb-record/rc ]; then
    [ -x /bin/bash ] || { echo 'git vlb: to record, the image needs /bin/bash' >&2 && exit 70; }
    /bin/bash --rcfile /run/vlb-record/rc
  elif [ -x /bin/bash ]; then
    /bin/bash
  else
    /bin/sh
  fi
  exit $?
}

mount_read_only() { # FOLDER PLACE
  mkdir "$2" && mount -o bind,ro,nosuid,nodev "$1" "$2"
}

# /proc files through which root could change the running kernel.
protect_kernel() { # PATH...
  local path
  for path; do
    [ -e "$path" ] || continue
    mount -o bind,ro,nosuid,nodev,noexec "$path" "$path" || return
  done
}

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
  exit 70
}

# Runs a modify-disk script on the host, against the whole disk.
action_disk() { # WORK SOURCE SCRIPT VARIABLE=VALUE...
  local work=$1 source=$2 script=$3 ns=$1/ns status device hold before
  shift 3
  mkdir -p "$work/scratch/tmp"
  chown -R 0:0 -- "$work/src"
  [ ! -d "$work/include" ] || chown -R 0:0 -- "$work/include"
  attach "$work" "$work/layer.qcow2" qcow2
  { mount --bind -- "$source" "$source" && mount -o remount,bind,ro -- "$source"; } || die VLB_HOST_KERNEL "cannot protect the parent's snapshot"
  loop_device "$disk" || die VLB_HOST_KERNEL "cannot make a loop device for the disk; see the log"
  make_helpers
  before=$(cut -d ' ' -f 1 /proc/self/mountinfo)
  # Not in a mount namespace of its own: the kernel unmounts what is left in one at a time of its own, too.
  unshare --pid --ipc --uts --fork --kill-child -- \
    env -i "$@" "TMPDIR=$work/scratch/tmp" \
    "$BASH" "$0" beside "$work" "$device" "./$script" "$source" "$work/layer.qcow2" "$device" {from_daemon}<&- {to_daemon}>&- {hold}<&- >&2
  status=$?
  unmount_since "$before"
  blockdev --flushbufs "$device" >&2
  exec {hold}<&-
  free_devices "$device"
  sync -- "$disk" || die VLB_KILLED "what the script wrote could not be written to the snapshot; see the log"
  if [ "$status" = 0 ]; then
    probe_disk
    tell "size $(stat -c %s -- "$disk")"
  fi
  detach
  tell "exit $status"
}

# A loop device that frees itself when nobody has it open any more: told to go while it is held open, it does so later.
# In between nothing may end us. Sets `device` and `hold`.
loop_device() { # FILE OPTION...
  : >"$ns/settling"
  device=$(losetup --find --show "${@:2}" -- "$1") && exec {hold}<"$device" && losetup --detach "$device"
  rm -- "$ns/settling"
  [ -n "$device" ]
}

# What a modify-disk script has besides the host's programs: vlb-partition and vlb-resize.
make_helpers() {
  local name
  mkdir "$ns/bin"
  for name in partition resize; do
    printf '#!/bin/sh\nexec %q %q helper_%s %q %q "$@"\n' "$BASH" "$0" "$name" "$ns" "$device" >"$ns/bin/vlb-$name"
    chmod 755 "$ns/bin/vlb-$name"
  done
}

# vlb-partition NUMBER: prints a block device for the partition, as the table is now. It is gone when the script is.
helper_partition() { # NS DEVICE NUMBER
  local ns=$1 disk=$2 device='' hold start size
  [[ ${3-} =~ ^[1-9][0-9]*$ ]] || { echo 'usage: vlb-partition NUMBER' >&2 && exit 2; }
  read -r start size < <(sfdisk --dump -- "$disk" | sed -nE "s|^${disk}p$3 : start= *([0-9]+), size= *([0-9]+).*|\\1 \\2|p")
  [ -n "${size-}" ] || { echo "vlb-partition: the disk has no partition $3" >&2 && exit 1; }
  loop_device "$disk" --offset $((start * 512)) --sizelimit $((size * 512)) || exit 1
  # Holds the device open.
  sleep infinity >/dev/null 2>&1 &
  printf '%s\n' "$device"
}

# vlb-resize SIZE: makes the disk larger, in the words of truncate(1). Partitions stay as they are.
helper_resize() { # NS DEVICE SIZE
  local size
  size=$(numfmt --from=iec -- "${3-}") || { echo 'usage: vlb-resize SIZE, such as 20G' >&2 && exit 2; }
  ((size >= $(stat -c %s -- "$1/disk"))) || { echo 'vlb-resize: a disk can only grow' >&2 && exit 1; }
  truncate -s $(((size + 65535) / 65536 * 65536)) -- "$1/disk" && losetup --set-capacity "$2"
}

# Process 1 of a modify-disk script's PID namespace.
beside() { # WORK DEVICE COMMAND...
  local number
  mount -t proc -o nosuid,nodev,noexec proc /proc || exit 70
  cd "$1/src" || exit 70
  while read -r number; do
    export "VLB_PARTITION_$number=$(helper_partition "$1/ns" "$2" "$number")"
  done < <(sfdisk --dump -- "$2" 2>/dev/null | sed -nE "s|^${2}p([0-9]+) : .*|\\1|p")
  PATH=$1/ns/bin:$PATH
  export -n PWD OLDPWD SHLVL LC_ALL
  "${@:3}" </dev/null &
  wait $!
  exit $?
}

# Unmounts what was not mounted before, the last first.
unmount_since() { # IDS
  local id place
  # That of the processes that are gone.
  umount /proc 2>/dev/null
  while read -r id _ _ _ place _; do
    grep -qxF "$id" <<<"$1" || printf '%s\n' "$place"
  done </proc/self/mountinfo | tac | while IFS= read -r place; do
    umount -- "$(printf %b "$place")" >&2 || echo "git vlb: $place stays mounted" >&2
  done
}

# Waits until the disk's device and those of its partitions are free, which the kernel sees to by itself.
free_devices() { # DEVICE
  local used
  for _ in {1..600}; do
    used=$(losetup --list --noheadings --output NAME,BACK-FILE | awk -v device="$1" '$1 == device || $2 == device { print $1 }')
    [ -n "$used" ] || return 0
    sleep 0.05
  done
  die VLB_KILLED "the disk stays in use, by ${used//$'\n'/, }, after the script has ended"
}

# Runs a build-base script on the host. What it writes to OUTPUT becomes WORK/disk.
action_host() { # WORK SCRIPT VARIABLE=VALUE...
  local work=$1 script=$2 status
  shift 2
  mkdir -p "$work/scratch/tmp"
  chown -R 0:0 -- "$work/src"
  unshare --mount --pid --ipc --uts --fork --kill-child --mount-proc --propagation private -- \
    env -i -C "$work/src" "$@" "TMPDIR=$work/scratch/tmp" "./$script" "$work/scratch/disk" >&2
  status=$?
  if [ -f "$work/scratch/disk" ] && [ ! -L "$work/scratch/disk" ]; then
    chown --reference="$work" -- "$work/scratch/disk" && chmod 0644 "$work/scratch/disk" && mv -- "$work/scratch/disk" "$work/disk"
  fi
  printf 'exit %s\n' "$status"
}

# shellcheck source=seal.sh
. "${BASH_SOURCE[0]%/*}/seal.sh"

"$@"

# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Paths and programs of an image, seen from outside of it.

# An image for another kind of machine is run by qemu-user, if the kernel knows of it (binfmt_misc): registered with the
# flag F, its program is open already and need not be in the image.
check_architecture() { # FILE of the image, or nothing
  local candidate found machine='' name ours
  elf_machine "$1"
  for candidate in /bin/sh /usr/bin/env /sbin/init; do
    [ -z "$machine" ] || break
    find_within "$root" "$candidate" && elf_machine "$found"
  done
  [ -n "$machine" ] || return 0
  # Since Linux 6.1 (Documentation/admin-guide/sysctl/kernel.rst).
  { read -r ours </proc/sys/kernel/arch; } 2>/dev/null || ours=$(uname -m)
  case $machine/$ours in
    "$ours/$machine" | i386/x86_64 | arm/aarch64 | unknown/*) return ;;
  esac
  name=/proc/sys/fs/binfmt_misc/qemu-$machine
  [ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null
  grep -qs '^enabled' "$name" && grep -qs '^flags:.*F' "$name" && return
  die VLB_HOST_ARCHITECTURE "the image is for $machine, and this $ours host knows no program to run it with"
}

# Sets `machine` to e_machine of an ELF header (elf(5)), in the byte order that its sixth byte tells.
elf_machine() { # FILE
  local bytes code
  [ -f "$1" ] && read -ra bytes < <(od -An -v -tx1 -w20 -N20 -- "$1") && [ "${bytes[*]:0:4}" = '7f 45 4c 46' ] || return
  code=${bytes[19]-}${bytes[18]-}
  [ "${bytes[5]-}" != 02 ] || code=${bytes[18]-}${bytes[19]-}
  case $code in
    003e) machine=x86_64 ;;
    0003) machine=i386 ;;
    00b7) machine=aarch64 ;;
    0028) machine=arm ;;
    00f3) machine=riscv64 ;;
    0015) [ "${bytes[5]-}" != 02 ] && machine=ppc64le || machine=ppc64 ;;
    0016) machine=s390x ;;
    0102) machine=loongarch64 ;;
    *) machine=unknown ;;
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

# Whether a path of the image, found earlier, still is a place in it: a script may have put a link into the way.
still_within() { # PATH
  local found
  find_within "$root" "${1#"$root"}" && [ "$found" = "$1" ]
}

# Tells the folder's /etc/fstab as one line, bounded.
print_fstab() { # FOLDER
  local found
  find_within "$1" /etc/fstab && [ -f "$found" ] || return 0
  tell "fstab $(head -c 65537 -- "$found" | base64 -w 0)"
}

# Prints the beginning of a plain file. Of anything else nothing: nobody may ever write to a fifo, and a link leads elsewhere.
plain_text() { # FILE [BYTES]
  [ ! -L "$1" ] && [ -f "$1" ] && head -c "${2:-65536}" -- "$1" | tr -d '\0'
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

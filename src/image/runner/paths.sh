# shellcheck shell=bash disable=SC2034,SC2154 # sourced by runner.sh; its parts share their variables
# Paths and programs of an image, seen from outside of it.

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

# Whether a path of the image, found earlier, still is a place in it: a script may have put a link into the way.
still_within() { # PATH
  local found
  find_within "$root" "${1#"$root"}" && [ "$found" = "$1" ]
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

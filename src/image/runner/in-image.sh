#!/usr/bin/env bash
# Becomes a layer's script, or a shell, in an image. Started by runner/layer.sh without the powers that setting up takes, while
# the host is still there to start programs from; waits until it is gone, and runs what is in the image then.
#
# usage: in-image.sh IN OUT SCRIPT VARIABLE=VALUE...; IN, OUT: descriptors, of what the script has for its standard input and
# output. Ours are pipes to the process that leaves the host.
in=$1 out=$2
# All that is needed of the host is in memory.
echo && read -r && [ "$REPLY" = left ] || exit 70
exec <&"$in" >&"$out" {in}<&- {out}>&-
# Of bash itself; not for the script.
export -n PWD OLDPWD SHLVL LC_ALL
cd /mnt || exit 70
# Not by a variable of ours: it could be one of these. bash lets nobody set the first three, which are in the environment already.
while (($# > 3)); do
  [[ $4 == @(UID|EUID|PPID)=* ]] || export "${4?}"
  set -- "$1" "$2" "$3" "${@:5}"
done
# Always by exec: a bash of the host's that stayed would have files of the host open, which its equals could write to.
[ -z "$3" ] || exec "./$3"
if [ -e /run/vlb-record/rc ]; then
  [ -x /bin/bash ] || { echo 'git vlb: to record, the image needs /bin/bash' >&2 && exit 70; }
  exec /bin/bash --rcfile /run/vlb-record/rc
fi
[ ! -x /bin/bash ] || exec /bin/bash
exec /bin/sh

# Run by git after a checkout, a merge and a rewrite: decides in sh, within milliseconds, whether layers changed, and
# starts the prebuild in the background. It lies in a subshell of the hook, with an empty standard input. `hook`,
# `projects`, `node` and `main` are set before it.
# shellcheck shell=sh disable=SC2154,SC2016
set +eu
CDPATH=''
git_dir=$(cd "${GIT_DIR:-.git}" 2>/dev/null && pwd) || git_dir=$(git rev-parse --absolute-git-dir 2>/dev/null) || exit 0

# In the middle of something: what is checked out now will not stay. A rebase tells of its end while it is still there,
# and a merge may.
[ "$hook $1" = 'post-rewrite rebase' ] || {
  [ ! -e "$git_dir/rebase-merge" ] && [ ! -e "$git_dir/rebase-apply" ] || exit 0
}
[ "$hook" = post-merge ] || [ ! -e "$git_dir/MERGE_HEAD" ] || exit 0
for state in BISECT_START BISECT_LOG CHERRY_PICK_HEAD REVERT_HEAD sequencer; do
  [ ! -e "$git_dir/$state" ] || exit 0
done

# What to compare; nothing where git does not say: then the prebuild finds out.
from='' to=HEAD
case $hook in
post-checkout)
  # 0: files were checked out, no branch. Nothing but zeros: a clone.
  [ "$3" = 1 ] && [ "$1" != "$2" ] || exit 0
  case $1 in *[!0]*) from=$1 to=$2 ;; *) exit 0 ;; esac
  # `git rebase --apply` checks out before anything else shows that it is one.
  read -r head 2>/dev/null <"$git_dir/HEAD"
  case $head in
  ref:*) ;;
  *) case $(tail -n 1 "$git_dir/logs/HEAD" 2>/dev/null) in *' (start): checkout '*) exit 0 ;; esac ;;
  esac
  ;;
post-merge) [ "$1" = 1 ] || from=ORIG_HEAD ;;
post-rewrite) [ "$1" != amend ] || from='HEAD@{1}' ;;
esac

if command -v git-vlb >/dev/null 2>&1; then
  set -- git-vlb
elif [ -x "$node" ] && [ -f "$main" ]; then
  set -- "$node" "$main"
else
  exit 0
fi
# From here on git finds the repository by the folder.
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX

# Whether the layers of the project are the same; with those that include other files, all of the project.
unchanged() {
  git -C "$project" diff-tree -r --quiet "$from" "$to" -- vlb.yaml '[0-9][0-9]*_*' 2>/dev/null || return 1
  ! grep -qs 'vlb: *include' "$project"/[0-9][0-9]*_*/[bm]* "$project"/[0-9][0-9]*_*/layers/*/[bm]* ||
    git -C "$project" diff-tree -r --quiet "$from" "$to" -- . 2>/dev/null
}

started=''
IFS='
'
for project in $projects; do
  [ -f "$project/vlb.yaml" ] || continue
  [ -z "$from" ] || ! unchanged || continue
  [ -n "$started" ] || [ "$(git config --bool --get vlb.prebuild 2>/dev/null)" != false ] || exit 0
  # In a session of its own, holding neither the terminal nor git's pipe.
  setsid -f sh -c 'mkdir -p "$1" && log=$1/prebuild.log && shift && exec nice -n 19 "$@" >>"$log" 2>&1' sh \
    "$git_dir/vlb-prebuild/$project" "$@" -C "$project" prebuild --hook </dev/null >/dev/null 2>&1
  started=1
done
[ -z "$started" ] || [ ! -t 2 ] || echo 'git vlb: layers changed; what is missing is built in the background (git vlb status)' >&2

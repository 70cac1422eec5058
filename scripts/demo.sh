#!/usr/bin/env bash
# Show what envfs does: real programs in a mount, what the disk sees, the daemon killed in mid-work, and that nothing
# that was reported done is lost. Usage: demo.sh ENVFS
set -euo pipefail
envfs=$(realpath "${1:-bin/envfs}")

dir=$(mktemp -d "${TMPDIR:-/tmp}/envfs-demo.XXXXXX")
store=$dir/vault private=$dir/private plain=$dir/plain key=$dir/vault.key
export XDG_STATE_HOME=$dir/state HOME=$dir
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org

writer=
cleanup() {
	cd /
	if [ -n "$writer" ]; then kill "$writer" 2>/dev/null || true; fi
	"$envfs" unmount "$private" 2>/dev/null || "$envfs" unmount --lazy "$private" 2>/dev/null || true
	chmod -R u+rwx "$dir" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

. "$(dirname "$0")/demo-lib.sh"
db=$private/db
daemon() { "$envfs" status --json | grep -F "\"mountpoint\":\"$private\"" | sed -nE 's/.*"pid":([0-9]+).*/\1/p'; }

step "1. Make a vault and mount it"
"$envfs" key generate "$key" 2>/dev/null
"$envfs" init "$store" --keyfile "$key" 2>/dev/null
mkdir "$private" "$plain"
"$envfs" mount "$store" "$private" --keyfile "$key"
say "The vault lies in $store."
say "Its files show at $private. Here a key file opens it; usually that is a passphrase."

step "2. Let real programs work in it"
cd "$private"
git init -q -b main src
for i in $(seq 300); do
	mkdir -p "src/part$((i % 20))"
	printf 'chapter %d: the owl and the pussycat went to sea\n' "$i" >"src/part$((i % 20))/chapter$i.txt"
done
git -C src add -A
git -C src commit -q -m 'first'
git -C src checkout -q -b other
git -C src mv part0 part-zero
git -C src commit -q -m 'renamed'
git -C src checkout -q main
git -C src fsck --strict >/dev/null 2>&1 || fail "git fsck"
say "git: made a repository of 300 files, committed, renamed, switched branches; fsck finds nothing wrong."
sqlite3 db 'PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, secret TEXT);' >/dev/null
for i in $(seq 20); do sqlite3 db "INSERT INTO t VALUES($i, 'owl number $i');"; done
[ "$(sqlite3 db 'PRAGMA integrity_check')" = ok ] || fail "sqlite's integrity check"
say "sqlite3: made a database with a write-ahead log and 20 transactions; its integrity check says ok."
mkdir -p "$plain/tree"
for i in $(seq 200); do head -c $((i * 97)) /dev/urandom >"$plain/tree/file $i"; done
ln -s 'file 1' "$plain/tree/link" && ln "$plain/tree/file 2" "$plain/tree/second name"
tar -C "$plain" -cf - tree | tar -xf -
diff -r --no-dereference "$plain/tree" tree || fail "what tar unpacked is not the same"
say "tar: unpacked a tree of 200 files and links; compared with the original, it is the same."

step "3. What the disk sees"
sync -f "$store"
say "$(find "$store" -type f -not -name '.*' | wc -l) objects, such as:"
find "$store" -type f -not -name '.*' -printf '      %P (%s bytes)\n' | sort | sed -n '1p;2p;$p'
for word in pussycat chapter 'owl number' 'CREATE TABLE' part-zero 'second name'; do
	if grep -rqa "$word" "$store" "$XDG_STATE_HOME"; then fail "'$word' can be read in the store"; fi
done
say "Words from the files, names of files, the table: searched for in all of it and in the log, found nowhere."

step "4. Kill the daemon (kill -9) while a program writes"
write_rows 20 &
writer=$!
cd "$dir"
until_row 60
kill -9 "$(daemon)"
wait "$writer" || true
writer=
say "sqlite3 had been told that transaction $(acknowledged) is done when the daemon was killed."
if ls "$private" >/dev/null 2>&1; then fail "the mount survived the daemon"; fi
say "Now the mount point is dead: $(ls "$private" 2>&1 | sed 's/.*: //')"

step "5. Mount again and compare"
"$envfs" mount "$store" "$private" --keyfile "$key"
check_rows "$db"
git -C "$private/src" fsck --strict >/dev/null 2>&1 || fail "git fsck after the kill"
[ -z "$(git -C "$private/src" status --porcelain)" ] || fail "git status after the kill"
say "git: fsck finds nothing wrong, nothing has changed."
diff -r --no-dereference "$plain/tree" "$private/tree" || fail "the tree is not the same after the kill"
say "tar's tree is the same as the original."

step "6. Check everything and unmount"
"$envfs" check "$store" 2>&1 | sed 's/^/   /'
"$envfs" status | sed 's/^/   /'
"$envfs" unmount "$private"
[ -z "$(ls -A "$private")" ] || fail "something is left at the mount point"
[ "$(stat -c %a "$private")" = 500 ] || fail "the bare mount point can be written to"
say "Unmounted: all is on disk, the daemon has ended, and the bare mount point is closed (mode 0500)."
"$envfs" cat "$store" /src/part7/chapter7.txt --keyfile "$key" | sed 's/^/   without a mount, envfs cat says: /'

printf '\nAll of this was in %s, which is removed now.\n' "$dir"

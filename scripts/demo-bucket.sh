#!/usr/bin/env bash
# Show a vault in a bucket: a MinIO server of its own, real programs in the mount, what the server sees, the server killed
# in mid-work, and that nothing is lost. Usage: demo-bucket.sh ENVFS MINIO
set -euo pipefail
envfs=$(realpath "${1:-bin/envfs}") minio=$(realpath "${2:-bin/minio}")

dir=$(mktemp -d "${TMPDIR:-/tmp}/envfs-demo.XXXXXX")
team=$dir/team laptop=$dir/laptop key=$dir/vault.key data=$dir/server
export HOME=$dir XDG_STATE_HOME=$dir/state XDG_CACHE_HOME=$dir/cache
export AWS_ACCESS_KEY_ID=demo-user AWS_SECRET_ACCESS_KEY=demo-secret
export GIT_AUTHOR_NAME=demo GIT_AUTHOR_EMAIL=demo@example.org GIT_COMMITTER_NAME=demo GIT_COMMITTER_EMAIL=demo@example.org

server='' writer=''
cleanup() {
	cd /
	if [ -n "$writer" ]; then kill "$writer" 2>/dev/null || true; fi
	for point in "$laptop" "$team"; do
		"$envfs" unmount "$point" 2>/dev/null || "$envfs" unmount --lazy "$point" 2>/dev/null || true
	done
	if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
	chmod -R u+rwx "$dir" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT

. "$(dirname "$0")/demo-lib.sh"
db=$team/db

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start_server() {
	MINIO_ROOT_USER=$AWS_ACCESS_KEY_ID MINIO_ROOT_PASSWORD=$AWS_SECRET_ACCESS_KEY MINIO_BROWSER=off \
		"$minio" server --quiet --address "127.0.0.1:$port" "$data" >>"$dir/server.log" 2>&1 &
	server=$!
	for _ in $(seq 200); do
		if python3 -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:$port/minio/health/ready')" 2>/dev/null; then return; fi
		sleep 0.05
	done
	fail "the server does not start: $(cat "$dir/server.log")"
}

step "1. Start a server with a bucket, make a vault in it and mount that"
mkdir -p "$data/bucket" "$team" "$laptop"
start_server
store="s3://bucket/vault?endpoint=http://127.0.0.1:$port&region=us-east-1"
"$envfs" key generate "$key" 2>/dev/null
"$envfs" init "$store" --keyfile "$key" 2>/dev/null
"$envfs" mount "$store" "$team" --keyfile "$key"
say "MinIO listens at 127.0.0.1:$port. The vault is $store"

step "2. Let real programs work in it"
git init -q -b main "$team/src"
for i in $(seq 300); do
	mkdir -p "$team/src/part$((i % 20))"
	printf 'chapter %d: the owl and the pussycat went to sea\n' "$i" >"$team/src/part$((i % 20))/chapter$i.txt"
done
git -C "$team/src" add -A
git -C "$team/src" commit -q -m 'first'
sqlite3 "$team/db" 'PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER PRIMARY KEY, secret TEXT);' >/dev/null
head -c 20000000 /dev/urandom >"$dir/large" && cp "$dir/large" "$team/large"
say "git made a repository of 300 files, sqlite3 a database, cp a file of 20 MB."
"$envfs" sync "$team"
say "envfs sync has returned: all of it is in the bucket."

step "3. What the server sees"
say "$(find "$data/bucket/vault" -name xl.meta | wc -l) objects, such as:"
find "$data/bucket/vault" -name xl.meta -printf '%P\n' | sed 's/^/      /; s/.xl.meta$//' | sort | sed -n '1p;2p;$p'
for word in pussycat chapter 'CREATE TABLE' part7; do
	if grep -rqa "$word" "$data/bucket" "$XDG_STATE_HOME" "$XDG_CACHE_HOME"; then fail "'$word' can be read in the bucket, the state or the cache"; fi
done
say "Words from the files and names of files: found neither there nor in what this machine keeps."

step "4. Kill the server (kill -9) while a program writes"
write_rows 0 &
writer=$!
until_row 20
kill -9 "$server"
wait "$server" 2>/dev/null || true
server=
killed=$(acknowledged)
until_row $((killed + 40))
say "The server was killed at transaction $killed; sqlite3 went on to transaction $(acknowledged) without it."
"$envfs" status | grep -E 'published' | sed 's/^/   /'
kill "$writer"
wait "$writer" 2>/dev/null || true
writer=

step "5. Start the server again"
start_server
"$envfs" sync "$team"
say "All is published again. Another look at the vault, read-only, as another machine has it:"
XDG_STATE_HOME=$dir/state2 XDG_CACHE_HOME=$dir/cache2 "$envfs" mount --read-only "$store" "$laptop" --keyfile "$key"
cp "$laptop"/db* "$dir"
check_rows "$dir/db"
cmp "$dir/large" "$laptop/large" || fail "the large file is not the same"
say "The file of 20 MB is the same."
"$envfs" unmount "$laptop"

step "6. Unmount and check everything"
"$envfs" unmount "$team"
"$envfs" check "$store" --keyfile "$key" 2>&1 | sed 's/^/   /'
printf '\nAll of this was in %s, which is removed now.\n' "$dir"

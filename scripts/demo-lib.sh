# What the demos share; they source it. $dir is theirs, $db the database that rows are written to.

bold='' normal=''
if [ -t 1 ]; then bold=$'\033[1m' normal=$'\033[0m'; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$normal"; }
say() { printf '   %s\n' "$*"; }
fail() { printf '\ndemo: FAILED: %s\n' "$*" >&2; exit 1; }

# write_rows writes the rows after number $1, one transaction each, until that fails, and notes what it was told is done.
write_rows() {
	local n=$1
	while n=$((n + 1)) && sqlite3 "$db" "INSERT INTO t VALUES($n, 'owl number $n');" 2>/dev/null; do
		echo "$n" >"$dir/acknowledged.new"
		mv "$dir/acknowledged.new" "$dir/acknowledged" # whoever reads it finds the one or the other number
	done
}
acknowledged() { cat "$dir/acknowledged" 2>/dev/null || echo 0; }

# until_row waits until row $1 is done.
until_row() {
	for _ in $(seq 300); do
		if [ "$(acknowledged)" -ge "$1" ]; then return; fi
		sleep 0.1
	done
	fail "sqlite3 does not get on"
}

# check_rows makes sure that the database at $1 is whole and has all that was reported done.
check_rows() {
	local rows
	rows=$(sqlite3 "$1" 'SELECT max(n) FROM t')
	[ "$(sqlite3 "$1" 'PRAGMA integrity_check')" = ok ] || fail "sqlite's integrity check"
	[ "$rows" -ge "$(acknowledged)" ] || fail "transaction $(acknowledged) was reported done and is lost; the last is $rows"
	say "sqlite3: integrity ok, $rows transactions: none that was reported done is lost."
}

#!/usr/bin/env bash
# Proves that the tests notice builds that are wrong. Each patch in tests/mutants breaks one thing, and names the test
# that must fail then; the tree as it is must pass the same tests with the same seed.
#
#   scripts/mutants.sh [name ...]     only these patches
#
# MUTANT_WRAP is a command to run go test under, MUTANT_SEED another seed; with MUTANT_VERBOSE the tests' words are shown.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${MUTANT_SEED:-7}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# fresh makes a copy of the tree in $work/tree.
fresh() {
	rm -rf "$work/tree"
	mkdir "$work/tree"
	git ls-files -co --exclude-standard -z | while IFS= read -r -d '' f; do
		[[ -e $f ]] && printf '%s\0' "$f"
	done | tar --null -T - -cf - | tar -C "$work/tree" -xf -
	[[ ! -d bin ]] || ln -s "$PWD/bin" "$work/tree/bin" # the servers
}

# check runs a test, "package Test/subtest", in the copy.
check() {
	local package=${1%% *} name=${1#* } flags=()
	[[ $package == ./tests/crash ]] && flags=(-crash.seed="$seed")
	(cd "$work/tree" && ${MUTANT_WRAP:-} go test "$package" -count=1 -timeout 5m -run "^${name//\//\$/^}\$" "${flags[@]}") >"$work/out" 2>&1
}

field() { sed -n "s/^$1: //p;/^---/q" "$2"; }

patches=()
if (($#)); then
	for name; do patches+=("tests/mutants/$name.patch"); done
else
	patches=(tests/mutants/*.patch)
fi

bad=0
row() { printf '%-28s %-32s %s\n' "$1" "$2" "$3"; }
row MUTANT TEST RESULT

fresh
while IFS= read -r test; do
	if check "$test"; then
		row - "${test#* }" 'passes unmutated'
	else
		row - "${test#* }" 'FAILS UNMUTATED'
		cat "$work/out"
		bad=1
	fi
done < <(for p in "${patches[@]}"; do field test "$p"; done | sort -u)

for p in "${patches[@]}"; do
	name=$(basename "$p" .patch)
	test=$(field test "$p")
	fresh
	if ! patch -d "$work/tree" -p1 -s -F3 --no-backup-if-mismatch <"$p" >"$work/out" 2>&1; then
		row "$name" "${test#* }" 'DOES NOT APPLY'
		bad=1
	elif check "$test"; then
		row "$name" "${test#* }" SURVIVED
		bad=1
	elif grep -q '^--- FAIL\|^panic:' "$work/out"; then
		row "$name" "${test#* }" killed
	else
		row "$name" "${test#* }" 'DID NOT RUN'
		cat "$work/out"
		bad=1
	fi
	[[ -z ${MUTANT_VERBOSE:-} ]] || sed -nE '1,25s/^(.{0,300}).*/    \1/p' "$work/out"
done
exit $bad

#!/usr/bin/env bash
# Show what opens a vault: a passphrase, a KMS, an HSM. Keys are rotated, the KMS refuses, and the other ways stay open.
# Usage: demo-keys.sh ENVFS
set -euo pipefail
envfs=$(realpath "${1:-bin/envfs}")
module=/usr/lib/softhsm/libsofthsm2.so

dir=$(mktemp -d "${TMPDIR:-/tmp}/envfs-demo.XXXXXX")
vault=$dir/vault mount=$dir/private kms=$dir/kms
export HOME=$dir AWS_REGION=us-east-1 AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=$dir/credentials AWS_CA_BUNDLE=$kms/ca.pem
export SOFTHSM2_CONF=$dir/softhsm2.conf ENVFS_PKCS11_MODULE=$module

service=
cleanup() {
	cd /
	"$envfs" unmount "$mount" 2>/dev/null || true
	if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; fi
	rm -rf "$dir"
}
trap cleanup EXIT

. "$(dirname "$0")/demo-lib.sh"

# opens mounts the vault with the given flags, reads, and unmounts.
opens() {
	"$envfs" mount "$vault" "$mount" "$@" 2>"$dir/err" || fail "$* does not open: $(cat "$dir/err")"
	[ "$(cat "$mount/letter")" = "dear friend" ] || fail "the letter is another"
	"$envfs" unmount "$mount"
}

step "1. A key in a KMS, one in an HSM"
"$envfs" key generate "$dir/kms.key" 2>/dev/null
"$envfs" kms init "$kms" --keyfile "$dir/kms.key" --access-out "$dir/credentials" 2>/dev/null
"$envfs" kms serve "$kms" --keyfile "$dir/kms.key" --listen 127.0.0.1:0 2>"$dir/log" &
service=$!
for _ in $(seq 300); do
	AWS_ENDPOINT_URL_KMS=$(sed -nE 's/.* at (https:[^ ]*)\.$/\1/p' "$dir/log")
	if [ -n "$AWS_ENDPOINT_URL_KMS" ]; then break; fi
	sleep 0.1
done
[ -n "$AWS_ENDPOINT_URL_KMS" ] || fail "the KMS does not start: $(cat "$dir/log")"
export AWS_ENDPOINT_URL_KMS
say "KMS: $("$envfs" kms key create "$kms" --alias photos)"
mkdir "$dir/tokens" && echo "directories.tokendir = $dir/tokens" >"$SOFTHSM2_CONF"
softhsm2-util --init-token --free --label office --so-pin 87654321 --pin 123456 >/dev/null
(umask 077 && echo 123456 >"$dir/pin" && echo 'correct horse battery staple' >"$dir/pass")
hsm='pkcs11:token=office;object=envfs'
"$envfs" key generate --pkcs11 "$hsm" --pin-file "$dir/pin" 2>/dev/null
say "HSM: $hsm (SoftHSM; the key never leaves it)"

step "2. A vault that a passphrase, the KMS or the HSM opens"
"$envfs" init "$vault" --passfile "$dir/pass" --kdf-memory 64 --no-recovery --label mine 2>/dev/null
"$envfs" key add "$vault" --passfile "$dir/pass" --new-key awskms://alias/photos --label team 2>/dev/null
"$envfs" key add "$vault" --passfile "$dir/pass" --new-key "$hsm" --pin-file "$dir/pin" --label office 2>/dev/null
mkdir "$mount"
"$envfs" mount "$vault" "$mount" --passfile "$dir/pass"
echo "dear friend" >"$mount/letter"
"$envfs" unmount "$mount"
"$envfs" key list "$vault" | sed 's/^/ /'
opens --passfile "$dir/pass" && say "opened by the passphrase"
opens --key awskms://alias/photos && say "opened by the KMS, and nothing was asked for"
opens --key "$hsm" --pin-file "$dir/pin" && say "opened by the HSM"

step "3. Keys are rotated; no data is read or written for it"
"$envfs" kms key rotate "$kms" alias/photos 2>/dev/null
"$envfs" key rewrap "$vault" --slot team 2>/dev/null
say "the KMS has a new version of its key, and the slot follows"
"$envfs" key rotate "$vault" --key awskms://alias/photos 2>/dev/null
"$envfs" key status "$vault" --key awskms://alias/photos 2>/dev/null | grep 'key epoch' | sed 's/^/   /' || true
"$envfs" key rewrap "$vault" --key awskms://alias/photos 2>&1 | sed 's/^/   /'
"$envfs" key status "$vault" --key awskms://alias/photos | grep 'key epoch' | sed 's/^/   /'

step "4. The KMS key is disabled"
"$envfs" kms key disable "$kms" alias/photos 2>/dev/null
code=0
"$envfs" mount "$vault" "$mount" --key awskms://alias/photos 2>"$dir/err" || code=$?
[ "$code" -eq 12 ] && grep -q 'refused: DisabledException' "$dir/err" || fail "a disabled key: exit code $code: $(cat "$dir/err")"
say "refused, exit code 12: $(grep -o 'DisabledException.*' "$dir/err")"
opens --passfile "$dir/pass" && say "the passphrase still opens it"
opens --key "$hsm" --pin-file "$dir/pin" && say "and the HSM"

step "5. Who opened what"
"$envfs" kms audit show "$kms" | grep -E 'GenerateDataKey|Decrypt|ReEncrypt' | cut -d' ' -f1-5,8- | sed 's/arn:[^ ]* //; s/^/   /'
say "The vault is named by its id, never by a path."

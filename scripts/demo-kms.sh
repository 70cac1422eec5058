#!/usr/bin/env bash
# Show what the embedded KMS does: sops and aws use it, a policy holds them, the service is killed, and the audit log tells what was
# done, and when somebody has changed it. Usage: demo-kms.sh ENVFS SOPS
set -euo pipefail
envfs=$(realpath "${1:-bin/envfs}") sops=$(realpath "${2:-bin/sops}")
aws=/usr/bin/aws

dir=$(mktemp -d "${TMPDIR:-/tmp}/envfs-demo.XXXXXX")
kms=$dir/kms key=$dir/kms.key
export HOME=$dir AWS_REGION=us-east-1 AWS_DEFAULT_REGION=us-east-1 AWS_PAGER='' AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null

service=
cleanup() {
	cd /
	if [ -n "$service" ]; then kill "$service" 2>/dev/null || true; fi
	rm -rf "$dir"
}
trap cleanup EXIT

. "$(dirname "$0")/demo-lib.sh"

# serve starts the service, and waits until it serves.
serve() {
	"$envfs" kms serve "$kms" --keyfile "$key" --listen 127.0.0.1:0 2>"$dir/log" &
	service=$!
	for _ in $(seq 300); do
		AWS_ENDPOINT_URL_KMS=$(sed -nE 's/.* at (https:[^ ]*)\.$/\1/p' "$dir/log")
		export AWS_ENDPOINT_URL_KMS
		if [ -n "$AWS_ENDPOINT_URL_KMS" ]; then return; fi
		sleep 0.1
	done
	fail "the service does not start: $(cat "$dir/log")"
}
# use has the clients be the user whose access key is on standard input.
use() { eval "$(cat)"; }
refused() { # what is expected, then a command that must be refused with it
	local want=$1 said
	shift
	if said=$("$@" 2>&1); then fail "$* is not refused"; fi
	[[ $said == *$want* ]] || fail "$* is refused otherwise: $said"
	say "refused, as it should be: $want"
}

step "1. Make a KMS and run it"
"$envfs" key generate "$key" 2>/dev/null
admin=$("$envfs" kms init "$kms" --keyfile "$key" 2>/dev/null)
export AWS_CA_BUNDLE=$kms/ca.pem
serve
use <<<"$admin"
say "It lies in $kms and listens at $AWS_ENDPOINT_URL_KMS, with a certificate of its own authority."

step "2. Let tools that know AWS KMS use it"
arn=$("$envfs" kms key create "$kms" --alias app)
say "made $arn"
cd "$dir"
printf 'password: correct horse battery staple\n' >secrets.yaml
"$sops" encrypt --kms "$arn" --encryption-context app:demo --in-place secrets.yaml
grep -q 'correct horse' secrets.yaml && fail "sops has not encrypted"
[[ $("$sops" decrypt secrets.yaml) == *'correct horse'* ]] || fail "sops does not decrypt"
say "sops: encrypted a file and decrypted it."
blob=$($aws kms --endpoint-url "$AWS_ENDPOINT_URL_KMS" encrypt --key-id alias/app --plaintext aGVsbG8= --encryption-context app=demo --query CiphertextBlob --output text)
say "aws: encrypted 5 bytes, to $blob"

step "3. Who may do what, the key's policy says"
use < <("$envfs" kms user add "$kms" alice)
refused AccessDeniedException "$sops" decrypt secrets.yaml
"$envfs" kms key policy "$kms" alias/app --put - <<'POLICY'
{"Version": "2012-10-17", "Statement": [
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:root"}, "Action": "kms:*", "Resource": "*"},
  {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/alice"}, "Action": "kms:Decrypt", "Resource": "*",
   "Condition": {"StringEquals": {"kms:EncryptionContext:app": "demo"}}}]}
POLICY
[[ $("$sops" decrypt secrets.yaml) == *'correct horse'* ]] || fail "alice may not decrypt"
say "alice may decrypt what has the context app=demo, and not encrypt:"
refused AccessDeniedException $aws kms --endpoint-url "$AWS_ENDPOINT_URL_KMS" encrypt --key-id alias/app --plaintext aGVsbG8= --encryption-context app=demo

step "4. Kill the service, rotate and disable the key"
kill -9 "$service"
wait "$service" 2>/dev/null || true
serve
"$envfs" kms key rotate "$kms" alias/app 2>/dev/null
[[ $("$sops" decrypt secrets.yaml) == *'correct horse'* ]] || fail "what was encrypted before does not open"
say "All is there after kill -9, and what was encrypted before the rotation still opens."
"$envfs" kms key disable "$kms" alias/app 2>/dev/null
refused DisabledException "$sops" decrypt secrets.yaml

step "5. The audit log"
"$envfs" kms audit show "$kms" --key "${arn##*/}" | cut -d' ' -f1,3-6 | sed 's/^/   /'
"$envfs" kms audit checkpoint "$kms" >checkpoint
"$envfs" kms audit verify "$kms" --checkpoint checkpoint 2>/dev/null || fail "the log is not as it was"
say "Verified against a checkpoint. Now somebody removes a line:"
sed -i 4d "$kms"/audit/*.log
if "$envfs" kms audit verify "$kms" --checkpoint checkpoint >found 2>/dev/null; then fail "it is not found"; fi
head -1 found | sed 's/^/   /'

printf '\nAll of this was in %s, which is removed now.\n' "$dir"

#!/usr/bin/env bash
# Build the S3 servers that tests and the demo run, what makes users of MinIO, and the clients that tests run against the KMS, from their Go
# modules, into bin/, if that has not been done yet.
# MinIO takes some minutes the first time. Arguments name them; without any, all are built.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packages=([minio]=github.com/minio/minio [minio-admin]=./admin [versitygw]=github.com/versity/versitygw/cmd/versitygw
	[sops]=github.com/getsops/sops/v3/cmd/sops)
[ $# -gt 0 ] || set -- "${!packages[@]}"
for server in "$@"; do
	binary=$PWD/bin/$server module=tools/${server%-admin}
	[ "$binary" -nt "$module/go.mod" ] && [ "$server" != minio-admin -o "$binary" -nt "$module/admin/main.go" ] && continue
	echo "servers: building $server (the first time this takes minutes)" >&2
	go build -C "$module" -trimpath -o "$binary" "${packages[$server]}"
	touch "$binary"
done

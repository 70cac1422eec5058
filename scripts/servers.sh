#!/usr/bin/env bash
# Build the S3 servers that tests and the demo run, what makes users of MinIO, the clients that tests run against the KMS, and the Vault that
# tests ask for keys, from their Go modules, into bin/, if that has not been done yet.
# MinIO and Vault take some minutes each the first time. Arguments name them; without any, all are built.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A packages=([minio]=github.com/minio/minio [minio-admin]=./admin [versitygw]=github.com/versity/versitygw/cmd/versitygw
	[sops]=github.com/getsops/sops/v3/cmd/sops [vault-test]=.)

# Vault's module replaces its own sub-modules and runs ahead of those that are published, so it can be neither installed nor required as
# it is. bin/vault-src is a copy, mended to build with the published ones. It is under the Business Source License: it is built here,
# for tests, and never shipped.
mend_vault() {
	local source sum='h1:KHGcdSnJtombvae1gDk+jZ50kiFngJPFDOvcCJRnU0c='
	source=$(cd / && go mod download -json github.com/hashicorp/vault@v1.21.4)
	if [[ $source != *"\"Sum\": \"$sum\""* ]]; then
		echo "servers: vault-test: github.com/hashicorp/vault@v1.21.4 is not what it was" >&2
		return 1
	fi
	source=$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$source")
	rm -rf bin/vault-src
	mkdir -p bin/vault-src
	cp -R "$source"/{audit,builtin,command,helper,http,internal,internalshared,limits,physical,plugins,serviceregistration,shamir,vault,version,go.mod} bin/vault-src
	chmod -R u+w bin/vault-src
	patch -s -d bin/vault-src -p1 <tools/vault/submodules.patch
}

[ $# -gt 0 ] || set -- "${!packages[@]}"
for server in "$@"; do
	binary=$PWD/bin/$server module=tools/${server%-*} own=
	case $server in
	minio-admin) own=$module/admin/main.go ;;
	vault-test) own=$module/main.go ;;
	esac
	[ "$binary" -nt "$module/go.mod" ] && [ -z "$own" -o "$binary" -nt "${own:-/}" ] && continue
	echo "servers: building $server (the first time this takes minutes)" >&2
	if [ "$server" = vault-test ]; then
		mend_vault || { echo "servers: vault-test: cannot lay out Vault's source: its tests will fail" >&2; exit 1; }
	fi
	nice go build -C "$module" -trimpath -o "$binary" "${packages[$server]}" || { echo "servers: $server does not build" >&2; exit 1; }
	touch "$binary"
done
rm -rf bin/vault-src

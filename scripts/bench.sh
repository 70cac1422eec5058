#!/usr/bin/env bash
# Measure envfs beside gocryptfs, a bare directory and an empty FUSE file system, and print tables for the README.
# As root also with a cold page cache and a tmpfs of its own. Arguments are the benchmark's: scripts/bench.sh -help
#
# scripts/bench.sh bucket [-help] measures vaults in a bucket beside rclone, gocryptfs on rclone, s3fs and minio-go.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1-}" = bucket ]; then
	shift
	go build -o bin/bench-bucket ./tests/bench/bucket
	exec bin/bench-bucket "$@"
fi
go build -o bin/bench ./tests/bench
exec bin/bench "$@"

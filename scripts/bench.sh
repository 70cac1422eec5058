#!/usr/bin/env bash
# Measure envfs beside gocryptfs, a bare directory and an empty FUSE file system, and print tables for the README.
# As root also with a cold page cache and a tmpfs of its own. Arguments are the benchmark's: scripts/bench.sh -help
set -euo pipefail
cd "$(dirname "$0")/.."
go build -o bin/bench ./tests/bench
exec bin/bench "$@"

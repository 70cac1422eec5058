#!/usr/bin/env bash
# Lint: gofmt, go vet, staticcheck, the direction of dependencies. Says nothing when all is well but a last line.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(find . -name '*.go' -not -path './.*' -not -path './bin/*' -print0 | xargs -0 gofmt -l)
if [ -n "$unformatted" ]; then
	printf 'lint: not as gofmt writes it:\n%s\n' "$unformatted" >&2
	exit 1
fi
go vet ./...
go tool staticcheck ./...
go run ./scripts/layers
echo "lint: clean"

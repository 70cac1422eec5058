# `make help` lists what there is.
SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-builtin-rules
PREFIX      ?= /usr/local
SBINDIR     ?= /sbin
FUZZTIME    ?= 30s
TESTFLAGS   ?=
# The bound of a package that hangs; fs under the race detector takes 13 minutes on a machine that has six times as much to do.
TIMEOUT     ?= 40m

.PHONY: help build install deps servers demo demo-bucket demo-kms demo-keys test test-long race lint fuzz mutants bench bench-bucket bench-kms clean

help: ## show this
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

build: ## build bin/envfs, and bin/envfs-pkcs11, its helper for PKCS#11 modules
	@go build -trimpath -o bin/ ./cmd/envfs ./cmd/envfs-pkcs11

install: build ## install bin/envfs, its helper, mount(8)'s and the units for systemd below PREFIX (/usr/local)
	install -D -m 0755 bin/envfs $(DESTDIR)$(PREFIX)/bin/envfs
	install -D -m 0755 bin/envfs-pkcs11 $(DESTDIR)$(PREFIX)/libexec/envfs/envfs-pkcs11
	install -d $(DESTDIR)$(SBINDIR)
	ln -sf $(PREFIX)/bin/envfs $(DESTDIR)$(SBINDIR)/mount.envfs
	for unit in envfs-kms.service envfs@.service; do install -D -m 0644 systemd/$$unit $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done

deps: ## install what demo and tests need and is missing
	@scripts/deps.sh

servers: ## build the S3 servers and the clients that tests run (some minutes, once)
	@scripts/servers.sh

demo: deps build ## show in under a minute what envfs does
	@scripts/demo.sh bin/envfs

demo-bucket: deps build ## show the same of a vault in a bucket, on a MinIO of its own
	@scripts/servers.sh minio
	@scripts/demo-bucket.sh bin/envfs bin/minio

demo-keys: deps build ## show what opens a vault: a passphrase, a KMS, an HSM
	@scripts/demo-keys.sh bin/envfs

demo-kms: deps build ## show what the embedded KMS does, with sops and aws
	@scripts/servers.sh sops
	@scripts/demo-kms.sh bin/envfs bin/sops

# Programs that race the kernel, in tests/posix, are not to race other tests for the processors, too.
test: deps servers build ## run the whole test suite
	@{ go test -count=1 -json $(TESTFLAGS) ./tests/posix; go test -count=1 -json -timeout $(TIMEOUT) $(TESTFLAGS) $$(go list ./... | grep -v /tests/posix); } \
		| go run ./scripts/slowest

test-long: deps servers build ## run 500 rounds of the storm on a bucket, and longer ends of vaults in one (hours)
	@go test -count=1 -timeout 12h $(TESTFLAGS) -run '^TestStorm$$' ./tests/bucket -bucket.rounds=500
	@go test -count=1 $(TESTFLAGS) -run '^TestFollower$$' -v ./tests/bucket -bucket.timely
	@go test -count=1 -timeout 2h $(TESTFLAGS) -run '^TestBucket|^TestKeysAtEveryPoint' ./tests/crash -crash.bucket=30m

race: deps servers ## run the tests of the core and of mounts under the race detector
	@go test -race $(TESTFLAGS) ./tests/posix
	@go test -race -timeout $(TIMEOUT) $(TESTFLAGS) ./fs/... ./remote/... ./keystore/... ./kms/... ./tests/model

lint: ## gofmt, go vet, staticcheck, the direction of dependencies
	@scripts/lint.sh

fuzz: ## fuzz every parser for FUZZTIME (30s) each
	@scripts/fuzz.sh $(FUZZTIME)

mutants: ## prove that the tests notice builds that are wrong
	@scripts/mutants.sh

bench: ## measure against gocryptfs and the bare directory
	@scripts/deps.sh gocryptfs
	@scripts/bench.sh

bench-bucket: ## measure vaults in a bucket against rclone, gocryptfs on rclone, s3fs and minio-go
	@scripts/deps.sh gocryptfs rclone s3fs
	@scripts/servers.sh minio
	@scripts/bench.sh bucket

bench-kms: ## measure calls of the embedded KMS, the audit log on
	@go test -run '^$$' -bench . -benchtime 50000x ./tests/kms

clean: ## remove what was built
	rm -rf bin

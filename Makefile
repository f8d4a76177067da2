# mmrelay: every task has one target; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

BIN := $(CURDIR)/.bin
export PATH := $(BIN):$(PATH)
FUZZTIME ?= $(if $(CI),5s,20s)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X github.com/mmrelay/mmrelay/internal/buildinfo.version=$(VERSION)

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z0-9_-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-16s %s\n", $$1, $$2}'

.PHONY: all
all: build ## Build the programs into .bin

.PHONY: build
build: ## Build hub, relay and mmr into .bin
	@mkdir -p $(BIN)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: build-tap
build-tap:
	@mkdir -p $(BIN)/tap
	CGO_ENABLED=0 go build -trimpath -tags mmrtap -ldflags '$(LDFLAGS)' -o $(BIN)/tap/ ./cmd/hub ./cmd/relay

.PHONY: demo
demo: build build-tap ## The main job: three people talk through a hub and two relays (embedded store)
	$(BIN)/mmr demo

.PHONY: demo-redis
demo-redis: build build-tap redis ## The same on a private redis-server
	$(BIN)/mmr demo --store=redis

.PHONY: test
test: test-race test-plain ## All tests, most of them under the race detector; installs redis-server if it may

.PHONY: test-race
test-race: redis vectors
	go test -race -parallel 6 -timeout 30m ./...

# What the race detector is too slow for, or measures memory.
.PHONY: test-plain
test-plain: redis vectors
	go test -timeout 15m ./pkg/mls/member
	go test -timeout 10m -run 'TestVirtual' ./test/e2e
	go test -timeout 5m -run 'TestTornLog|TestKill|TestDiskUse' ./pkg/queue/pebblequeue
	go test -timeout 15m ./test/e2e/limits

.PHONY: test-short
test-short: ## Tests without the race detector and without the slow ones
	go test -short ./...

SEED ?= 0
.PHONY: ledger
ledger: redis ## Nothing accepted is lost or repeated: real processes under faults, 5 minutes, 50 clients, 20 rooms (SEED=n repeats a schedule)
	go test -count=1 -timeout 60m -v -run 'TestReplicas|TestSingleMachine' ./test/e2e/ledger -for 5m -clients 50 -rooms 20 -rate 30 -pause 30s -skew -seed $(SEED)
	go test -count=1 -timeout 30m -v -run 'TestCluster|TestProcesses' ./test/e2e/ledger -for 2m -seed $(SEED)

.PHONY: ledger-short
ledger-short: redis ## The same in short, as CI runs it: a minute on Redis, half a minute on embedded stores
	go test -count=1 -timeout 20m -v -run 'TestReplicas|TestSingleMachine' ./test/e2e/ledger -for 60s -seed $(SEED)

CHAOS_TIME ?= 2m
.PHONY: chaos
chaos: ## All services and six people who do random things, under the race detector, for CHAOS_TIME (default 2m)
	CHAOS_TIME=$(CHAOS_TIME) go test -race -count=1 -timeout 20m -run '^TestChaos$$' ./test/e2e

.PHONY: check
check: checkgenerate proto-lint lint vet test chaos ledger-short fuzz charttest oracle ## Everything CI checks (test includes interop)

.PHONY: bench-listeners
bench-listeners: redis ## Memory and idle processor time of a relay with 10,000 listeners, one TLS connection each
	go test -count=1 -timeout 30m -v -run '^TestListeners$$' ./test/e2e/limits -listeners 10000 -idle 45s

.PHONY: bench-queue
bench-queue: redis ## Mailboxes: appends beside raw XADD of the same bytes, memory per envelope
	go test -run '^$$' -bench 'Append/|RawXADD/' -benchtime 2s ./pkg/queue/redisqueue ./pkg/queue/pebblequeue
	go test -run '^TestMemory$$' -v -count=1 ./pkg/queue/redisqueue | grep beyond

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: generate
generate: $(BIN)/buf $(BIN)/protoc-gen-go ## Regenerate gen/ from proto/
	buf generate

.PHONY: checkgenerate
checkgenerate: generate ## Fail if gen/ is not what proto/ generates
	@test -z "$$(git status --porcelain -- gen)" || { echo "error: gen/ differs from proto/"; echo "hint: run make generate and commit"; git --no-pager diff --stat -- gen; exit 1; }

.PHONY: proto-lint
proto-lint: $(BIN)/buf ## Lint, format check and breaking-change check of proto/
	buf lint
	buf format --diff --exit-code >/dev/null || { echo "error: proto/ is not formatted"; echo "hint: buf format -w"; exit 1; }
	@base=$$(git rev-parse -q --verify HEAD~1 2>/dev/null || true); \
	if [ -n "$$base" ] && git cat-file -e "$$base:buf.yaml" 2>/dev/null; then rm -rf .tmp/base && mkdir -p .tmp/base && git archive "$$base" buf.yaml proto | tar -x -C .tmp/base && buf breaking --against .tmp/base; fi

.PHONY: lint
lint: $(BIN)/golangci-lint ## golangci-lint
	golangci-lint run ./...

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 20s; 5s in CI, where there are 47 targets on two processors)
	@scripts/fuzz $(FUZZTIME)

.PHONY: charttest
charttest: ## Render, decode and validate the Helm chart
	cd deploy/charttest && go test ./...

.PHONY: interop
interop: ## pkg/mls against itself and ts-mls over the peer protocol (needs Node.js 20 for ts-mls)
	go test -count=1 ./test/interop

.PHONY: vectors
vectors: ## Make sure the official RFC 9420 vectors are at hand
	@scripts/vectors

.PHONY: oracle
oracle: ## Codec and tree math against cisco/go-mls, a 2020 draft
	cd test/ciscomls && go test ./...

.PHONY: vectors-report
vectors-report: vectors ## Table of the vector cases that the tests really ran, by file and suite
	go run ./pkg/mls/mlstest/vectorsreport

.PHONY: mls-mutants
mls-mutants: vectors ## Break each rule of docs/mls-negative-list.md in turn: its test must fail (a quarter of an hour)
	go run ./pkg/mls/mlstest/mutants

BENCHCOUNT ?= 6
.PHONY: bench-mls
bench-mls: $(BIN)/benchstat ## Speed and memory of pkg/mls against its gates, up to 10,000 members
	@mkdir -p .tmp
	MLS_GATES=1 GOMAXPROCS=2 go test -run '^$$' -bench '^BenchmarkEngine$$' -benchtime 0.3s -count $(BENCHCOUNT) -timeout 60m ./pkg/mls/member | tee .tmp/bench-mls.txt || failed=1; benchstat .tmp/bench-mls.txt; exit $${failed:-0}

.PHONY: spec-coverage
spec-coverage: redis ## Run the tests of every requirement of docs/spec.md and print which passed
	go run ./test/speccov/report

.PHONY: treewrap-histories
treewrap-histories: ## 10,000 random histories of the link key tree, removed members attacking
	go test ./pkg/pseudonym/treewrap -run TestHistories -rapid.checks=10000 -timeout 30m

.PHONY: redis
redis: ## Install redis-server if it is missing and we may
	@scripts/redis

.PHONY: test-valkey
test-valkey: redis ## The stores' tests, failovers and clusters included, and a short ledger on valkey-server (from Debian's packages)
	@scripts/valkey
	REDIS_SERVER=$(BIN)/valkey/usr/bin/valkey-server go test -count=1 ./pkg/queue/redisqueue ./pkg/queue/redisscript ./internal/kv/rediskv ./internal/redistest ./internal/store
	REDIS_SERVER=$(BIN)/valkey/usr/bin/valkey-server go test -count=1 -timeout 20m -v -run 'TestReplicas|TestCluster' ./test/e2e/ledger -for 30s -seed $(SEED)

.PHONY: vuln
vuln: ## Known vulnerabilities in dependencies (needs its online database)
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...

$(BIN)/buf: tools/buf/go.mod tools/buf/go.sum
	@mkdir -p $(BIN)
	go build -C tools/buf -o $(BIN)/buf github.com/bufbuild/buf/cmd/buf

$(BIN)/protoc-gen-go: tools/protoc/go.mod tools/protoc/go.sum
	@mkdir -p $(BIN)
	go build -C tools/protoc -o $(BIN)/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

$(BIN)/golangci-lint: tools/golangci-lint/go.mod tools/golangci-lint/go.sum
	@mkdir -p $(BIN)
	go build -C tools/golangci-lint -o $(BIN)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(BIN)/benchstat: tools/benchstat/go.mod tools/benchstat/go.sum
	@mkdir -p $(BIN)
	go build -C tools/benchstat -o $(BIN)/benchstat golang.org/x/perf/cmd/benchstat

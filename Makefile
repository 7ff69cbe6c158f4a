# The two commands are "make demo" and "make test". Set-up is theirs.
.DEFAULT_GOAL := help
export CGO_ENABLED ?= 0
SHELL := /bin/bash
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

.PHONY: help build demo test lint bench clean

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

build: ## leave ./bin/ebb
	@mkdir -p bin
	go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/ebb ./cmd/ebb

demo: ## run the main job: a cluster, a training job, and back to zero (KEEP=1 leaves the server up)
	@scripts/setup tools
	@$(MAKE) --no-print-directory build
	@scripts/demo

test: ## run everything, as CI does
	@scripts/setup tools
	@$(MAKE) --no-print-directory build
	@scripts/test

lint: ## vet, format, and the rules of the house
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo "gofmt would change these"; exit 1; }
	go vet ./...
	go test -count=1 .

bench: ## measure, side by side with a peer or a limit, and print one table
	@scripts/setup tools
	@scripts/setup bench
	@scripts/setup mpi >/dev/null || true
	@$(MAKE) --no-print-directory build
	EBB_BENCH=1 EBB_BIN=$$PWD/bin/ebb go test -count=1 -timeout 60m -run TestTable -v ./bench

clean: ## remove what was built and cached
	rm -rf bin .cache .ebb

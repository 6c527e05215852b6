# make run    build and start a development server on http://127.0.0.1:4599;
#             ARGS="--data DIR" keeps its data, ARGS="--listen 127.0.0.1:PORT" takes another port
# make test   everything that CI runs
# make clients  the programs that people use with AWS KMS, against a server
# make fuzz   every fuzz target for FUZZTIME
# make bench  the benchmarks, each beside its floor

GO       ?= go
FUZZTIME ?= 30s
BENCH    ?= .
SOFTHSM  := /usr/lib/softhsm/libsofthsm2.so

# Where goroutines meet; they are tested with the race detector as well.
RACED := ./internal/kms/... ./internal/keystore/... ./internal/pkcs11/... ./internal/server/... \
         ./internal/store/... ./internal/xksproxy/... ./internal/endpointservice/... ./internal/cloudhsm/... \
         ./internal/identity/... ./internal/audit/... ./internal/rootkey/...

.PHONY: run build softhsm test format vet build-without-cgo unit race fips clients fuzz bench clean

run: softhsm build
	exec bin/kastellan serve --dev $(ARGS)

build:
	$(GO) build -trimpath -o bin/kastellan ./cmd/kastellan

# Without root, or without apt-get, the server runs all the same and says what is left out.
softhsm:
	@if [ ! -e $(SOFTHSM) ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing softhsm2"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq softhsm2 >/dev/null; } || \
		echo "softhsm2 could not be installed"; \
	fi

test: format vet build build-without-cgo unit race fips clients

format:
	@unformatted="$$(gofmt -l cmd examples internal clients)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; fi

vet:
	$(GO) vet ./...
	cd clients && $(GO) vet ./...

build-without-cgo:
	CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/kastellan

unit:
	$(GO) test ./...

# A process that ends sleeps for a second under the detector, and every token has a process.
race: export GORACE = atexit_sleep_ms=20
race:
	$(GO) test -race -short $(RACED)

# All that FIPS 140-3 approves of, in processes that refuse the rest. keyspec does so by itself; the fakes of xksproxy's tests cannot;
# keywrap's golden files have algorithms that are refused.
fips:
	GODEBUG=fips140=only $(GO) test $$($(GO) list ./... | grep -vE '/internal/(keyspec|keywrap|xksproxy|xksproxy/check)$$')
	GODEBUG=fips140=only $(GO) test ./internal/keywrap -run '^Test.*(Algorithms|Unwrap|Shorter|AESKeys)'

# Programs that people use with AWS KMS. They are in a module of their own; those that are not in Go run where they are installed.
clients:
	@if command -v npm >/dev/null; then cd clients/js && npm ci --silent; \
	else echo "npm is not installed: the clients in JavaScript are left out"; fi
	cd clients && $(GO) test ./...

# One target at a time: that is all that go test takes.
fuzz:
	@grep -rEho --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' cmd internal -H | \
	while IFS=: read -r file fn; do \
		echo "$${fn#func } in $$(dirname $$file)"; \
		$(GO) test "./$$(dirname $$file)" -run '^$$' -fuzz "^$${fn#func }$$" -fuzztime $(FUZZTIME) || exit 1; \
	done

bench:
	$(GO) test ./... -run '^$$' -bench '$(BENCH)' -benchmem

clean:
	rm -rf bin

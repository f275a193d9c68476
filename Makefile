# Two commands for a newcomer: `make demo` and `make test`. Both install what they miss, or say what to install.

CARGO ?= cargo
# Kinds of foreign databases that are known to go wrong (tests/foreign --help says what each is): take one off the list in
# the change that mends it. jit: with jit_above_cost near 0 each captured row waits for a compiler.
FOREIGN_WITHOUT ?= jit
# The gate's rounds are the same each time, so that a change that breaks one is the one that is looked at; `make foreign`
# draws others.
FOREIGN_SEED ?= 2608
export ROWCAST_PG_BIN ?= $(shell scripts/find-postgres 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo demo-reset test test-private test-docker test-client test-conformance test-docs test-examples test-machinery test-edges test-versions test-faults test-deploy test-upgrade test-native foreign soak release test-release check check-docs check-python check-oldest-rust schema-dump bench clean

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: postgres ## a veterinary clinic, live, on a private Postgres
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" exec target/debug/rowcast demo

demo-reset: ## forget the demo's database
	rm -rf .rowcast/demo

# The second half takes more waiting than computing, so it goes in two lanes. test-client makes the folder of Node that the next
# three use, and test-machinery one of its own.
test: postgres redis pgbouncer iproute2 check test-private ## everything
	scripts/lanes 'test-client test-conformance test-docs test-examples test-faults' 'test-docker test-edges test-native test-machinery test-deploy test-upgrade'

check: check-docs check-python ## format, lints, documentation, licences, links, words, versions, the Python programs
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	scripts/check-licences

check-docs: ## the documentation of the code, without warnings; links, words and versions of all pages
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	scripts/check-links
	scripts/check-words
	scripts/check-versions

check-python: ## the Python programs of tests/ and benches/: lint, form, types, their own tests; lines of SQL
	scripts/check-python

check-oldest-rust: ## that it compiles with the oldest Rust that Cargo.toml allows; fetches that one
	scripts/check-oldest-rust

schema-dump: postgres ## write tests/golden/schema.sql anew, for a change of the schema that is meant
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" ROWCAST_TEST_POSTGRES=private ROWCAST_WRITE_GOLDEN=1 $(CARGO) test --locked --test tests -- schema_dump::

test-private: postgres pgbouncer redis iproute2 ## the suite on a private cluster from local programs
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" ROWCAST_TEST_POSTGRES=private $(CARGO) test --locked

# What may go otherwise in a container: its network, its programs, its users. All of the suite: make test-docker CONTAINED=
CONTAINED ?= backbone:: capture:: cli:: cost:: event_triggers:: inspect:: install:: probe:: relay:: rights:: schema_name:: sockets:: tls::
test-docker: iproute2 ## the suite under testcontainers, where a Docker engine answers or can be started
	ROWCAST_TEST_ONLY="$(CONTAINED)" scripts/test-docker

test-client: postgres ## the browser client: types, size, its tests on the real server and in Chromium
	$(CARGO) build --locked
	scripts/test-client

test-conformance: postgres ## the Python client on the real server; both clients against a server whose every word is scripted
	$(CARGO) build --locked
	scripts/test-conformance

test-docs: postgres ## what the quick start and the cookbook tell to type; that the operations page names everything; every link
	$(CARGO) build --locked
	tests/quickstart
	scripts/check-links

test-examples: postgres ## what the READMEs of examples/ tell to type, seen at the screen or in what is printed
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/examples --binary target/debug/rowcast

test-deploy: postgres ## what stands around it: both proxies while nodes restart, the alerts in promtool and in Prometheus, the unit, the chart, the package
	@scripts/install-deploy
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/deploy --binary target/debug/rowcast

# What capture does, and what goes by it: with native code it is the same.
NATIVE ?= native:: briefly:: capture:: doorbell:: encodings:: order:: rights:: schema_name::
test-native: postgres ## capture by the library of native/, built for the Postgres of this machine
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" CARGO="$(CARGO)" scripts/test-native $(NATIVE)

test-upgrade: postgres ## nodes of two versions at once, to the new one and back, on Postgres and over Redis; builds the one before
	@scripts/install-redis || true
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" CARGO="$(CARGO)" tests/upgrade --binary target/debug/rowcast

test-machinery: postgres pgbouncer ## real tools of other people beside rowcast, and schemas that nobody here wrote
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" scripts/test-machinery

# What the versions of Postgres differ in: its catalogue, its triggers, its rights, its types.
EDGES ?= claims:: cost:: drift:: event_triggers:: inspect:: install:: neighbours:: pages:: rendered::
test-edges: iproute2 ## what the versions of Postgres differ in, on the oldest and the newest that are supported
	ROWCAST_TEST_ONLY="$(EDGES)" scripts/test-versions 14 18

VERSIONS ?= 14 15 16 17 18
test-versions: iproute2 ## the suite on each supported version of Postgres, or VERSIONS="16 18"; fetches those that are not installed
	scripts/test-versions $(VERSIONS)

test-faults: postgres redis iproute2 ## short soaks with faults, a crash of each kind, random foreign databases
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/soak --binary target/debug/rowcast --seconds 25 --faults all
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/soak --binary target/debug/rowcast --seconds 25 --backbone
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/soak --binary target/debug/rowcast --seconds 25 --members
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/crashes --binary target/debug/rowcast --rounds 1
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/foreign --binary target/debug/rowcast --seed $(FOREIGN_SEED) --seconds 75 --without "$(FOREIGN_WITHOUT)"

foreign: postgres ## random foreign databases for an hour
	$(CARGO) build --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/foreign --binary target/debug/rowcast --seconds 3600 --keep-going --without "$(FOREIGN_WITHOUT)"

soak: postgres ## the soak for an hour, until something is wrong
	$(CARGO) build --release --locked
	ROWCAST_PG_BIN="$$(scripts/find-postgres)" tests/soak --seconds 3600 --faults all

release: postgres ## what there is to download, in target/release-files, each installed and run in a clean root, or said why not
	scripts/release
	tests/installed

test-release: postgres ## the files of target/release-files again, installed and run
	tests/installed

bench: ## the figures of benches/README.md
	$(CARGO) build --release --locked
	$(CARGO) build --release --locked --manifest-path benches/load/Cargo.toml
	benches/writer-cost
	benches/latency
	benches/relay-curve
	benches/pgbench-soak
	benches/resume
	benches/intake
	benches/fanout
	benches/access
	benches/scale
	benches/rows
	benches/scenarios

.PHONY: postgres pgbouncer redis iproute2
redis:
	@scripts/install-redis

pgbouncer:
	@scripts/install-pgbouncer

iproute2:
	@scripts/install-iproute2

postgres:
	@scripts/find-postgres --install >/dev/null

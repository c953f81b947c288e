# Everything a newcomer needs: `make run` to see it, `make test` to check it, `make deb` to ship it.
# Each target installs what it needs and does not find; that, and containers, need root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules
export CARGO_TARGET_DIR := $(CURDIR)/target
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

CARGO_DEB := 3.8.0
NEXTEST := 0.9.143
CARGO_FUZZ := 0.13.2
CARGO_DENY := 0.20.2
CARGO_MUTANTS := 27.1.0

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build target/release/roundsman
	cargo build --release --locked

# Man pages and completions are made by the program itself, so that they cannot differ from it.
GENERATE = rm -rf target/generated && $(1) generate target/generated

.PHONY: generated
generated: build
	$(call GENERATE,target/release/roundsman)

.PHONY: deb
deb: generated target/tools/bin/cargo-deb ## Build the package: target/debian/roundsman_VERSION_ARCH.deb
	packaging/need dpkg-shlibdeps=dpkg-dev strip=binutils
	rm -f target/debian/*.deb
	cargo deb --no-build --strip --locked --quiet

.PHONY: run
run: deb ## Install what is needed, build, and bring up examples/hello on port 80
	packaging/need curl=curl
	packaging/demo start

.PHONY: stop
stop: ## End what `make run` has started
	packaging/demo stop

# Two cores are all there may be: what does not need the other is done beside it, also what apt-get
# installs, and nothing is built twice. So the package under test has the program that the other tests
# are built with; `make soak` tests the one that is shipped.
.PHONY: test
test: ## Run every test: format, lints, unit, integration, package, machines
	$(MAKE) --jobs=4 needs compile lint lint-deb images machines
	cargo nextest run --locked --profile all

# All at once: apt-get takes as long for one of them.
.PHONY: needs
needs:
	packaging/need $(UNIT_NEEDS) $(DEB_NEEDS) $(MACHINE_NEEDS)

.PHONY: lint
lint: ## Check formatting, lints (warnings are errors), and the plan of the house
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked --quiet --test house
	cargo fmt --check --manifest-path benches/proxy/Cargo.toml
	cargo clippy --locked --all-targets --manifest-path benches/proxy/Cargo.toml -- -D warnings

# Apart from `make test`: the tool takes minutes to build, and advisories come from the network.
.PHONY: deny
deny: target/tools/bin/cargo-deny ## Check the licences, versions, sources and advisories of all dependencies
	cargo deny check
	cargo deny --manifest-path benches/proxy/Cargo.toml --config deny.toml check licenses bans sources

UNIT_NEEDS := redis-server=redis-server python3=python3-venv curl=curl openssl=openssl ab=apache2-utils \
    wrk=wrk slowhttptest=slowhttptest chromium=chromium certutil=libnss3-tools h2load=nghttp2-client sslscan=sslscan \
    script=bsdutils zsh=zsh fish=fish node=nodejs npm=npm

.PHONY: test-unit
test-unit: build-tests ## Run the tests that need no machine but this one, with a Redis server, Python packages and HTTP tools to compare with
	cargo nextest run --locked

.PHONY: build-tests
build-tests: compile
	packaging/need $(UNIT_NEEDS)
	tests/python/venv > /dev/null
	tests/node/modules > /dev/null

.PHONY: compile
compile: nextest
	cargo nextest run --locked --no-run

DEB_NEEDS := lintian=lintian systemd-analyze=systemd dpkg-shlibdeps=dpkg-dev strip=binutils

.PHONY: lint-deb
lint-deb: test-deb ## Check the package with lintian and its units with systemd-analyze
	packaging/need $(DEB_NEEDS)
	lintian --fail-on error,warning --allow-root target/machines/this/*.deb
	systemd-analyze security --offline=true --threshold=16 systemd/roundsman.service > /dev/null

.PHONY: test-machine
test-machine: machines nextest ## Run the end-to-end tests on booted Debian 12 and 13 machines (root); PACKAGE=release with the package that is shipped
	cargo nextest run --locked --profile machine

MACHINE_NEEDS := mmdebstrap=mmdebstrap systemd-nspawn=systemd-container nsenter=util-linux \
    setpriv=util-linux npm=npm pip3=python3-pip

.PHONY: images
images:
	packaging/need $(MACHINE_NEEDS)
	tests/machine/image bookworm > /dev/null
	tests/machine/image trixie > /dev/null

# The package under test: made of the program that tests are built with, or with PACKAGE=release the one
# that is shipped.
.PHONY: test-deb
ifeq ($(PACKAGE),release)
test-deb: deb
	rm -rf target/machines/this && mkdir -p target/machines/this
	cp -p target/debian/*.deb target/machines/this/
else
test-deb: build-tests target/tools/bin/cargo-deb
	packaging/need dpkg-shlibdeps=dpkg-dev strip=binutils
	$(call GENERATE,target/debug/roundsman)
	rm -rf target/machines/this && mkdir -p target/machines/this
	cargo deb --no-build --profile dev --strip --fast --locked --quiet --output target/machines/this/
endif

# What machine tests need: the images of both releases, the package, and one of a later version.
.PHONY: machines
machines: test-deb images
	rm -rf target/machines/next && mkdir -p target/machines/next
	dpkg-deb --raw-extract target/machines/this/*.deb target/machines/next/tree
	sed -i 's/^Version: .*/Version: 999.0.0/' target/machines/next/tree/DEBIAN/control
	dpkg-deb --root-owner-group -Znone --build target/machines/next/tree target/machines/next/ > /dev/null
	rm -rf target/machines/next/tree

# A perf that the kernel refuses is reported, not an error: only system calls go uncounted then.
.PHONY: bench
bench: build ## Compare the front with nginx and HAProxy (SCENARIO, PROXY, ROUNDS, BASELINE: docs/performance.md)
	packaging/need nginx=nginx haproxy=haproxy setpriv=util-linux taskset=util-linux
	-packaging/need perf=linux-perf
	cargo build --release --locked --manifest-path benches/proxy/Cargo.toml
	target/release/proxy-bench run --roundsman target/release/roundsman \
	    $(if $(BASELINE),--baseline '$(BASELINE)') --scenario '$(SCENARIO)' --proxy '$(PROXY)' \
	    --rounds $(or $(ROUNDS),15) --json target/bench.json

.PHONY: bench-session
bench-session: build ## Compare the session store with redis-server; ROUNDS=N ONLY=everysec,always,million
	packaging/need redis-server=redis-server redis-benchmark=redis-tools python3=python3
	benches/session --roundsman target/release/roundsman --rounds $(or $(ROUNDS),7) \
	    $(if $(ONLY),--only $(ONLY))

# Hundreds of deaths instead of the dozen of `make test`, seeds that nobody has tried, messages that nobody has
# thought of, Node's cluster in all its versions, and every machine test on both Debians, with the package that
# is shipped.
.PHONY: soak
soak: nextest ## Kill the session store under load, CYCLES times for each kind of sync (300); other seeds (SEED); HTTP by chance for DIFF_SECONDS (600; DIFF_SEED); all machine tests with the package that is shipped; fuzz
	$(MAKE) PACKAGE=release machines
	seed=$(or $(SEED),$$(date +%s)); echo "SEED=$$seed" >&2; \
	ROUNDSMAN_SEED=$$seed ROUNDSMAN_RUNS=20000 ROUNDSMAN_CRASH_CYCLES=$(or $(CYCLES),300) \
	    DIFF_SEED=$(or $(DIFF_SEED),$$seed) DIFF_SECONDS=$(or $(DIFF_SECONDS),600) \
	    ROUNDSMAN_NODES="$$(tests/worker/matrix/nodes)" cargo nextest run --locked --profile soak
	ROUNDSMAN_STAGES=all cargo nextest run --locked --profile machine-soak
	$(MAKE) PACKAGE=release zoo stores
	$(MAKE) fuzz

# Downloads some hundred megabytes once, and builds what its own documentation has built.
.PHONY: zoo
zoo: machines nextest ## Try some seventy programs of npm, PyPI and Debian, and write docs/programs.md (root); NAMES=next,puma for some
	ROUNDSMAN_ZOO='$(NAMES)' cargo nextest run --locked --profile machine-soak --run-ignored only zoo::

.PHONY: recording
recording: machines nextest ## Record a deploy under load: docs/pictures/reload.svg (root)
	cargo nextest run --locked --profile machine --run-ignored only -E 'test(recording::)'

# Downloads some hundred megabytes once.
.PHONY: stores
stores: machines nextest ## Try libraries of npm, PyPI and Debian over the session store and over Valkey, and compare with the table in docs/sessions.md (root)
	cargo nextest run --locked --profile machine-soak --run-ignored only stores::

# Each Debian for itself, so that the one's findings do not end the other.
.PHONY: chaos
chaos: machines nextest ## Random faults under load of every kind, on both Debians: CHAOS_SECONDS for each (600), CHAOS_SEED, CHAOS_DEBIAN, CHAOS_FAULTS='NAME …', CHAOS_FIRST=STEP (root)
	seed=$(or $(CHAOS_SEED),$$(date +%s)); echo "CHAOS_SEED=$$seed" >&2; failed=0; \
	for debian in $(or $(CHAOS_DEBIAN),trixie bookworm); do \
	    CHAOS_SEED=$$seed CHAOS_DEBIAN=$$debian CHAOS_SECONDS=$(or $(CHAOS_SECONDS),600) \
	        CHAOS_FAULTS='$(CHAOS_FAULTS)' CHAOS_FIRST='$(CHAOS_FIRST)' \
	        cargo nextest run --locked --profile machine --run-ignored only --no-capture \
	        -E 'test(chaos::as_long_as_one_likes)' || failed=1; \
	done; exit $$failed

# libFuzzer's C++ is built from the crate. With the stable toolchain: coverage needs no sanitizer, and
# the program has one module with unsafe code.
.PHONY: fuzz
fuzz: target/tools/bin/cargo-fuzz ## Fuzz the parsers, each for a minute; TARGET=NAME FUZZ_SECONDS=N for one, for longer
	packaging/need g++=g++
	for target in $(or $(TARGET),$$(cargo fuzz list)); do \
	    mkdir -p target/fuzz/corpus/$$target target/fuzz/artifacts/$$target && \
	    nice -n 19 cargo fuzz run --sanitizer none $$target target/fuzz/corpus/$$target fuzz/seeds/$$target -- \
	        -max_total_time=$(or $(FUZZ_SECONDS),60) -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
	        -artifact_prefix=target/fuzz/artifacts/$$target/ -print_final_stats=1 || exit 1; \
	done

# .cargo/mutants.toml says which files, and what may live. Each change is a build: hours for all of them.
.PHONY: mutants
mutants: nextest target/tools/bin/cargo-mutants ## Change the pure files line by line and see a test fail for each change; FILE=src/x.rs for one
	nice -n 15 cargo mutants --cargo-arg=--locked --output target $(if $(FILE),--file '$(FILE)')

.PHONY: bench-messages
bench-messages: build ## Measure messages a second between two workers
	packaging/need node=nodejs
	ROUNDSMAN=target/release/roundsman cargo bench --locked --profile dev --bench messages

.PHONY: bench-handoff
bench-handoff: build ## Measure hand-off mode against Node's own cluster
	packaging/need node=nodejs
	ROUNDSMAN=target/release/roundsman cargo bench --locked --profile dev --bench handoff

.PHONY: bench-pm2
bench-pm2: nextest ## Compare deploys and failures with the real PM2 (docs/from-pm2.md; root)
	packaging/need mmdebstrap=mmdebstrap systemd-nspawn=systemd-container nsenter=util-linux \
	    setpriv=util-linux npm=npm node=nodejs
	$(MAKE) PACKAGE=release machines
	benches/pm2

.PHONY: clean
clean: ## Remove everything that was built, test machines too
	-packaging/demo stop
	rm -rf --one-file-system target

.PHONY: nextest
nextest:
	@command -v cargo-nextest > /dev/null || $(MAKE) target/tools/bin/cargo-nextest

target/tools/bin/cargo-deb: tool = cargo-deb@$(CARGO_DEB)
target/tools/bin/cargo-nextest: tool = cargo-nextest@$(NEXTEST)
target/tools/bin/cargo-fuzz: tool = cargo-fuzz@$(CARGO_FUZZ)
target/tools/bin/cargo-deny: tool = cargo-deny@$(CARGO_DENY)
target/tools/bin/cargo-mutants: tool = cargo-mutants@$(CARGO_MUTANTS)
# Without optimisation: these tools work for seconds, but would build for minutes. Nobody debugs them.
target/tools/bin/%:
	CARGO_TARGET_DIR=target/tools/build-$(@F) CARGO_PROFILE_DEV_DEBUG=0 CARGO_INCREMENTAL=0 \
	    cargo install --debug --locked --root target/tools $(tool)
	rm -rf target/tools/build-$(@F)

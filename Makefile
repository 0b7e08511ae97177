# jobql: `make run` starts it, `make test` checks everything. Both install what they need on Debian and Ubuntu.

CARGO ?= cargo
APT_GET ?= apt-get
# Root needs no sudo; anyone else does.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.DEFAULT_GOAL := help
.PHONY: help run test storm fuzz conformance web web-check browser screenshots bench bench-smoke check fmt lint deny packages

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: packages ## Build jobql and serve with jobql.toml; Ctrl-C ends it
	exec $(CARGO) run --release --locked -- serve --config jobql.toml

# Six tests at once: most of them wait for something, and they share one PostgreSQL, so one process runs them all.
test: packages ## Everything that must hold before a change goes in
	$(MAKE) fmt lint
	RUST_TEST_THREADS=6 $(CARGO) test --workspace --locked
	$(MAKE) storm
	$(MAKE) web-check
	$(MAKE) conformance
	$(MAKE) browser
	$(MAKE) fuzz
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	  $(MAKE) deny; \
	else \
	  echo "cargo-deny is not installed: licences and sources are not checked"; \
	fi

# Alone, as it looks at memory and at times. STORM_BINARY names another jobql than the debug build.
storm: packages ## A hostile load, and what a normal client notices of it
	$(if $(STORM_BINARY),STORM_BINARY=$(abspath $(STORM_BINARY))) $(CARGO) test --locked --test it -- --ignored --nocapture storm::

FUZZ_SECONDS ?= 60
fuzz: packages ## The fuzz targets, FUZZ_SECONDS (60) each, two at a time
	fuzz/run $(FUZZ_SECONDS)

# What npm and pip install is by their lockfiles, and again only when those have changed.
NPM_INSTALLED := tests/conformance/node_modules/.package-lock.json
$(NPM_INSTALLED): tests/conformance/package-lock.json
	cd tests/conformance && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

PIP_INSTALLED := tests/conformance/.venv/installed
$(PIP_INSTALLED): tests/conformance/requirements.txt
	python3 -m venv tests/conformance/.venv
	tests/conformance/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

# It wants an older graphql-core than gql does.
ARIADNE_INSTALLED := tests/conformance/.venv-ariadne/installed
$(ARIADNE_INSTALLED): tests/conformance/requirements-ariadne.txt
	python3 -m venv tests/conformance/.venv-ariadne
	tests/conformance/.venv-ariadne/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

conformance: packages ## The protocols, as other people's clients and audits see them
	$(MAKE) $(NPM_INSTALLED) $(PIP_INSTALLED) $(ARIADNE_INSTALLED)
	$(CARGO) build --locked --bins --examples
	node tests/conformance/run.mjs

# The peers stand in folders of their own, each with its lockfile, and no other build touches them. `npm ci` would refuse
# a lockfile without the packages of other systems, as some registries have not all of them.
NPM_PEERS := benches/peers/node/node_modules/.package-lock.json
$(NPM_PEERS): benches/peers/node/package.json benches/peers/node/package-lock.json
	cd benches/peers/node && npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $@

PIP_PEERS := benches/peers/python/.venv/installed
$(PIP_PEERS): benches/peers/python/requirements.txt
	python3 -m venv benches/peers/python/.venv
	benches/peers/python/.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

bench: packages ## Measure jobql beside its peers, and write docs/benchmarks.md; wants a machine for itself, for an hour
	$(MAKE) $(NPM_PEERS) $(PIP_PEERS)
	@command -v redis-server >/dev/null || $(SUDO) $(APT_GET) install -y -qq --no-install-recommends redis-server
	cd benches/peers/rust && $(CARGO) build --release --locked --target-dir target
	$(CARGO) build --release --locked --bin jobql
	python3 benches/run.py

bench-smoke: packages ## Run every benchmark once at a tiny size, with the peers that are installed
	$(CARGO) build --locked --bin jobql
	python3 benches/run.py --smoke --jobql $${CARGO_TARGET_DIR:-target}/debug/jobql --results $${CARGO_TARGET_DIR:-target}/bench/smoke.json

WEB_INSTALLED := web/node_modules/.package-lock.json
$(WEB_INSTALLED): web/package-lock.json
	cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

web: packages $(WEB_INSTALLED) ## Build the web pages into web/dist, which is committed and embedded
	cd web && npm run --silent pack

web-check: packages $(WEB_INSTALLED) ## Is web/dist what web/ builds?
	cd web && npm run --silent verify

BROWSER_INSTALLED := tests/browser/node_modules/.package-lock.json
$(BROWSER_INSTALLED): tests/browser/package-lock.json
	cd tests/browser && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

browser: packages $(BROWSER_INSTALLED) ## The web pages in Chromium, with the network blocked
	$(CARGO) build --locked --bins
	node tests/browser/run.mjs

screenshots: packages $(BROWSER_INSTALLED) ## Take the pictures in docs/screenshots anew
	$(CARGO) build --locked --bins
	node tests/browser/screenshots.mjs

check: ## The quick loop: format, lints and the tests without a database
	$(MAKE) fmt lint
	$(CARGO) test --workspace --locked --lib --quiet

fmt: ## Is the code formatted?
	$(CARGO) fmt --all --check

lint: ## Clippy, with warnings as errors
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

deny: ## Licences, bans and sources of the dependencies (cargo install cargo-deny --locked)
	$(CARGO) deny --locked check licenses bans sources

# Debian's PostgreSQL package may start a server of its own on port 5432, where there is an init system. jobql uses
# only its programs and opens no database port, so the two do not meet.
packages: ## Install PostgreSQL's programs, pdftotext, Python 3, Node, Chromium, curl and compilers of C and C++, those that are missing
	@missing=""; \
	command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 \
	  || missing="$$missing postgresql"; \
	command -v pdftotext >/dev/null || missing="$$missing poppler-utils"; \
	[ -x /usr/bin/python3 ] || [ -x /usr/local/bin/python3 ] || missing="$$missing python3"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	  || missing="$$missing chromium"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v cc >/dev/null && command -v c++ >/dev/null || missing="$$missing gcc g++ libc6-dev"; \
	[ -z "$$missing" ] && exit 0; \
	command -v $(APT_GET) >/dev/null || { echo "please install:$$missing" >&2; exit 1; }; \
	set -ex; \
	$(SUDO) $(APT_GET) update -qq; \
	$(SUDO) env DEBIAN_FRONTEND=noninteractive $(APT_GET) install -y -qq --no-install-recommends $$missing
	@command -v $(CARGO) >/dev/null || { echo "please install Rust: https://rustup.rs" >&2; exit 1; }

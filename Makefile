# specie: `make up` runs a bank, `make test` runs the tests; both install what they need into .venv first.
.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 8 ] && n=8; echo $$n)
PYTEST_ARGS ?=

.PHONY: help up test check soak bench docs images format lock clean \
        bench-all bench-check bench-connections bench-flame bench-history bench-mixed bench-peers bench-signer bench-wallet

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/.run: requirements/run.lock pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh run

$(VENV)/.dev: requirements/dev.lock pyproject.toml scripts/bootstrap.sh
	@scripts/bootstrap.sh dev

up: $(VENV)/.run ## install and run a play-money bank on http://127.0.0.1:3338 (ARGS="--port 4000")
	@exec $(BIN)/specie up $(ARGS)

test: $(VENV)/.dev ## install and run the whole test suite (PYTEST_ARGS="-k swap", SEED=2 for another order)
	$(BIN)/python -m pytest -n $(JOBS) --randomly-seed=$(or $(SEED),1) $(if $(COVERAGE),--cov --cov-report=) $(PYTEST_ARGS)

check: $(VENV)/.dev ## what must pass before anything lands: lint, types, room contracts, tests, documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test
	$(MAKE) docs

soak: $(VENV)/.dev ## the simulator over 10,000 seeds (SEEDS=100 for fewer)
	$(BIN)/python -m tests.sim.soak --seeds $(or $(SEEDS),10000) --jobs $(JOBS)

bench: $(VENV)/.dev ## measure requests a second, latencies and the crypto floor (see bench/README.md)
	$(BIN)/python -m bench $(ARGS)

bench-all: $(VENV)/.dev ## all of the figures below, some seventeen minutes
bench-check: $(VENV)/.dev ## count instructions: fails where a part needs 10 % more than bench/baseline.json (needs valgrind)
bench-connections: $(VENV)/.dev ## throughput by connections, distribution of latencies
bench-flame: $(VENV)/.dev ## a flame graph of each endpoint, time by layer (needs py-spy and root)
bench-history: $(VENV)/.dev ## cost by size of history (ARGS="--most 20000000")
bench-mixed: $(VENV)/.dev ## swaps beside other load, every route at half of its peak
bench-peers: $(VENV)/.dev ## the same load on a Nutshell mint (needs scripts/install-peers.sh)
bench-signer: $(VENV)/.dev ## swaps of a bank that signs itself, and of one whose signer is a process of its own
bench-wallet: $(VENV)/.dev ## our wallet beside cashu-ts and Nutshell (needs scripts/install-peers.sh)
bench-all bench-check bench-connections bench-flame bench-history bench-mixed bench-peers bench-signer bench-wallet:
	$(BIN)/python -m $(subst -,.,$@) $(ARGS)

docs: $(VENV)/.dev ## build the documents into site/
	rm -rf site
	$(BIN)/zensical build

images: $(VENV)/.dev ## make the pictures of the README again (needs chromium)
	$(BIN)/python scripts/screenshots.py
	$(BIN)/python scripts/record_terminal.py

format: $(VENV)/.dev ## format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## resolve the dependencies anew and write the lock files (needs uv)
	scripts/lock.sh

clean: ## remove everything that was built here
	rm -rf $(VENV) site .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage*

# Five words do everything: run, test, check, bench, install. `make` alone explains them.
#
# Settings: PYTHON=python3.12 (which Python makes .venv), ARGS="-k smtp" (handed to pytest), COVERAGE=1 (make test).

PYTHON ?= python3
export PYTHON
ARGS ?=
COVERAGE ?=

BIN := .venv/bin
# Stamps stand inside .venv: removing it forgets what was installed. A change of a lock file installs anew.
RUNTIME := .venv/.installed-runtime
DEVELOPMENT := .venv/.installed-development

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
# Where `make install` puts things; a plain user may build the tree in DESTDIR.
PREFIX ?= /opt/thongsuot
DESTDIR ?=
export PREFIX DESTDIR

.PHONY: help run test check bench score fuzz docs install uninstall clean examples packages-run packages-test

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUNTIME) ## Start the demo province on loopback with the daemon on it
	@$(BIN)/thongsuot demo $(ARGS)

test: packages-test $(DEVELOPMENT) ## Run every test, with the real servers and network namespaces
	@scripts/run-tests.sh $(if $(COVERAGE),--cov --cov-report=term:skip-covered) $(ARGS)

check: $(DEVELOPMENT) ## Check format, style, types and the direction of imports
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: packages-test $(DEVELOPMENT) ## Measure the daemon beside blackbox_exporter
	@$(BIN)/python -m bench $(ARGS)

score: $(DEVELOPMENT) ## Score the judges against labelled series and simulated months
	@$(BIN)/python -m bench.score $(ARGS)

fuzz: $(DEVELOPMENT) ## Look for bytes from the wire that no parser expects: ARGS="--seconds 60 --only http,imap"
	@$(BIN)/python -m tests.fuzz $(ARGS)

docs: $(DEVELOPMENT) ## Write again what is generated: schema, manual, dashboards, rules
	@$(BIN)/python -m config.schema
	@$(BIN)/python -m config.manual
	@$(BIN)/python -m exporters.metrics_manual
	@$(BIN)/python -m exporters.rules
	@$(BIN)/python -m exporters.dashboards

examples: $(RUNTIME) ## Write docs/examples again, from simulated evidence
	@scripts/make-examples.sh $(ARGS)

install: packages-run ## Install as a service: PREFIX=/opt/thongsuot DESTDIR= PYTHON=/usr/bin/python3
	@scripts/install.sh install

uninstall: ## Remove the service; configuration and journal stay
	@scripts/install.sh uninstall

clean: ## Remove caches and built files; .venv stays
	rm -rf build dist bench/out demo-state .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

packages-run:
	@scripts/install-packages.sh run

packages-test:
	@scripts/install-packages.sh test

$(RUNTIME): requirements.lock pyproject.toml scripts/make-venv.sh | packages-run
	@scripts/make-venv.sh requirements.lock
	@touch $@

$(DEVELOPMENT): requirements-dev.lock pyproject.toml scripts/make-venv.sh | packages-run
	@scripts/make-venv.sh requirements-dev.lock
	@touch $@ $(RUNTIME)

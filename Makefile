# Each target does its own set-up in .venv: nothing but Python 3.11 or newer is needed beforehand.
# PYTHON names another interpreter (make test PYTHON=python3.12); ARGS is passed on (make run ARGS='--help').

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup run test lint format clean

help: ## Show this list
	@printf 'Aventa bridge\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  PYTHON=python3.12   the interpreter to set up with\n  ARGS="..."          passed on to the demo or to pytest\n'

setup: $(INSTALLED) ## Install the bridge and its development tools into .venv
	@echo '$(VENV) is ready: make run, make test.'

run: $(INSTALLED) ## Run the demo: a bridge, a Cention sandbox and simulated calls on this machine; Ctrl-C ends it
	@$(BIN)/aventa-bridge demo $(ARGS)

# Most tests wait, for processes and sockets: three at a time use two cores best.
test: lint ## Check everything: style, types, layers, then the tests
	@printf '\n== Tests ==\n'
	@$(BIN)/pytest -n 3 $(ARGS)

lint: $(INSTALLED) ## Check style, types and layers alone
	@printf '\n== Style: ruff check ==\n'
	@$(BIN)/ruff check
	@printf '\n== Format: ruff format ==\n'
	@$(BIN)/ruff format --check
	@printf '\n== Types: mypy ==\n'
	@$(BIN)/mypy
	@printf '\n== Layers: import-linter ==\n'
	@$(BIN)/lint-imports

format: $(INSTALLED) ## Mend style and format where that can be done by machine
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## Remove .venv, caches and builds; data/ stays, since it may hold calls
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp comes last, so an install that was cut short is done again. An environment without a working pip (Debian
# leaves one behind when python3-venv is missing) is made anew.
$(INSTALLED): pyproject.toml
	@command -v '$(PYTHON)' >/dev/null || { echo 'There is no $(PYTHON) here. The bridge needs Python 3.11 or newer: install it, or name it with PYTHON=...' >&2; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "The bridge needs Python 3.11 or newer, and $(PYTHON) is $$('$(PYTHON)' --version 2>&1). Name a newer one with PYTHON=..." >&2; exit 1; }
	@echo 'Setting up $(VENV): a minute or two, the first time.'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || '$(PYTHON)' -m venv --clear $(VENV) || { echo '$(PYTHON) could not make a virtual environment. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-input --editable '.[dev]'
	@touch $@

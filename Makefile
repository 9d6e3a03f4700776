# Everything here works on a bare machine with Python >= 3.11 and make; nothing is installed outside .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-slow test-portable test-all lint types bench docs clean
help:            ## these lines
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "otel-stage needs Python 3.11 or newer; this is " + sys.version.split()[0] + " - give another with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml
	$(BIN)/pip install -q -e '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/pip install -q -e '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo      ## a video gets subtitles, and you see what a run leaves behind
	@$(BIN)/otel-stage demo $(ARGS)

test: $(VENV)/.dev       ## the tests, under three minutes
	$(BIN)/python -m pytest -n auto -m "not slow" $(ARGS)

test-slow: $(VENV)/.dev  ## the tests that take longer
	$(BIN)/python -m pytest -n auto -m slow $(ARGS)

test-portable: $(VENV)/.dev ## the default tests with the Linux paths switched off
	OTEL_STAGE_PORTABLE=1 $(BIN)/python -m pytest -n auto -m "not slow" $(ARGS)

test-all: test test-slow test-portable ## all of them

lint: $(VENV)/.dev types ## ruff, mypy, pyright, import rules, generated pages
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python docs/_generate/schema.py --check
	$(BIN)/python docs/_generate/reference.py --check

types: $(VENV)/.dev      ## mypy --strict and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.dev      ## us and the peers in turn; prints ratios
	@for f in bench/[a-z]*.py; do echo "== $$f"; $(BIN)/python $$f $(ARGS) || exit 1; done

docs: $(VENV)/.dev       ## generate the reference pages
	$(BIN)/python docs/_generate/schema.py
	$(BIN)/python docs/_generate/reference.py

clean:           ## remove what these targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

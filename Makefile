# The one face for people. `make` alone says what there is.
# Needs Python 3.11 or newer, make, and a C compiler for the native plugins.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# Every folder with a pyproject.toml is a distribution; core first, for the others depend on it.
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard core/pyproject.toml marketplace/pyproject.toml plugins/*/pyproject.toml))
HEAVY   := $(patsubst plugins/%/pyproject.toml,plugins/%,$(shell grep -ls '^heavy = true' plugins/*/pyproject.toml))
LIGHT   := $(filter-out $(HEAVY),$(MEMBERS))
# What is compiled is built anew when it changes; Python sources are used in place.
NATIVE  := $(wildcard plugins/*/CMakeLists.txt plugins/*/native/*.[ch] plugins/*/native/*/*.[ch])
SOURCES := $(addsuffix /pyproject.toml,$(MEMBERS)) $(NATIVE)
DEV     := requirements-dev.txt
SLOW    := requirements-slow.txt
# How many times the 2,000 inputs a parser that `make test` has; for a night, 100 and more.
FUZZ_TIMES ?= 10

EMULATORS := qemu-user-static gcc-aarch64-linux-gnu libsimde-dev

.DEFAULT_GOAL := help
.PHONY: help setup test test-all emulators lint format bench docs clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(VENV)/.ready  ## Make .venv with every member installed in place

$(VENV)/.ready: $(SOURCES) $(DEV) constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing $(LIGHT) and the tools of $(DEV) into $(VENV)"
	@$(PIP) install --quiet -c constraints.txt -r $(DEV) $(addprefix -e ./,$(LIGHT))
	@touch $@

test: setup  ## Run the tests (under 15 minutes on two cores)
	$(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 8 --dist loadfile

test-all: setup emulators  ## Run the slow tests too, and those of the heavy plugins
	@$(PIP) install --quiet -c constraints.txt -r $(SLOW) $(foreach each,$(HEAVY),-e "./$(each)[testing]")
	LLAMA_CORE_FUZZ_TIMES=$(FUZZ_TIMES) $(BIN)/python -m pytest

# Tests of the native tiers that this processor lacks skip, and say so, where these are not installed.
emulators:
	@if test "$$(id -u)" = 0 && command -v apt-get > /dev/null; then \
	  dpkg -s $(EMULATORS) > /dev/null 2>&1 || { apt-get -qq update && apt-get -qq install -y $(EMULATORS); } > /dev/null \
	  || echo "test-all: apt-get could not install $(EMULATORS)"; \
	else echo "test-all: for the tiers of other processors install $(EMULATORS)"; fi

lint: setup  ## Check style, types and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(wildcard .github/workflows),$(BIN)/zizmor --offline --quiet .github/workflows)
	$(if $(wildcard .github/workflows),$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml)

format: setup  ## Put the code into the house's shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## Measure, and keep the results in docs/benchmarks and docs/benchmarks.md
	@mkdir -p docs/benchmarks
	@for each in $(filter-out benchmarks/page.py,$(shell grep -l '__main__' benchmarks/*.py)); do \
	  name=$$(basename $$each .py); echo "bench: $$name"; \
	  $(BIN)/python $$each --json > docs/benchmarks/$$name.json.new \
	    && mv docs/benchmarks/$$name.json.new docs/benchmarks/$$name.json || exit 1; \
	done
	$(BIN)/python benchmarks/page.py

docs: setup  ## Build the manual into docs/_build
	$(BIN)/python -m sphinx -W -E -q -b html docs docs/_build

clean:  ## Remove what was built (and .venv)
	rm -rf $(VENV) docs/_build benchmarks/.envs benchmarks/.cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The one face for people. `make` alone says what there is.
# Needs Python 3.11 or newer, make, and a C compiler for the native plugins.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := -m pip --disable-pip-version-check install --quiet -c constraints.txt
# The heavy plugins are tested in an environment of their own, so that in .venv nothing can lean on
# torch. It lies on .venv: what is installed there is seen here too.
TORCH  := .venv-torch
SITE   := import sysconfig; site = sysconfig.get_path("purelib")

# Every folder with a pyproject.toml is a distribution; core first, for the others depend on it.
MEMBERS := $(patsubst %/pyproject.toml,%,$(wildcard core/pyproject.toml marketplace/pyproject.toml plugins/*/pyproject.toml))
HEAVY   := $(patsubst plugins/%/pyproject.toml,plugins/%,$(shell grep -ls '^heavy = true' plugins/*/pyproject.toml))
LIGHT   := $(filter-out $(HEAVY),$(MEMBERS))
# What is compiled is built anew when it changes; Python sources are used in place.
NATIVE  := $(wildcard plugins/*/CMakeLists.txt plugins/*/native/*.[ch] plugins/*/native/*/*.[ch])
SOURCES := $(addsuffix /pyproject.toml,$(MEMBERS)) $(NATIVE)
# What `make chat` takes is a part of what `make setup` installs, in the same environment.
CHAT    := core plugins/cpu plugins/model-tiny
WEIGHTS := plugins/model-tiny/src/llama_plugin_model_tiny/model/model.safetensors
# The question as it was typed: neither make nor the shell reads anything into it.
export CHAT_PROMPT = $(value PROMPT)
DEV     := requirements-dev.txt
SLOW    := requirements-slow.txt
# How many times the 2,000 inputs a parser that `make test` has; for a night, 100 and more.
FUZZ_TIMES ?= 10
QUICK   := -m "not slow" --numprocesses auto --maxprocesses 8 --dist loadfile

# What the slow tests take from the system; without it they skip, and say so.
EMULATORS := qemu-user-static gcc-aarch64-linux-gnu libsimde-dev
BROWSER   := chromium
CASES     := build/tuf-conformance

# The index of the plugins here, and its keys: made where there are none, else it is published into.
INDEX  ?= dist/index
KEYS   ?= dist/keys
PLUGINS ?= $(filter plugins/%,$(MEMBERS))
MARKET  = $(INDEXER) -m llama_core marketplace
SIGNED  = --index "$(INDEX)" --keys "$(KEYS)"

.DEFAULT_GOAL := help
.PHONY: help chat setup test test-torch test-all test-gpu emulators browser index index-of lint format bench docs clean

help:  ## Say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

chat: $(WEIGHTS) $(VENV)/.chat  ## Chat with the bundled model; PROMPT="..." asks it one question
	@asked="$$CHAT_PROMPT"; test -n "$$asked" || test -t 0 || asked="$$(cat)"; \
	if test -z "$$asked" && test -t 0; then $(BIN)/llama chat tiny; \
	else $(BIN)/llama chat tiny --prompt "$${asked:-Tell me a story about a fox.}"; fi

$(WEIGHTS):
	$(error the model 'tiny' is not in this checkout, $@ is missing: plugins/model-tiny/recipe/README.md says how it is made)

$(VENV)/.chat: $(addsuffix /pyproject.toml,$(CHAT)) $(NATIVE) constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "chat: installing $(CHAT) into $(VENV), which takes a minute"
	@$(BIN)/python $(INSTALL) --no-compile $(addprefix -e ./,$(CHAT))
	@touch $@

setup: $(VENV)/.ready  ## Make .venv with every member installed in place

$(VENV)/.ready: $(SOURCES) $(DEV) constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setup: installing $(LIGHT) and the tools of $(DEV) into $(VENV)"
	@$(BIN)/python $(INSTALL) -r $(DEV) $(addprefix -e ./,$(LIGHT))
	@touch $@ $(VENV)/.chat

$(TORCH)/.ready: $(VENV)/.ready $(addsuffix /pyproject.toml,$(HEAVY))
	@test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	@echo "setup: installing $(HEAVY) and what they need into $(TORCH)"
	@$(BIN)/python -c '$(SITE); print("import site; site.addsitedir(%r)" % site)' > \
	  "$$($(TORCH)/bin/python -c '$(SITE); print(site)')/below.pth"
	@$(TORCH)/bin/python $(INSTALL) $(foreach each,$(HEAVY),-e "./$(each)[testing]")
	@touch $@

test: setup  ## Run the tests (under 15 minutes on two cores)
	$(BIN)/python -m pytest $(QUICK) $(addprefix --ignore=,$(HEAVY))
	@$(MAKE) --no-print-directory test-torch

test-torch: $(TORCH)/.ready  ## Of the tests, run those of the heavy plugins
	$(TORCH)/bin/python -m pytest $(QUICK) $(HEAVY) tests/test_recipe.py tests/test_same_model.py \
	  tests/test_index.py::test_all_plugins_of_the_repository_conform_and_are_in_it

test-all: setup emulators browser $(CASES)  ## Run the slow tests too
	@$(BIN)/python $(INSTALL) -r $(SLOW)
	LLAMA_CORE_FUZZ_TIMES=$(FUZZ_TIMES) $(BIN)/python -m pytest $(addprefix --ignore=,$(HEAVY))
	@$(MAKE) --no-print-directory test-torch QUICK=

test-gpu: $(TORCH)/.ready  ## Run the tests of the heavy plugins on a GPU
	@$(TORCH)/bin/python -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else \
	  "test-gpu: torch sees no GPU here; where there is one, install a build of torch for it")'
	$(TORCH)/bin/python -m pytest -m "not slow" $(HEAVY)

emulators:  # of the native tiers that this processor lacks
	$(call apt,the tiers of other processors,$(EMULATORS))

browser:  # for the catalogue's pages; Chrome does as well
	$(if $(shell command -v google-chrome),,$(call apt,the tests in a browser,$(BROWSER)))

$(CASES):  # of TUF's conformance: a repository that is on no package index, and what it sets clocks with
	$(call apt,the cases of TUF,faketime)
	@git clone --quiet --depth 1 --branch v2.4.0 https://github.com/theupdateframework/tuf-conformance $@ \
	  2> /dev/null || echo "test-all: the cases of TUF could not be fetched"

# $(call apt,WHAT FOR,PACKAGES): installs them where that is allowed, and says what is missing elsewhere.
define apt
@if test "$$(id -u)" = 0 && command -v apt-get > /dev/null; then \
  dpkg -s $(2) > /dev/null 2>&1 || { apt-get -qq update && apt-get -qq install -y $(2); } > /dev/null \
  || echo "test-all: apt-get could not install $(2)"; \
else echo "test-all: for $(1) install $(2)"; fi
endef

index: $(TORCH)/.ready  ## Build a signed index of the plugins here, with their wheels, in dist/index
	@$(MAKE) --no-print-directory index-of INDEXER=$(TORCH)/bin/python

index-of:  # the same of some PLUGINS, tried and published by the Python INDEXER
	@set -e; wheels="$$(mktemp -d)"; trap 'rm -rf "$$wheels"' EXIT; \
	for each in $(PLUGINS); do echo "index: building $$each"; \
	  said="$$($(INDEXER) -m build --wheel --outdir "$$wheels" "$$each" 2>&1)" \
	  || { echo "$$said" | tail -20 >&2; exit 1; }; done; \
	test -e "$(INDEX)" || { $(MARKET) init "$(INDEX)" --keys "$(KEYS)"; \
	  $(MARKET) keys create "$(KEYS)/llama-core.pem"; \
	  $(MARKET) publishers add llama-core --key "$(KEYS)/llama-core.pub" --verified $(SIGNED); }; \
	echo "index: trying and publishing, which takes minutes"; \
	$(MARKET) publish "$$wheels"/*.whl --publisher llama-core --with-wheels $(SIGNED) \
	  $(PLUGINS:%=--suite %/tests/test_contract.py)

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
	rm -rf $(VENV) $(TORCH) docs/_build benchmarks/.envs benchmarks/.cache $(CASES) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

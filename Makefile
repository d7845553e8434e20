# Every target sets up what it needs by itself: a virtual environment in .venv with the versions
# pinned in constraints.txt. It is made once, and again when constraints.txt or pyproject.toml changes.

PYTHON   ?= python3
VENV     ?= .venv
# Passed on to pip. On Linux without a GPU, the smaller build of PyTorch:
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
# Groups of `make bench`: cnen, import, matgan ... (all if empty).
ONLY     ?=
# Passed on to pytest, e.g. make test TESTS="tests/core -k formula"; SLOW=1 runs the long ones too.
TESTS    ?=
SLOW     ?=
JOBS     ?= 2

BIN   := $(VENV)/bin
STAMP := $(VENV)/installed

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint format clean

help: ## Show this list
	@echo "make TARGET, where TARGET is one of"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 10

demo: $(STAMP) ## Import real formulas, train, generate, check, report and query: the tour
	@$(BIN)/gandb demo

test: $(STAMP) ## Run the tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(if $(SLOW),,-m "not slow") $(TESTS)

bench: $(STAMP) ## Measure against peers, print a table, write bench.json (ONLY=group)
	$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

lint: $(STAMP) ## Check format, style, types and layers
	@status=0; \
	for check in "ruff format --check ." "ruff check ." mypy "lint-imports --no-logo"; do \
	  echo "== $$check"; $(BIN)/$$check || status=1; \
	done; \
	exit $$status

format: $(STAMP) ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the virtual environment and everything built
	rm -rf $(VENV) build dist demo *.egg-info bench.json
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find cli gandb migrations schema tests -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "gandb needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "setting up $(VENV): once, one to five minutes, mostly for PyTorch"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check $(PIP_ARGS) \
	  -c constraints.txt -e '.[dev,energy,fingerprints,live,postgres,report,serve,sevennet,structures,train]'
	@touch $@

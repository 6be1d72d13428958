# The commands of the project; everything they need is installed into $(VENV) first.

VENV ?= .venv
PYTHON ?= python3

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALLED := $(VENV)/.installed

# The tests whose branch coverage is measured.
COVERED_BY := tests/unit tests/integration tests/conformance

# Empty is as if it were not set. The tests start hundreds of processes, and without bytecode each would compile all anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: install
install: $(INSTALLED) ## Make the virtual environment and install into it

.PHONY: demo
demo: $(INSTALLED) ## Run the use cases for real, and check what came of them; options by ARGS="--keep run"
	@$(BIN)/python -m demo $(ARGS)

.PHONY: proofs
proofs: $(INSTALLED) ## Run all proofs that take minutes, one after another, and sum up; some of them by ARGS="cron soak"
	@$(BIN)/python -m proofs all $(ARGS)

.PHONY: cron
cron: $(INSTALLED) ## Compare due times with a walk around all changes of clocks (minutes); options by ARGS="--seed 1"
	@$(BIN)/python -m proofs cron $(ARGS)

.PHONY: power-cuts
power-cuts: $(INSTALLED) ## Cut the power 10,000 times under the SQLite store (minutes); options by ARGS="--cuts 500 --seed 1"
	@$(BIN)/python -m proofs power-cuts $(ARGS)

.PHONY: memory
memory: $(INSTALLED) ## Run a million jobs, and show that their worker's memory stays flat (minutes); options by ARGS="--mixed"
	@$(BIN)/python -m proofs memory $(ARGS)

.PHONY: soak
soak: $(INSTALLED) ## Run 10,000 jobs over 4 processes while 25 are killed (minutes); options by ARGS="--stops 5 --seed 1"
	@$(BIN)/python -m proofs soak $(ARGS)

.PHONY: outage
outage: $(INSTALLED) ## Run 20,000 jobs on PostgreSQL while server, sessions and network fail (minutes); options by ARGS="--seed 1"
	@$(BIN)/python -m proofs outage $(ARGS)

.PHONY: production
production: $(INSTALLED) ## Play what users, containers, forks and failovers do to workers (minutes, as root); some by ARGS="NAME", all: --list
	@$(BIN)/python -m proofs production $(ARGS)

.PHONY: matrix
matrix: $(INSTALLED) ## Run the tests on each version of Python and PostgreSQL (hours); some by ARGS="python-3.13 postgresql-14"
	@$(BIN)/python -m proofs matrix $(ARGS)

.PHONY: check
check: $(INSTALLED) ## Lint, types, layers and plain English
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	@if command -v node >/dev/null; then set -x; $(BIN)/pyright --pythonpath $(BIN)/python; \
		else echo "node is not installed: pyright is left out"; fi
	$(BIN)/lint-imports
	$(BIN)/python -m tools.english

.PHONY: test
test: check ## All of check, then all tests; options for pytest by ARGS="-k retry"
	$(BIN)/pytest --numprocesses 4 --dist worksteal --durations=10 --durations-min=5 $(ARGS)

.PHONY: english
english: $(INSTALLED) ## Find words and names that plain English leaves out; in some places by ARGS="src/deeper_tasks/cli"
	$(BIN)/python -m tools.english $(ARGS)

.PHONY: slowest
slowest: $(INSTALLED) ## Run all tests and list the slowest thirty; options for pytest by ARGS="tests/unit --durations=100"
	$(BIN)/pytest --numprocesses 4 --dist worksteal --durations=30 --durations-min=0.5 $(ARGS)

.PHONY: coverage
coverage: $(INSTALLED) ## Run the tests with their branch coverage, which may not fall; another choice of them by ARGS="tests/unit"
	@rm -rf .coverage && mkdir .coverage
	$(BIN)/coverage run -m pytest --quiet --numprocesses 4 --dist worksteal $(or $(ARGS),$(COVERED_BY))
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report $(if $(ARGS),--fail-under=0)

.PHONY: docs
docs: $(INSTALLED) ## Make anew the pages of docs/ that come from the code
	$(BIN)/python -m docs.generate

.PHONY: screens
screens: $(INSTALLED) ## Write anew what the commands' screens look like, in tests/unit/cli/rendering/screens; look at the changes
	WRITE_SCREENS=1 $(BIN)/pytest -q tests/unit/cli/rendering/test_screens.py

.PHONY: lock
lock: ## Write the locked requirements anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url --no-emit-find-links --group dev pyproject.toml -o requirements/dev.txt

$(INSTALLED): requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

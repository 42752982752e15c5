# Needs Python 3.11 or later, make and pip; everything else goes into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
SETTINGS ?= settings.toml
MINUTES  ?= 10
PYTEST_ARGS ?=

.PHONY: run install test mutants demo check reference bench soak clean

run: $(READY)
	@$(BIN)/clarion serve --settings $(SETTINGS)

install: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Clarion needs Python 3.11 or later: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group test
	@touch $@

test: $(READY)
	@$(BIN)/python -m pytest -m "not soak" -n auto --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

mutants: $(READY)
	@$(BIN)/python -m mutants

check: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group check
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

reference: $(READY)
	@$(BIN)/python -m clarion.cli.reference docs/cli.md

demo: $(READY)
	@$(BIN)/python -m clarion.testing.demonstration

bench: $(READY)
	@$(BIN)/python -m benchmarks
	@$(BIN)/python -m benchmarks micro
	@$(BIN)/python -m benchmarks peers

soak: $(READY)
	@CLARION_SOAK_MINUTES=$(MINUTES) $(BIN)/python -m pytest -m soak -s $(PYTEST_ARGS)

clean:
	@rm -rf $(VENV) .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis

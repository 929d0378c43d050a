# make train ARGS="env=cheetah_run trainer.max_steps=2e5", make test, make check. On Windows: the lines of the README.
# make test ARGS="tests/nn -k optimizer": some tests. TESTERS=4: in so many processes instead of one a core; 0: in none of
# their own, as a debugger needs.
# Another interpreter: make train PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
TESTERS ?= auto
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist worksteal
INSTALL := $(BIN)/python -m pip install --constraint requirements.lock --editable

.PHONY: train test test-ci test-all check format docs clean

train: .venv/installed
	$(BIN)/python train.py $(ARGS)

# Without what takes long: learning, the long forms of tests/reliability, tests/fuzz and tests/data.
test: .venv/installed-dev
	$(PYTEST) -m "not slow and not long" $(ARGS)

# What must pass before a change is merged.
test-ci: .venv/installed-dev
	$(PYTEST) -m "not long" $(ARGS)

test-all: .venv/installed-dev
	$(PYTEST) $(ARGS)

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documents as a site, build/docs/site/index.html; a link that leads nowhere ends it.
docs: .venv/installed-dev
	$(BIN)/python scripts/stage_docs.py build/docs
	$(BIN)/zensical build --config-file build/docs/zensical.toml --strict

# Removes what was installed and cached; runs/ stays.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(INSTALL) .
	touch $@

.venv/installed-dev: .venv/installed
	$(INSTALL) ".[dev]"
	touch $@

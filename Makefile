# Requires only make and Python 3.11 or newer. Everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow oldest check clean

# Train the demo, test its best weights and print the next steps.
demo: .venv/installed
	$(BIN)/litlab fit --test_after_fit true
	@echo 'next    . .venv/bin/activate     (then `litlab`, `tensorboard` and the other programs are available)'

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

# Run the tests that train longer, or start programs and several processes.
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 -m slow

# The quick tests with the oldest version of every dependency that pyproject.toml allows, in .venv-oldest (7 GB).
oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest --numprocesses 2 -m "not slow"

# Run the checks that CI runs in addition to the tests.
check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "litlab needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch .venv/installed $@

.venv-oldest/installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	$(PYTHON) -c 'import tomllib; \
	floors = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	print(*(floor.partition(",")[0].replace(">=", "==") for floor in floors), sep="\n")' > .venv-oldest/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet -r .venv-oldest/oldest.txt -e ".[dev]"
	touch $@

clean:
	rm -rf .venv .venv-oldest runs build dist *.egg-info

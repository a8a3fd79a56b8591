# Needs only Python 3.11 or newer and make; everything else goes into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check clean

# Trains the embedded demo, tests its best weights, and says where to look.
demo: .venv/installed
	$(BIN)/litlab fit --test_after_fit true
	@echo 'go on   . .venv/bin/activate     (then `litlab`, `tensorboard` and the rest are at hand)'

test: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 -m "not slow"

# Those that train for longer, or start programs and several processes.
test-slow: .venv/installed-dev
	$(BIN)/python -m pytest --numprocesses 2 -m slow

# What CI asks for beside the tests.
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

clean:
	rm -rf .venv runs build dist *.egg-info

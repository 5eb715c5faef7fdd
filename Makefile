# Two commands do everything: `make demo` and `make test`. Both set up .venv first, when it is not there yet.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint types check clean bench-env

demo: $(READY)
	$(BIN)/mixloader demo

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

check: lint types test

# torch first and alone, so that pip takes the build that is at hand; torchvision and timm (which only tests import)
# without their dependencies, so that they do not ask for another one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps torchvision timm
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cuda13,demo,dev]'
	touch $@

# What `mixloader bench loader` compares with, in an environment of its own.
bench-env:
	$(PYTHON) -m venv .bench-env
	.bench-env/bin/python tools/bench/loader/rivals/install.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis runs

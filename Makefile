# Two commands for everybody: `make run` and `make test`; both set up what they need, and say so.
# `make help` lists the rest. All that is made lies in build/, .venv/, wheels/, bifrost-demo/ and beside the Python files of bifrost/_native.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
	$(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
FAST_TESTS := $(wildcard tests/unit tests/property tests/cases tests/frames tests/sim tests/test_tidy.py tests/examples/test_reference_is_current.py)
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup run check test bench wheels clean lint sanitize fuzz native prerequisites

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp native ## virtual environment, tools and both C modules, in place

run: $(VENV)/run.stamp ## a simulated plant, the gateway and a broker, live in this terminal
	@$(BIN)/python build_ffi.py
	$(BIN)/python -m bifrost demo

check: $(VENV)/dev.stamp native lint ## before every commit: format, lint, types, import rules, C warnings, fast tests
	$(BIN)/python -m pytest -m 'not slow and not cross and not interop' $(FAST_TESTS)

test: $(VENV)/dev.stamp $(VENV)/cross.stamp native lint sanitize ## everything: check, sanitizers, foreign peers, foreign processors
	@command -v mosquitto_sub >/dev/null || { apt-get update -q && apt-get install -y -q mosquitto mosquitto-clients openssl; }
	$(BIN)/python -m pytest

bench: $(VENV)/dev.stamp native ## measure, against the ratios in bench/targets.toml
	$(BIN)/python -m pytest --override-ini python_files='bench_*.py' --override-ini timeout=0 bench

wheels: $(VENV)/dev.stamp $(VENV)/cross.stamp ## sdist, pure wheel, and a wheel for each target of cross/targets.toml
	$(BIN)/python -m csrc.builder.wheels wheels

sanitize: $(VENV)/dev.stamp ## the C programs of csrc/test under the address, undefined-behaviour and thread sanitizers
	$(BIN)/python -m csrc.builder.checks sanitize

fuzz: $(VENV)/dev.stamp native ## C decoders, OPC UA port, failing allocations, FUZZ_SECONDS (60) each; the journal's power cuts and faults
	$(BIN)/python -m csrc.builder.checks fuzz $(FUZZ_SECONDS)
	$(BIN)/python -m tests.interop.fuzz_opcua $(FUZZ_SECONDS)
	BIFROST_FAILURES_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m csrc.builder.checks sanitize-ua
	$(BIN)/python -m tests.crash
	$(BIN)/python -m tests.crash faults

clean: ## delete what was made; the virtual environment and the fetched sources stay
	rm -rf build dist wheels bifrost-demo *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
	rm -f bifrost/_native/*.so
	find bifrost csrc/builder cross tests -name __pycache__ -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------- parts of the above

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m csrc.builder.checks warnings

# Succeeds without the OPC UA module where its sources can't be had, after saying why.
native: $(VENV)/dev.stamp
	@$(BIN)/python build_ffi.py

prerequisites:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing: apt-get install python3 (or set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	@command -v $${CC:-cc} >/dev/null || command -v gcc >/dev/null || { echo "A C compiler is missing: apt-get install gcc libc6-dev"; exit 1; }
	@command -v git >/dev/null || { echo "git is missing: apt-get install git"; exit 1; }

$(BIN)/python: | prerequisites
	@echo "setting up: virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

# Editable and pure as far as pip can see: the C is built in place by build_ffi.py, which shows its progress.
# The broker of the demonstration is not to be had everywhere (32-bit ARM has to compile some of what it needs): then without.
$(VENV)/run.stamp: pyproject.toml | $(BIN)/python
	@echo "setting up: Bifrost and what it needs at run time, in $(VENV)"
	@BIFROST_NO_NATIVE=1 $(PIP) --editable '.[demo]' || { echo "going on without the broker"; \
		BIFROST_NO_NATIVE=1 $(PIP) --editable .; }
	$(PIP) 'cffi>=1.17' 'setuptools>=77'
	@command -v cmake >/dev/null || $(PIP) cmake
	@touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/run.stamp
	@echo "setting up: tools of development, in $(VENV)"
	BIFROST_NO_NATIVE=1 $(PIP) --editable '.[dev]'
	@touch $@

$(VENV)/cross.stamp: pyproject.toml $(VENV)/dev.stamp
	@echo "setting up: zig, the compiler for foreign processors, in $(VENV) (100 MB)"
	BIFROST_NO_NATIVE=1 $(PIP) --editable '.[cross]'
	@touch $@

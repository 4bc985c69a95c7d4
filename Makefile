# Every command of a working day. `make` alone explains them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY_FILE ?=
PYTEST_OPTIONS ?=

.PHONY: help screenshots up test test-kafka check lint types walls format lock clean docs dashboards rules-check

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# made again when the lock or the project's declaration changes
.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON="; exit 1; }
	@test -x $(BIN)/python || { echo "making .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing the locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

up: .venv/.installed ## start everything on this machine; READY_FILE=FILE writes the URLs and secrets there
	@exec $(BIN)/audience-stream up $(if $(READY_FILE),--ready-file "$(READY_FILE)")

test: .venv/.installed ## run all tests on embedded servers
	@$(BIN)/python -m pytest -q $(PYTEST_OPTIONS)

test-kafka: .venv/.installed ## run the end-to-end tests on a real Apache Kafka
	@AUDIENCE_TEST_ON=apache-kafka $(BIN)/python -m pytest -q tests/pipeline tests/spool $(PYTEST_OPTIONS)

screenshots: .venv/.installed ## take the pictures of docs/console.md anew
	@$(BIN)/python -m tests.console.screenshots docs/console

check: lint types walls test ## what CI runs first: lint, types, import walls, tests

lint: .venv/.installed ## look for faults and for formatting
	@$(BIN)/ruff check src tests deploy
	@$(BIN)/ruff format --check src tests deploy

types: .venv/.installed ## check the types
	@$(BIN)/mypy

walls: .venv/.installed ## check who may import whom
	@$(BIN)/lint-imports

format: .venv/.installed ## format the code
	@$(BIN)/ruff format src tests deploy
	@$(BIN)/ruff check --fix src tests deploy

docs: .venv/.installed ## write docs/metrics.md out of the code
	@$(BIN)/python -m audience_core.observability.metrics_page > docs/metrics.md

dashboards: .venv/.installed ## write the dashboards out of deploy/grafana/*.py
	@$(BIN)/python deploy/grafana/generate.py

rules-check: .venv/.installed ## check the alerts and run the test of each
	@deploy/prometheus/check.sh
	@$(BIN)/python -m pytest -q tests/deploy/test_alerts.py

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

lock: ## write the three lock files anew: for work, for the image, for building the image
	@$(LOCK) pyproject.toml --extra embedded --extra test --extra check --output-file requirements.lock
	@$(LOCK) pyproject.toml --constraints requirements.lock --output-file deploy/image/requirements.lock
	@$(LOCK) deploy/image/build.in --constraints requirements.lock --output-file deploy/image/build.lock

clean: ## remove what was installed and cached
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

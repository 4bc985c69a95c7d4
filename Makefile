# Every command of a working day. `make` alone explains them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
READY_FILE ?=
PYTEST_OPTIONS ?=
SEEDS ?= 10000
BENCH ?=
BENCH_OPTIONS ?=
SECONDS ?= 60
FAULT_REPORT ?= .faults.jsonl

.PHONY: help up test test-slow test-console test-kafka test-faults guarantees bench bench-page bench-peers check lint types walls format lock clean docs dashboards dashboards-check \
	rules-check alert-drill deploy-check sbom audit simulate-faults simulate-faults-nightly mutation-check fuzz \
	screenshots

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

test: .venv/.installed ## run the tests on embedded servers; slow ones and those of the console have targets of their own
	@$(BIN)/python -m pytest -q --ignore=tests/console $(PYTEST_OPTIONS)

test-slow: .venv/.installed ## run the tests that kill processes and wait for them, on embedded servers
	@$(BIN)/python -m pytest -q -m slow $(PYTEST_OPTIONS)

test-console: .venv/.installed ## walk through the console in a real Chromium
	@$(BIN)/python -m pytest -q tests/console $(PYTEST_OPTIONS)

test-kafka: .venv/.installed ## run the end-to-end tests on a real Apache Kafka
	@AUDIENCE_TEST_ON=apache-kafka $(BIN)/python -m pytest -q -m "not live" tests/pipeline tests/spool tests/deploy/test_termination.py \
		tests/security $(PYTEST_OPTIONS)

test-faults: .venv/.installed ## run the fault suite on Apache Kafka, Redis, Redis Cluster and Sentinel
	@rm -f "$(FAULT_REPORT)"
	@AUDIENCE_TEST_ON=apache-kafka $(BIN)/python -m pytest -q tests/faults --fault-report="$(FAULT_REPORT)" $(PYTEST_OPTIONS)

guarantees: .venv/.installed ## write what the last test-faults measured into docs/guarantees.md
	@$(BIN)/python -m tests.faults.table "$(FAULT_REPORT)" docs/guarantees.md

simulate-faults: .venv/.installed ## play the services against a failing Kafka and Redis; SEEDS=10000
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS)

simulate-faults-nightly: .venv/.installed ## the same for a million seeds, another million each night
	@$(BIN)/python -m tests.simulation --seeds 1000000 --start $$(( $$(date +%-j) * 1000000 ))

mutation-check: .venv/.installed ## break each guard and see that a test fails
	@$(BIN)/python -m tests.mutation

fuzz: .venv/.installed ## send broken requests to a running system; SECONDS=60
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

screenshots: .venv/.installed ## take the pictures of docs/console.md anew
	@$(BIN)/python -m tests.console.screenshots docs/console

check: lint types walls test ## what CI runs first: lint, types, import walls, tests

deploy-check: .venv/.installed ## check the image's steps, the manifests and the compose file; builds missing tools
	@tools=$$(deploy/tools.sh) && PATH="$$tools:$$PATH" AUDIENCE_DEPLOY_CHECK=1 $(BIN)/python -m pytest -q \
		tests/deploy/test_image.py tests/deploy/test_kubernetes.py tests/deploy/test_compose.py

lint: .venv/.installed ## look for faults and for formatting
	@$(BIN)/ruff check src tests deploy benchmarks
	@$(BIN)/ruff format --check src tests deploy benchmarks

types: .venv/.installed ## check the types
	@$(BIN)/mypy

walls: .venv/.installed ## check who may import whom
	@$(BIN)/lint-imports

format: .venv/.installed ## format the code
	@$(BIN)/ruff format src tests deploy benchmarks
	@$(BIN)/ruff check --fix src tests deploy benchmarks

docs: .venv/.installed ## write docs/metrics.md, configuration.md and licences.md out of the code and the lock
	@$(BIN)/python -m audience_core.observability.metrics_page > docs/metrics.md
	@$(BIN)/python -m audience_stream.configuration_page > docs/configuration.md
	@$(BIN)/python deploy/image/licences.py > docs/licences.md

dashboards: .venv/.installed ## write the dashboards out of deploy/grafana/*.py
	@$(BIN)/python deploy/grafana/generate.py

dashboards-check: .venv/.installed ## run every query of the dashboards on a real Prometheus over a system at work
	@$(BIN)/python -m pytest -q -m live tests/deploy/test_dashboards_live.py

alert-drill: .venv/.installed ## stop a worker under load and see who hears of it, with the true rules and routes; 4 minutes
	@$(BIN)/python -m tests.deploy.alert_drill

rules-check: .venv/.installed ## check the alerts and run the test of each
	@deploy/prometheus/check.sh
	@$(BIN)/python -m pytest -q tests/deploy/test_alerts.py

sbom: ## write build/sbom.json: what the image holds, as CycloneDX
	@rm -rf build/image build/image.build && mkdir -p build
	@PYTHON="$(PYTHON)" deploy/image/install.sh dependencies "$(CURDIR)/build/image"
	@deploy/image/install.sh project "$(CURDIR)/build/image"
	@deploy/image/install.sh sbom "$(CURDIR)/build/image" "$(CURDIR)/build/sbom.json"
	@rm -rf build/image build/image.build
	@echo build/sbom.json

audit: .venv/.installed ## look up known vulnerabilities of the image's packages; fails where their database can't be reached
	@$(BIN)/uv tool run --quiet pip-audit==2.10.0 --strict --disable-pip --require-hashes \
		--requirement deploy/image/requirements.lock

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header

bench: .venv/.installed ## measure each hop beside its ceiling; BENCH=worker|rebuild|gateway|read|freshness|memory|scaling|soak, BENCH_OPTIONS='--repeats 3 --compare REV'
	@$(BIN)/python -m benchmarks $(BENCH) $(BENCH_OPTIONS)

bench-page: .venv/.installed ## write figures and charts into docs/performance.md; FIGURES='a.json b.json', as BENCH_OPTIONS='--json a.json' wrote them
	@$(BIN)/python -m benchmarks.page docs/performance.md $(FIGURES)

bench-peers: .venv/.installed ## install the peers that `make bench` measures too, each under .venv-peers/
	@$(BIN)/python -m benchmarks.peers.environments

lock: ## write the lock files anew: for work, for the image, for building the image, for the benchmark's peers
	@$(LOCK) pyproject.toml --extra embedded --extra tracing --extra test --extra check --output-file requirements.lock
	@$(LOCK) pyproject.toml --extra tracing --constraints requirements.lock --output-file deploy/image/requirements.lock
	@$(LOCK) deploy/image/build.in --constraints requirements.lock --output-file deploy/image/build.lock
	@for peer in arroyo faststream quixstreams; do \
		$(LOCK) benchmarks/peers/$$peer.in --output-file benchmarks/peers/$$peer.lock || exit; done

clean: ## remove what was installed and cached
	@rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist

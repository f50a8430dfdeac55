# Everything that is done in this repository. It needs Python 3.11 or newer and make; all else is fetched into .venv.

.DEFAULT_GOAL := help
.PHONY: help run test suite check format lock integration bench faults properties mutation clean programs

PARTS ?=
MUTANTS ?= 600
SEED ?= $(shell date +%s)
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$name; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
PYTEST := $(BIN)/python -m pytest
CODE := services streams tests

# A stamp's name holds what it was made from, so that any change installs anew and an unchanged checkout starts at once.
sum = $(shell { echo '$(CURDIR)'; cat $(1); } | cksum | tr -s ' \t' '-')
RUN_STAMP := $(VENV)/.run-$(call sum,requirements.txt pyproject.toml)
TEST_STAMP := $(VENV)/.test-$(call sum,requirements.txt tests/requirements.txt pyproject.toml)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN_STAMP) ## Start everything on this machine: PostgreSQL, Kafka, all services and the emulator
	@exec $(BIN)/python -m services.standalone

# Side by side: checking types keeps one core busy for a minute.
test: $(TEST_STAMP) programs ## Check and test everything
	@$(MAKE) --no-print-directory --jobs 2 check suite

suite: $(TEST_STAMP)
	$(PYTEST) -n 3 --dist loadgroup --hypothesis-seed=$(SEED) --cov --cov-report=term-missing:skip-covered

check: $(TEST_STAMP) ## Format, lint, types, direction of imports, rules and what they are for
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports
	$(BIN)/pumpwatch rules check
	$(BIN)/pumpwatch rules trace --output build/trace.html >/dev/null

format: $(TEST_STAMP) ## Format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(TEST_STAMP) ## Renew both locks to the newest versions that pyproject.toml allows
	$(LOCK) --upgrade --extra build --extra test --output-file tests/requirements.txt pyproject.toml
	$(LOCK) --upgrade --extra build --constraints tests/requirements.txt --output-file requirements.txt pyproject.toml

LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --generate-hashes --universal --no-strip-extras --python-version 3.11

integration: $(TEST_STAMP) ## Only the tests on a real Kafka and a real PostgreSQL
	$(PYTEST) tests/integration

bench: $(TEST_STAMP) programs ## Measure, beside rivals; writes build/bench/latest.json; PARTS="backtest" for one part
	$(BIN)/python -m tests.benchmarks $(PARTS)

faults: $(TEST_STAMP) ## Kill and pause every process under load, 200 times
	PUMPWATCH_FAULT_CYCLES=200 $(PYTEST) tests/faults

properties: $(TEST_STAMP) ## The laws of the core on many more cases
	PUMPWATCH_LIVES=10000 $(PYTEST) -n auto --dist loadgroup tests/domain/test_properties.py tests/domain/test_typed_laws.py tests/domain/test_interactions.py --hypothesis-seed=$(SEED)

mutation: $(TEST_STAMP) ## Do the tests notice faults in the core? MUTANTS=600, all or survivors (of the last run); SEED=1
	$(BIN)/python -m tests.mutation $(MUTANTS) --seed $(SEED)

clean: ## Remove what was built; the data in var/ stays
	rm -rf $(VENV) build mutants .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache .import_linter_cache *.egg-info

$(RUN_STAMP): | $(BIN)/python
	@echo "installing the locked requirements into $(VENV) (once)"
	@$(PIP) --require-hashes -r requirements.txt
	@$(PIP) --no-build-isolation -e .
	@rm -f $(VENV)/.run-* && touch $@

$(TEST_STAMP): | $(BIN)/python
	@echo "installing the locked requirements of the tests into $(VENV) (once)"
	@$(PIP) --require-hashes -r tests/requirements.txt
	@$(PIP) --no-build-isolation -e .
	@rm -f $(VENV)/.run-* $(VENV)/.test-* && touch $@ $(RUN_STAMP)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is not Python 3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)

# The pages are tried in a browser, and the metrics and alerts against the programs that will read them.
PROGRAMS := chromium prometheus promtool prometheus-alertmanager
PACKAGES := chromium prometheus prometheus-alertmanager
programs:
	@for name in $(PROGRAMS); do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	test -n "$$missing" || exit 0; \
	as=; test "$$(id -u)" = 0 || as="sudo -n"; \
	{ command -v apt-get && $${as:-true} true; } >/dev/null 2>&1 || { \
		echo "the tests need$$missing: install them (Debian: $(PACKAGES))" >&2; exit 1; }; \
	echo "installing$$missing (once)"; \
	$$as apt-get update -qq && \
	$$as env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(PACKAGES) >/dev/null

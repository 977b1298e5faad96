# Two commands do everything on a bare machine with Python 3.11 or newer: `make demo` and `make test`.
# Each sets up .venv by itself, with uv where it is found and works, else with pip.

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
WORKERS ?= auto
ARGS ?=
BIN := .venv/bin
DEV := .venv/.dev

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test chaos check bench bench-scale docs clean fmt fmt-check lint type imports wheel-test

help: ## print this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DEV) ## create .venv with everything a developer needs

demo: .venv/.demo ## run 1,000 onboardings, kill the engine again and again, prove that nothing was lost
	$(BIN)/python docs/examples/onboarding $(ARGS)

test: $(DEV) .venv/.bench ## run all tests (ARGS="-k name" narrows, WORKERS=0 for one process)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

check: fmt-check lint type imports docs wheel-test test ## all that must be green before a change lands

chaos: $(DEV) ## the long runs: 10,000 scripts of the model, every fault point, hundreds of seeds
	SUPERVISION_MODEL_SCRIPTS=10000 BEAMFLOW_EXHAUSTIVE=1 BEAMFLOW_PROGRAMS=20000 CHAOS_DEMO_SEEDS=20 \
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --timeout 7200 --chaos-seeds 500 \
		tests/supervision/test_model.py tests/supervision/test_chaos.py tests/beamflow/testing \
		tests/beamflow/engine/test_programs.py tests/beamflow/engine/test_saga_programs.py tests/beamflow/engine/test_suspects.py tests/beamflow/test_ablation.py \
		tests/beamflow/stores/test_power_loss.py \
		tests/corpus/test_corpus.py \
		tests/acceptance/test_kill.py tests/acceptance/test_corpus_kill.py tests/acceptance/test_demo_under_chaos.py $(ARGS)

bench: $(DEV) .venv/.bench ## measure, beside DBOS, Edda, LangGraph, Prefect and Restate (ARGS="--quick" for a look)
	$(BIN)/python -m benchmarks $(ARGS)

bench-scale: $(DEV) .venv/.bench ## what takes long, one part each: ARGS=sleepers, ARGS=finding, ARGS="soak --minutes 20"
	$(BIN)/python -m benchmarks.scale $(ARGS)

docs: $(DEV) ## build the documentation into site/, warnings are errors
	$(BIN)/zensical build --clean --strict

clean: ## remove all that can be made again
	rm -rf .venv .bench build dist site .coverage .coverage.* htmlcov .hypothesis .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

fmt: $(DEV) ## format the code, apply the safe fixes
	$(BIN)/ruff format
	$(BIN)/ruff check --fix-only

fmt-check: $(DEV)
	$(BIN)/ruff format --check

lint: $(DEV) ## ruff, every rule
	$(BIN)/ruff check

type: $(DEV) ## mypy, strict
	$(BIN)/mypy

imports: $(DEV) ## the layers of both packages
	$(BIN)/lint-imports

wheel-test: $(DEV) ## build the wheel, install it elsewhere, run the tests of the public API against it
	PYTHON=$(PYTHON) bash .ci/wheel-test

# One stamp for each dependency group: .venv/.demo is enough to run the demo, .venv/.dev is all.
.venv/.%: pyproject.toml
	@test -n "$(PYTHON)" || { echo "beamflow needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 …"; exit 1; }
	@echo "setting up .venv ($*)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@{ command -v uv >/dev/null && uv pip install --quiet --python $(BIN)/python --editable . --group $*; } || \
	{ { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; } && \
	  $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' && \
	  $(BIN)/python -m pip install --quiet --editable . --group $*; }
	@touch $@

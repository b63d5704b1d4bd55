# `make demo` and `make test` each set everything up in .venv and do their job.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DOCS_READY := .venv/.docs-ready
RESULTS ?= results/demo

.PHONY: help setup demo test nightly check docs lock bench clean

help:            ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 12

setup: $(READY)  ## .venv with the locked versions

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("byzax needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)   ## seven rules against five attacks on real digits: table and plots in $(RESULTS)
	$(BIN)/byzax run experiments/scenarios/demo.yaml --out $(RESULTS) --overwrite

# The default suite compiles in half of the time: with few optimisations, and by XLA's older emitters where JAX has them
# (0.10, the last one for Python 3.11). At night all tests run with the options of a run.
OLDER_EMITTERS = import jaxlib; print(" --xla_cpu_use_fusion_emitters=false" * jaxlib.__version__.startswith("0.10."))

test: $(READY)   ## the default test suite
	XLA_FLAGS="$$XLA_FLAGS$$($(BIN)/python -c '$(OLDER_EMITTERS)')" JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
	$(BIN)/python -m pytest -n auto --dist worksteal

nightly: $(DOCS_READY)  ## everything, the slow tests too
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'slow or not slow'

check: $(READY)  ## formatting, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# apart from the rest, so that make test does not wait for it
$(DOCS_READY): $(READY) requirements-docs.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $(DOCS_READY)

docs: $(DOCS_READY)  ## the documentation, as a site in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(READY)  ## speed of rules and training, as ratios within one run
	$(BIN)/byzax bench rules
	$(BIN)/byzax bench training

lock:            ## renew requirements.lock and requirements-docs.lock (needs uv)
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --extra dev --extra privacy pyproject.toml -o requirements.lock
	uv pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 --extra docs -c requirements.lock pyproject.toml -o requirements-docs.lock

clean:
	rm -rf .venv .cache build dist site *.egg-info .pytest_cache .ruff_cache

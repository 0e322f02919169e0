# Thin: every target is one command that can be typed by hand in the activated environment.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
ACTIVATE := source $(VENV)/bin/activate &&
# Libraries that ours are compared with, in an environment of their own that sees the packages of the
# first: PyTorch is not installed twice, and nothing in the first is changed.
PEERS := .venv-concordance
PEERS_READY := $(PEERS)/.ready

.DEFAULT_GOAL := demo
CONFIG ?= config/laptop.yaml
# Files of tests side by side, one to a core: most wait for commands that use one. The slow
# ones first.
PYTEST := pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder
# Those that train and measure every network, and each lower instruction set that they are tried with.
TRAINING := tests/measures tests/networks \
    tests/studies/*/test_train*.py tests/studies/*/test_measure*.py \
    tests/studies/epfl/test_gat.py tests/studies/epfl/test_lenet5.py \
    tests/studies/transformers/test_slopes.py tests/studies/transformers/test_perturb.py
LOWEST := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
# Schemas come with the package: none is downloaded.
SCHEMA := check-jsonschema -q --builtin-schema vendor.
.PHONY: demo laptop scale paper plan figures compare archive adopt machine test coverage test-slow test-isa \
    check docs wheel bench concordance clean help

demo: $(READY) ## the whole pipeline on an embedded demo (default)
laptop: $(READY) ## on the published data, at a size for two cores
scale: $(READY) ## on the published training images, in tiers: about 24 core-hours
paper: $(READY) ## as published
demo laptop scale paper:
	@$(ACTIVATE) python -m flatness run config/$@.yaml

plan: $(READY) ## jobs, minutes and GB each config will take; nothing is started
	@$(ACTIVATE) python -m flatness plan config/demo.yaml config/laptop.yaml config/scale.yaml config/paper.yaml

figures: $(READY) ## every figure and the report, redrawn from the committed tables into results/redrawn_*
	@$(ACTIVATE) python -m flatness redraw

compare: $(READY) ## a run's tables against the committed ones of its name; RUN=results/laptop if not said otherwise
	@$(ACTIVATE) python -m flatness compare $(or $(RUN),results/laptop)

archive: $(READY) ## packs results of CONFIG (config/laptop.yaml), settings, code, versions: a tar, an RO-Crate
	@$(ACTIVATE) python -m flatness archive $(CONFIG)

adopt: $(READY) ## takes over results of CONFIG that were copied into results/: checks them first
	@$(ACTIVATE) python -m flatness adopt $(CONFIG)

machine: $(READY) ## this machine's processor, instruction set and cores; runs and tests print it too
	@$(ACTIVATE) python -m flatness machine

test: machine ## the tests, without those of test-slow
	@$(ACTIVATE) $(PYTEST)

coverage: machine ## the same tests, and how much of flatness they run: 90 % of its lines at least
	@$(ACTIVATE) $(PYTEST) --cov

test-slow: machine $(PEERS_READY) ## kills, resumes, a cluster and other long tests
	@$(ACTIVATE) $(PYTEST) -m slow

test-isa: $(READY) ## tests of training and measuring, under each lower instruction set
	@$(ACTIVATE) export $(LOWEST) && python -m flatness machine && $(PYTEST) $(TRAINING)
	@$(ACTIVATE) if python -m flatness machine | grep -q 'set AVX512'; then \
	    export $(AVX2) && python -m flatness machine && $(PYTEST) $(TRAINING); fi

check: $(READY) ## style and types of the code, style of the workflow, schemas of configs and of what hosts read
	@$(ACTIVATE) ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && \
	    snakemake --lint && basedpyright
	@$(ACTIVATE) $(SCHEMA)github-workflows .github/workflows/*.yml && \
	    $(SCHEMA)dependabot .github/dependabot.yml && \
	    $(SCHEMA)github-issue-config .github/ISSUE_TEMPLATE/config.yml && \
	    $(SCHEMA)github-issue-forms .github/ISSUE_TEMPLATE/{fault,number}.yml && \
	    $(SCHEMA)citation-file-format CITATION.cff && \
	    check-jsonschema -q --schemafile config/schema.json config/*.yaml

docs: $(READY) ## the documentation site, into site/
	@$(ACTIVATE) NO_MKDOCS_2_WARNING=1 mkdocs build -q

wheel: $(READY) ## the package, into dist/
	@$(ACTIVATE) pip wheel --disable-pip-version-check -q --no-deps --wheel-dir dist .

concordance: $(PEERS_READY) ## the same quantities by every library that has them, into docs/concordance.md
	@OMP_NUM_THREADS=1 $(PEERS)/bin/python -m benchmarks.concordance docs/concordance.md

bench: $(READY) $(PEERS_READY) ## the benchmarks: ratios in one run, on a quiet machine; needs the published data
	@$(ACTIVATE) snakemake --quiet all --configfile config/laptop.yaml -- \
	    data/abalone.safetensors data/cora.safetensors
	@$(ACTIVATE) python -m benchmarks

clean: ## removes results of the configs, fetched data and scratch state; keeps results/reference
	rm -rf results/demo results/laptop results/scale results/paper results/redrawn_* data scratch .snakemake .cache

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11, 4) <= sys.version_info < (3, 14))' || \
	    { echo "error: $$($(PYTHON) --version 2>&1): Python from 3.11.4 to 3.13 is needed; call" \
	    "make PYTHON=/path/to/python3.13"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(ACTIVATE) pip install --disable-pip-version-check -q -r envs/requirements.lock
	$(ACTIVATE) pip install --disable-pip-version-check -q --no-deps -e .
	@touch $@

$(PEERS_READY): envs/concordance.txt $(READY)
	$(VENV)/bin/python -m venv --clear --without-pip $(PEERS)
	$(VENV)/bin/python -m pip --python $(PEERS)/bin/python install --disable-pip-version-check -q --no-deps \
	    -r envs/concordance.txt
	@shared=$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	    own=$$($(PEERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	    printf '%s\n' "$$shared" "$(CURDIR)/workflow" >"$$own/shared.pth"
	@touch $@

# Everything runs in .venv. `make setup` creates it from the hashed lock; a second call is a no-op.
.DEFAULT_GOAL := help
.PHONY: help setup tune results gpu-check results-gpu accelerators bench bench-torch scaling scripts rerun selftest audit \
	audit-full symptoms soak test test-all coverage lint docs ui dashboard lock pip-audit \
	clean
SHELL := /bin/bash

# The first supported Python on this machine. PYTHON=... on the command line overrides it.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$p; break; }; done)
# The CUDA libraries take 2 GB, which is only worth it if there is a GPU to use them.
FLAVOUR ?= $(if $(shell nvidia-smi -L 2>/dev/null | grep GPU),cuda,cpu)
# What else to install: EXTRAS=cluster for Ray.
EXTRAS ?=
STAMPS := $(patsubst %,.venv/.installed-%,$(FLAVOUR) $(EXTRAS))
BIN := .venv/bin

PIPELINE ?=
TRIALS ?=
ARGS ?=
TESTS ?=
RUN ?=
PORT ?= 5000

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup: $(STAMPS)  ## create .venv with the locked dependencies and the project; EXTRAS=cluster adds Ray

.venv/.installed-cluster: requirements/cluster.lock .venv/.installed-$(FLAVOUR)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/.installed-$(FLAVOUR): requirements/$(FLAVOUR).lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: make setup PYTHON=/path/to/python3"; exit 2; }
	@echo "setting up .venv with $$($(PYTHON) --version) and the locked dependencies ($(FLAVOUR)); this takes some minutes once"
	@$(PYTHON) -m venv .venv || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv"; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

tune: setup  ## tune the pipelines: PIPELINE="simple image" TRIALS=30 ARGS="--memory-limit 2GiB"
	@$(BIN)/prefetch-tune tune $(or $(PIPELINE),simple noisy image) $(if $(TRIALS),--trials $(TRIALS)) $(ARGS)

results: setup  ## tune every built-in pipeline and write docs/results.md, about an hour; ARGS="--of NAME" resumes
	@$(BIN)/python benchmarks/results.py $(ARGS)

gpu-check: setup  ## check what only a GPU can show and write docs/gpu-check.md; ARGS="--only windows" for one check
	@$(BIN)/python -m benchmarks.gpu_check --out docs $(ARGS)

results-gpu: setup  ## tune pipelines with a heavy training step on a GPU and write docs/results-gpu.md
	@$(BIN)/python benchmarks/results_gpu.py $(ARGS)

rerun: setup  ## measure a logged run again and compare the two: RUN=<run id> ARGS="--rounds 5"
	@test -n "$(RUN)" || { echo "error: which run? make rerun RUN=<run id>, as the MLflow UI shows it"; exit 2; }
	@$(BIN)/prefetch-tune rerun $(RUN) $(ARGS)

selftest: setup  ## compare a configuration with itself, to see which differences this host can detect
	@$(BIN)/prefetch-tune selftest $(PIPELINE) $(ARGS)

audit: setup  ## check the project's claims against known costs, at most 15 minutes; ARGS=--write updates the docs
	@$(BIN)/python -m benchmarks.audit $(ARGS)

audit-full: setup  ## the same with whole studies, over an hour; resumes where it was interrupted
	@$(BIN)/python -m benchmarks.audit --full $(ARGS)

accelerators: setup  ## tune each pipeline for two emulated accelerators and write docs/accelerators.md; ARGS="--of NAME" resumes
	@$(BIN)/python -m benchmarks.accelerators $(ARGS)

bench: setup  ## compare with what users do instead, write docs/benchmarks.md; BENCH=quick for ten minutes
	@$(BIN)/python -m benchmarks.side_by_side $(if $(filter quick,$(BENCH)),--quick) $(ARGS)

# Debian's PyTorch takes 16 MB; the wheel for Linux takes gigabytes. It was built for NumPy 1.
bench-torch: setup  ## make .venv-torch, with which `make bench` measures PyTorch's DataLoader (Debian 12)
	@test -d /usr/lib/python3/dist-packages/torch || { echo "error: Debian's PyTorch is missing: apt install python3-torch"; exit 2; }
	@$(BIN)/python -m venv .venv-torch
	@.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check "numpy<2" \
		$$($(BIN)/python -m pip freeze | grep -E '^(tensorflow|keras)==') \
		pydantic psutil filelock scipy pillow pandas scikit-learn grain rich
	@echo /usr/lib/python3/dist-packages > "$$(echo .venv-torch/lib/python3.*/site-packages)/debian.pth"
	@.venv-torch/bin/python -c "import torch, numpy; torch.from_numpy(numpy.zeros(1))"

scripts: setup  ## tune the scripts of examples/ as they are, compare their fit, write docs/scripts.md
	@$(BIN)/python -m benchmarks.scripts $(ARGS)

scaling: setup  ## measure nodes and stores and write the tables of docs/scaling.md; needs EXTRAS=cluster
	@$(BIN)/python -m benchmarks.scaling $(ARGS)

soak: setup  ## run 300 short trials, one in five failing, and see what grows; ARGS=--write updates the docs
	@$(BIN)/python -m benchmarks.soak $(ARGS)

symptoms: setup  ## measure what helps against each symptom and write the tables of docs/symptoms.md
	@$(BIN)/python -m benchmarks.symptoms $(ARGS)

test: setup  ## run the tests, a few minutes; TESTS=tests/loop/test_steady_state.py for one file
ifdef TESTS
	@$(BIN)/python -m pytest $(TESTS)
else
	@$(BIN)/python -m pytest -m "not timing and not slow" --numprocesses 2 --dist loadfile
	@$(BIN)/python -m pytest -m "timing and not slow"
endif

test-all: setup  ## run all tests, including those that are slow and rarely fail
	@$(BIN)/python -m pytest -m "not timing" --numprocesses 2 --dist loadfile
	@$(BIN)/python -m pytest -m timing

coverage: setup  ## run all tests and list what they don't cover, including subprocesses
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

lint: setup  ## check style, types, layers, spelling and dependencies
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/deptry .
	@$(BIN)/pre-commit run words --all-files

ui: setup  ## open the MLflow UI on the results at http://127.0.0.1:5000; PORT=... for another port
	@$(BIN)/prefetch-tune ui --port $(PORT)

dashboard: setup  ## open Optuna's dashboard on the same studies at http://127.0.0.1:8080; PORT=... for another port
	@test -f mlruns/optuna.db || { echo "error: there is no mlruns/optuna.db; run make tune first"; exit 2; }
	@$(BIN)/optuna-dashboard --host 127.0.0.1 --port $(if $(filter command,$(firstword $(origin PORT))),$(PORT),8080) "sqlite:///$(CURDIR)/mlruns/optuna.db"

docs: setup  ## build the documentation as a site in build/site, strictly
	@$(BIN)/python docs/reference.py --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock:  ## resolve the dependencies again (needs uv)
	@for flavour in cpu cuda; do \
		uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
			--custom-compile-command "make lock" --python-version 3.11 --group dev \
			$$([ $$flavour = cuda ] && echo --extra cuda) pyproject.toml -o requirements/$$flavour.lock; done
	@uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --python-version 3.11 --group cluster \
		--constraint <(grep -E '^[a-z]' requirements/cpu.lock | sed 's/ *\\$$//') -o requirements/cluster.lock

pip-audit:  ## check the locked dependencies for known vulnerabilities (needs uv and its index)
	@uv tool run pip-audit --requirement requirements/$(FLAVOUR).lock --disable-pip --require-hashes

clean:  ## remove .venv and caches, but keep the results in mlruns/
	@rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

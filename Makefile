# Everything a checkout can do. `make demo` and `make test` need nothing but Python 3.11+, its headers, and g++:
# each makes its own .venv, installs what it needs at the versions of constraints.txt, builds, and runs.

VENV ?= .venv
BUILD ?= build
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PY := $(VENV)/bin/python
# Twice quiet: errors, but no warnings about the user's own package indexes.
PIP := $(PY) -m pip --disable-pip-version-check --quiet --quiet
# The CUDA module of .venv is for the GPUs of this machine, PTX where there is none; wheels and `make cuda` are for all.
ARCHITECTURES := $(or $(CUDAARCHS),$(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null \
  | grep -E '^[0-9]+\.[0-9]+$$' | tr -d . | sort -u | paste -sd ';'),80-virtual)
# The programs of the environment (cmake, ninja, ...) come before those of the system.
export PATH := $(abspath $(VENV)/bin):$(PATH)
export PYTHONNOUSERSITE := 1
export CMAKE_GENERATOR := Ninja

NATIVE_FOLDERS := engine csrc cmake
SOURCES := CMakeLists.txt pyproject.toml $(sort $(shell \
  find $(NATIVE_FOLDERS) python export -type f -not -name '*.pyc'))
# Processes of the tests, each of which keeps one core busy. One where there is a GPU, whose memory some tests measure.
WORKERS := $(if $(shell command -v nvidia-smi),,--numprocesses auto --maxprocesses 4 --dist loadfile)
say = @printf '\033[1m==> %s\033[0m\n' '$(1)'

.PHONY: help demo test lint cuda sanitize wheel-test bench train install clean FORCE
.NOTPARALLEL:

help:
	@echo 'make demo        set up, build, repair the bundled pictures into out/demo'
	@echo 'make test        set up, build, run all tests (PYTEST="-k name" runs some)'
	@echo 'make lint        ruff, mypy --strict, and the committed stubs against the build'
	@echo 'make sanitize    C++ tests, and device tests on a GPU that the CPU plays, under ASan and UBSan'
	@echo 'make cuda        compile the CUDA module (skipped where there is no nvcc)'
	@echo 'make wheel-test  pip install . into an empty environment, and use it there'
	@echo 'make bench       measure, and write the figures into docs/'
	@echo 'make train       train and export the bundled pack again (hours on a CPU)'
	@echo 'make clean       remove what was built, but not .venv and .train'

demo: $(VENV)/.installed
	$(call say,Repairing the demo pictures)
	@$(VENV)/bin/hoirt demo -o out/demo

test: $(VENV)/.installed $(VENV)/.deps-test
	$(call say,Running the tests)
	@$(PY) -m pytest -q $(WORKERS) $(PYTEST)

install: $(VENV)/.installed

lint: $(VENV)/.installed $(VENV)/.deps-lint
	$(call say,ruff)
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	$(call say,mypy --strict)
	@$(PY) -m mypy
	$(call say,Stubs of the native modules)
	@$(PY) tools/stubs.py

sanitize: $(VENV)/.installed $(VENV)/.deps-test
	$(call say,C++ and device tests under ASan and UBSan)
	@PYTHON=$(PY) tools/sanitize.sh $(BUILD)/sanitize

cuda: $(VENV)/.deps-build
	$(call say,CUDA module for compute capability 8.0, 8.6, 8.9, 9.0 and 10.0)
	@if nvcc=$$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null); then \
	  PYTHON=$(PY) CUDACXX="$$nvcc" tools/build_cuda.sh $(BUILD)/cuda; \
	else \
	  echo 'skipped: no nvcc in PATH or /usr/local/cuda, so the CUDA module cannot be compiled here'; \
	fi

wheel-test: $(VENV)/.python
	@PYTHON=$(PY) tools/wheel_test.sh $(BUILD)/wheel-test

bench: $(VENV)/.installed $(VENV)/.deps-bench
	$(call say,Benchmarks; a bound that is missed fails the target after the report)
	@status=0; \
	$(PY) -m bench.speed || status=1; \
	$(PY) -m bench.raster || status=1; \
	$(PY) -m bench.quality || status=1; \
	$(PY) -m bench.table3 || status=1; \
	$(PY) -m bench.adaptive || status=1; \
	$(PY) -m bench.fewer_flops || status=1; \
	$(PY) -m bench.report && exit $$status

train: $(VENV)/.installed $(VENV)/.deps-train
	$(call say,Training the bundled pack; an interrupted run goes on from .train)
	@$(PY) -m export.tiny.train
	@$(PY) -m export.tiny.build
	@$(PY) -m export.tiny.train.report

clean:
	rm -rf $(BUILD) out dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks $(VENV)/.installed

# --- set-up; every stamp file is as old as what it stands for -------------------------------------------------------

$(VENV)/.python: tools/check_machine.sh
	@PYTHON='$(PYTHON)' sh tools/check_machine.sh
	$(call say,Making $(VENV))
	@test -x $(PY) || '$(PYTHON)' -m venv $(VENV)
	@touch $@

# The groups are the extras of pyproject.toml; "runtime" are its dependencies, "build" what its build needs.
$(VENV)/.deps-%: pyproject.toml constraints.txt tools/requirements.py | $(VENV)/.python
	$(call say,Installing the $* packages$(if $(filter test train bench,$*), (torch is one of them: some minutes)))
	@$(PIP) install -c constraints.txt $$($(PY) tools/requirements.py $*)
	@touch $@

$(VENV)/.installed: $(SOURCES) $(VENV)/.sources $(VENV)/.deps-runtime $(VENV)/.deps-build
	$(call say,Building hoirt (the first time takes some minutes))
	@CUDAARCHS='$(ARCHITECTURES)' $(PIP) install --no-build-isolation --no-deps \
	  --config-settings=build-dir='$(abspath $(BUILD))/install' .
	@touch $@

# The list of sources; it changes when a file comes or goes, which their dates alone would not tell.
$(VENV)/.sources: FORCE | $(VENV)/.python
	@echo '$(SOURCES)' | cmp -s - $@ || echo '$(SOURCES)' >$@

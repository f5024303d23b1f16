# Thin: every target calls python -m kd_lib or pytest inside .venv, which is made when it is missing.
PYTHON ?= python3
ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
READY := .venv/.ready
RUN := $(BIN)/python -m kd_lib
SCALE ?= $(or $(KD_SCALE),laptop)
DATA ?= $(or $(KD_DATA),signs)
TWO := -n 2 --dist loadscope
CHOICE := --scale $(SCALE) --data "$(DATA)"

.PHONY: help run test test-unit test-notebooks test-jax test-server test-install bench data train results predict serve lint format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  options: DATA=signs|gtsrb (all but run: a folder)  SCALE=smoke|laptop|full  PICTURES=...  PORT=8000"

$(READY): requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)

run: $(READY)  ## run notebooks 00-05 in order, as pages under build/, and print the results table
	@$(RUN) run $(CHOICE)

test: test-unit test-notebooks  ## unit tests, then every notebook and solution at smoke scale

# Two workers on two cores: with a thread each they do not wait for one another.
test-unit test-notebooks: export OMP_NUM_THREADS = 1
test-unit test-notebooks: export TF_NUM_INTRAOP_THREADS = 1
test-unit test-notebooks: export TF_NUM_INTEROP_THREADS = 1

# Whatever the shell exports: an empty KD_HOME is a fresh folder that goes again (notebooks/conftest.py).
test-notebooks: export KD_SCALE = smoke
test-notebooks: export KD_DATA = signs
test-notebooks: export KD_MOBILENET = signs
test-notebooks: export KD_HOME =

test-unit: $(READY)  ## unit tests alone
	$(BIN)/python -m pytest $(TWO) tests

test-notebooks: $(READY)  ## every notebook and solution at smoke scale, under nbval
	$(BIN)/python -m pytest $(TWO) --nbval-lax notebooks

test-jax: $(READY)  ## losses and Distiller on the JAX backend, on one and on two CPU devices
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "jax>=0.6,<1"
	KERAS_BACKEND=jax XLA_FLAGS=--xla_force_host_platform_device_count=2 $(BIN)/python -m pytest tests/test_jax.py

test-server: $(READY)  ## 10,000 requests, 10,000 malformed ones, and the page in Chromium, if there is one
	$(BIN)/python -m pytest tests/server

test-install:  ## the package as a server has it: pip install .[serve] into build/serve, no TensorFlow
	rm -rf build/serve
	$(PYTHON) -m venv build/serve
	build/serve/$(notdir $(BIN))/python -m pip install --quiet --disable-pip-version-check ".[serve]"
	cd build/serve && $(notdir $(BIN))/python ../../tests/server/alone.py

bench: $(READY)  ## measure speed; writes figures/bench.json
	@$(BIN)/python -m tests.benchmarks

data: $(READY)  ## prepare a data set and print its counts (DATA=gtsrb)
	@$(RUN) data "$(DATA)"

train: $(READY)  ## train the teacher, then students alone and distilled, one for each seed (DATA, SCALE)
	@$(RUN) evaluate teacher $(CHOICE)
	@$(RUN) evaluate student $(CHOICE)
	@$(RUN) evaluate distilled $(CHOICE)

results: $(READY)  ## print the results table (DATA, SCALE)
	@$(RUN) results $(CHOICE)

predict: $(READY)  ## name the signs in pictures (PICTURES="a.png folder")
	@$(RUN) predict $(PICTURES)

serve: $(READY)  ## answer over HTTP, with a page to drop pictures on (PORT=8000)
	@$(RUN) serve --port $(or $(PORT),8000)

lint: $(READY)  ## check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove pages and caches; trained models and data under KD_HOME stay
	rm -rf build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

# Lethe: measure what fine-tuning makes a language model forget.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n auto --dist loadfile --no-loadscope-reorder
# Every option of harness/plan/plan.py (a test holds this list to it), and PLAN: DATA=finance.json becomes --data 'finance.json'
OPTIONS := PLAN DATA TEST MODEL GENERAL RECIPES MEASURED SUITES DOMAIN_METRIC CONTAMINATION RULES ANSWER_FORMAT LIMIT BACKEND BUDGET \
	METER SEEDS TUNE TUNE_RULE TUNE_POINTS NAME LEARNING_RATE MODE TEMPLATE PROMPT_LOSS PACK_LENGTH GRADIENT_CHECKPOINTING \
	KERNELS COMPILE PROBE FINAL_ONLY BATCH_SIZE \
	MAX_LENGTH MICRO_TOKENS WARMUP DECAY OPTIMIZER WEIGHT_DECAY CLIP PRECISION SCORING DEVICE GPUS_PER_RUN GPU DEVICES DEEPSPEED THREADS \
	WORKERS RAY CHECKPOINTS REQUIRE CHECKPOINT_EVERY KEEP OUT REPORT_TO TENSORBOARD
# Those of `lethe measure`, which trains nothing (a test holds this list to it)
MEASURING := PLAN DATA TEST GENERAL CONTAMINATION RULES ANSWER_FORMAT MODE MAX_LENGTH SUITES DOMAIN_METRIC LIMIT BACKEND \
	SCORING DEVICE DEVICES THREADS WORKERS RAY NAME OUT REQUIRE JUNIT
# Some systems (WSL) set NAME to the machine's: only `make compare NAME=...` names a comparison
ifeq ($(origin NAME),environment)
NAME :=
endif
quoted = '$(subst ','\'',$(1))'
flag = $(shell echo $(1) | tr A-Z_ a-z-)
FLAGS = $(foreach o,$(OPTIONS),$(if $($(o)),--$(call flag,$(o)) $(call quoted,$($(o)))))

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

compare: $(VENV)/ready  ## run a comparison: make compare DATA=finance.json [MODEL=... RECIPES=... BUDGET=3epochs ...]
	@$(BIN)/lethe compare $(FLAGS)

measure: $(VENV)/ready  ## measure what others tuned: make measure BASE=model TUNED="name=folder ..." [TEST=... SUITES=... GATE=1]
	@$(BIN)/lethe measure $(call quoted,$(BASE)) $(TUNED) $(foreach o,$(MEASURING),$(if $($(o)),--$(call flag,$(o)) $(call quoted,$($(o))))) $(if $(GATE),--gate)

plan: $(VENV)/ready  ## print what compare would run and what it would cost
	@$(BIN)/lethe plan $(FLAGS)

report: $(VENV)/ready  ## rebuild a report from stored runs: make report NAME=finance
	@$(BIN)/lethe report $(call quoted,$(NAME)) $(if $(OUT),--out $(call quoted,$(OUT)))

check: $(VENV)/ready  ## the gate for CI: is anything worse than the accepted baseline? make check [PLAN=... ONLY=... ACCEPT=1]
	@$(BIN)/lethe check $(if $(PLAN),$(call quoted,$(PLAN))) $(foreach o,ONLY JUNIT OUT,$(if $($(o)),--$(call flag,$(o)) $(call quoted,$($(o))))) $(if $(ACCEPT),--accept)

diff: $(VENV)/ready  ## compare two runs of lm-eval, document by document: make diff A=run1 B=run2 [TO=folder]
	@$(BIN)/lethe diff $(call quoted,$(A)) $(call quoted,$(B)) $(if $(TO),--to $(call quoted,$(TO)))

docs: $(VENV)/ready  ## rebuild docs/methods.md, formats.md and options.md and lethe/api.py from the code
	$(BIN)/python -m harness.recipes.methods_page
	$(BIN)/python -m harness.files.formats_page
	$(BIN)/python -m harness.plan.options_page
	$(BIN)/python -m harness.plan.python_api

docs-site: $(VENV)/ready-docs  ## build the documentation into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir build/site

test: $(VENV)/ready-dev  ## the fast tests
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/ready-all  ## the slow tests: whole comparisons, kills, a browser
	$(PYTEST) -m slow

test-all: $(VENV)/ready-all  ## both: at once they end sooner than one after the other
	$(PYTEST)

lint: $(VENV)/ready-all  ## ruff and pyright (they read what imports of DeepSpeed and Ray mean)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(VENV)/ready-dev  ## training speed beside TRL's SFTTrainer, and NLIRG beside SFT
	$(BIN)/pip install -q -c constraints.txt trl
	$(BIN)/python -m tests.bench.training

bench-gpu: $(VENV)/ready-dev  ## training speed, share of the peak and memory on a GPU, beside TRL: docs/gpu.md
	$(BIN)/pip install -q -c constraints.txt trl
	$(BIN)/python -m tests.bench.gpu

bench-eval: $(VENV)/ready-dev  ## evaluation speed beside lm_eval --model hf at its best batch size
	$(BIN)/python -m tests.bench.evaluating

phantom: $(VENV)/ready  ## rebuild the embedded world and base model from their seed (about 40 minutes)
	$(BIN)/python -m suites.phantom.build

calibrate: $(VENV)/ready  ## measure whether the instrument reads true on the phantom (at most an hour)
	$(BIN)/python -m suites.phantom.calibrate

REAL := examples/finance-smollm2
real: $(VENV)/ready  ## the comparison on a real model, SmolLM2-135M-Instruct: an hour and a half on one core, and it goes on where it was
ifeq ($(MODEL),)
	$(BIN)/pip install -q -c constraints.txt gguf
	$(BIN)/python $(REAL)/model.py build/smollm2-135m
endif
	@$(BIN)/lethe compare --plan $(REAL)/plan.toml $(FLAGS)

claims: $(VENV)/ready-dev  ## measure what others claim of the methods: docs/claims.md (an hour; FILES=plan.toml adds real files)
	$(BIN)/python -m tests.bench.claims $(if $(FILES),--files '$(FILES)')

clean:  ## remove the virtual environment and caches; results stay
	rm -rf $(VENV) .pytest_cache .ruff_cache build *.egg-info

$(VENV)/ready: pyproject.toml constraints.txt install.sh
	@$(SHELL) install.sh '$(PYTHON)' '$(VENV)'
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	@$(SHELL) install.sh '$(PYTHON)' '$(VENV)' dev
	@touch $@

$(VENV)/ready-all: $(VENV)/ready-dev
	@$(SHELL) install.sh '$(PYTHON)' '$(VENV)' dev cluster notebook browser
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready
	@$(SHELL) install.sh '$(PYTHON)' '$(VENV)' docs
	@touch $@

.PHONY: help compare measure plan report check diff docs test test-slow test-all lint bench bench-gpu bench-eval phantom calibrate real claims clean docs-site

# Everything that is done often, each from a fresh clone: `make tune`, `make test`. `make help` lists the rest.
PYTHON ?= python3
# auto: a torch that $(PYTHON) sees is kept and used (ROCm containers); 0: the environment gets a torch of its own.
SYSTEM_SITE ?= auto
VENV ?= .venv
CONFIG ?= configs/cpu.yaml
OUT ?= runs/$(basename $(notdir $(CONFIG)))
PYTEST_ARGS ?=
# Test processes. Many tests wait for a third of their time: three keep two cores busy (355 s, four take 400).
JOBS ?= 3
CASES ?= 100000

BIN := $(VENV)/bin
TUNE_READY := $(VENV)/.ready-tune
DEV_READY := $(VENV)/.ready-dev
ENGINES := $(VENV)/engines
ENGINES_READY := $(VENV)/.ready-engines
LINKS := build/typing/ccl_dispatch
REQUIRED := pyproject.toml requirements/constraints.txt requirements/environment.py

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
export PIP_NO_INPUT := 1
export SYSTEM_SITE
# Only the installed package is meant, never a folder that happens to be on somebody's path.
unexport PYTHONPATH
# Where Python keeps no bytecode every process compiles all modules anew: a third more for each that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help tune test engines test-engines fuzz storm docs lint ruff types pytest check-tables format generated dev clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Variables: PYTHON=$(PYTHON)  SYSTEM_SITE=$(SYSTEM_SITE)  VENV=$(VENV)  JOBS=$(JOBS)  CONFIG=$(CONFIG)  OUT=$(OUT)  PYTEST_ARGS="

tune: $(TUNE_READY) ## measure this machine, write a table, show it and some lookups
	$(BIN)/ccl-dispatch sweep $(CONFIG) --out $(OUT)/table.yaml
	$(BIN)/ccl-dispatch show $(OUT)/table.yaml
	@echo "== a small call, one in the middle, one out of the measured range"
	$(BIN)/ccl-dispatch explain $(OUT)/table.yaml --shape 1,64 --dtype float32 --world-size 2 --mode eager
	$(BIN)/ccl-dispatch explain $(OUT)/table.yaml --shape 4,32320 --dtype bfloat16 --world-size 4 --mode eager
	$(BIN)/ccl-dispatch explain $(OUT)/table.yaml --shape 8192,8192 --dtype bfloat16 --world-size 4 --mode eager
	@echo "== next, to see the curves: $(BIN)/ccl-dispatch report --storage $(OUT)/study.journal --out report.html"

test: lint pytest ## set up, then lint, types and tests

engines: $(ENGINES_READY) ## fetch what test-engines needs

test-engines: $(DEV_READY) $(ENGINES_READY) ## the plugins against the engines' own modules, which are fetched (0.6 GB)
	CCL_DISPATCH_ENGINES=$(abspath $(ENGINES)) $(BIN)/python -m pytest -n $(JOBS) tests/engines $(PYTEST_ARGS)

storm: $(DEV_READY) ## faults, kills and interruptions by the dozen, where `make test` has a few of each; a quarter of an hour
	CCL_DISPATCH_STORM=1 $(BIN)/python -m pytest -m storm -s -n 0 -o faulthandler_timeout=0 $(PYTEST_ARGS)

fuzz: $(DEV_READY) ## 100,000 mutated tables; CASES=1000 for fewer
	$(BIN)/python tests/support/mutations.py $(CASES)

docs: $(DEV_READY) ## the site of docs/ in build/docs; a broken link is an error
	$(BIN)/python -m sphinx --quiet --builder html --fail-on-warning --keep-going docs build/docs
	@echo "build/docs/index.html"

lint: ruff types check-tables ## ruff's rules, ruff's format, types, the shipped tables

ruff: $(DEV_READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(DEV_READY) $(LINKS) ## mypy --strict
	$(BIN)/python -m mypy $(LINKS) $(wildcard tests benchmarks docs/conf.py)

pytest: $(DEV_READY) ## the tests alone; PYTEST_ARGS="-k name" chooses
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

format: $(DEV_READY) ## write ruff's format and its safe mends
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

check-tables: $(DEV_READY) ## are the tables in tables/ valid, canonical, measured and with evidence
	$(BIN)/ccl-dispatch validate --shipped $(wildcard tables/*.yaml tables/examples/*.yaml)

generated: $(DEV_READY) ## write again what is made from the code: the formats of tables, configs and events, all commands
	@mkdir -p build/generated
	$(BIN)/ccl-dispatch schema > build/generated/table-v1.schema.json
	$(BIN)/ccl-dispatch schema --page > build/generated/table-format.md
	$(BIN)/ccl-dispatch schema --of config > build/generated/config.schema.json
	$(BIN)/ccl-dispatch schema --of config --page > build/generated/config-format.md
	$(BIN)/ccl-dispatch schema --of commands --page > build/generated/commands.md
	$(BIN)/ccl-dispatch schema --of events > build/generated/events.schema.json
	$(BIN)/ccl-dispatch schema --of events --page > build/generated/events.md
	@cp build/generated/* docs/

dev: $(DEV_READY) ## the environment for developing, in $(VENV)

clean: ## remove what is built and cached; the environment and runs/ stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## and the environment
	rm -rf $(VENV)

$(TUNE_READY): $(REQUIRED)
	@$(PYTHON) requirements/environment.py $(VENV) tune
	@touch $@

$(DEV_READY): $(REQUIRED) requirements/dev.txt
	@$(PYTHON) requirements/environment.py $(VENV) dev
	@touch $@ $(TUNE_READY)

$(ENGINES_READY): $(DEV_READY) requirements/engines.py requirements/engines.txt
	@$(BIN)/python requirements/engines.py $(BIN)/python $(ENGINES)
	@touch $@

# The packages under their import names, for tools that do not know setuptools' package-dir.
$(LINKS): Makefile
	@mkdir -p $@
	@for name in configs runtime tables tuner; do ln -sfn ../../../$$name $@/$$name; done
	@touch $@

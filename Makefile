# The commands of the project; `make help` lists them. Everything lives in .venv and build/, both ignored by git.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PY := $(BIN)/python
CC ?= cc
RUNS ?= 30
SEED ?= 1
FLOW ?= w1
FUZZ_SECONDS ?= 45
MINUTES ?= 30
BENCH_MINUTES ?= 10
UNIT ?= all
EXAMPLES ?= 100000
SEEDS ?= 200
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
MODE ?= kernel
# a compiler that appears later makes another stamp, so the C library is then built
CORE := $(if $(shell command -v $(CC) 2>/dev/null),c,python)
C_FILES := $(filter-out %/_reader.c,$(wildcard libcore/src/*.[ch] libcore/include/libcore/*.h connectors/kafka/*.[ch] connectors/postgres/*.[ch]))
C_BUILDERS := libcore/build_ffi.py $(wildcard connectors/*/build_reader.py)
INSTALLED := .venv/.installed
BUILT := .venv/.built-$(CORE)
C_WARNINGS := -std=c11 -Wall -Wextra -Werror -Wno-unused-parameter -fsyntax-only -Ilibcore/include -Ilibcore/src

.PHONY: help build demo test check sanitize fuzz fuzz-guided coverage valgrind examples simulate bench crash soak golden clean

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

build: $(BUILT) ## environment in .venv and the C library

demo: build ## real changes from a broker and from a live ERP into a real PostgreSQL, then the proof; Ctrl-C and again resumes
	@$(BIN)/headrace demo

test: build ## all tests, real PostgreSQL and broker included
	@$(PY) -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: build ## ruff, mypy, layers, generated files, C warnings as errors
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@if command -v $(CC) >/dev/null; then for file in libcore/src/*.c; do $(CC) $(C_WARNINGS) $$file; done; fi
	@$(PY) -m pytest -q tests/habits

sanitize: build ## libcore's tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(PY) -m tests.libcore.c.sanitize

fuzz: build ## hostile bytes into every decoder, about a minute in all
	@$(PY) -m tests.libcore.c.fuzz --seconds $(FUZZ_SECONDS)

fuzz-guided: build ## coverage-guided fuzzing, UNIT=envelope MINUTES=30 (clang with libFuzzer)
	@$(PY) -m tests.libcore.c.guided $(UNIT) --minutes $(MINUTES) --keep --record

coverage: build ## lines and branches of the C sources that the tests reach
	@$(PY) -m tests.libcore.c.coverage --python

valgrind: build ## the C tests and fuzz corpora under valgrind
	@$(PY) -m tests.libcore.c.memcheck

examples: build ## EXAMPLES=100000 of each property that holds C equal to its reference, of UNIT=compact or of all
	@$(PY) -m tests.libcore.examples $(UNIT) --examples $(EXAMPLES) --jobs $(JOBS) --record

simulate: build ## SEEDS=200 seeded runs of joins and windows with kills, against SQL; SEED=7 replays one (MODE=kernel)
	@$(PY) -m tests.simulate --jobs $(JOBS) --mode $(MODE) $(if $(filter undefined default file,$(origin SEED)),--seeds $(SEEDS),--seed $(SEED))

bench: build ## every measure, side by side with its peer, and a table at the end
	@$(PY) -m bench.run --all --minutes $(BENCH_MINUTES)

crash: build ## RUNS=30 runs with kill -9 at random moments, each compared with the truth (SEED=1, FLOW=w1, w2, postgres, sqlserver, oracle, sap_odata, sap_rfc or sap_idoc, ITEMS=rows)
	@$(PY) -m bench.crash --runs $(RUNS) --seed $(SEED) --flow $(FLOW) $(if $(ITEMS),--items $(ITEMS))

soak: build ## 20 million events through a small spool into a slow target
	@$(PY) -m bench.run soak

golden: build ## write the golden files anew; read the diff like code
	@HEADRACE_GOLDEN=write $(PY) -m pytest -q tests/habits tests/libcore

clean: ## remove what make made
	@rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f libcore/_c.* connectors/*/_reader.*

$(PY):
	@found=""; \
	for name in $(PYTHON) python3.12 python3.11 python3; do \
	  if "$$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then found="$$name"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: expected Python 3.11 or 3.12 on the PATH (bytewax 0.21.1 has no wheels for others), found: $$(python3 --version 2>&1)." >&2; \
	  echo "      Install one of them, or name it: make build PYTHON=/path/to/python3.12" >&2; \
	  exit 2; \
	fi; \
	"$$found" -m venv .venv

$(INSTALLED): requirements.lock pyproject.toml setup.py | $(PY)
	@$(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "make: .venv holds another Python than 3.11 or 3.12; run make clean first" >&2; exit 2; }
	@$(PY) -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@HEADRACE_BUILD_C=0 $(PY) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@touch $@

.venv/.built-c: $(INSTALLED) $(C_FILES) $(C_BUILDERS)
	@$(PY) -W ignore -m libcore.build_ffi
	@for builder in $(subst /,.,$(basename $(filter connectors/%,$(C_BUILDERS)))); do $(PY) -W ignore -m $$builder; done
	@touch $@

.venv/.built-python: $(INSTALLED)
	@echo "make: no C compiler ($(CC)): libcore runs on its Python reference. The answers are the same;"
	@echo "      decoding is about 400 times slower."
	@touch $@

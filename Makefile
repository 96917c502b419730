# kubelite: `make help` lists what there is.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help up test check bench proto images clients install upgrade clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(VENV)/.ready ## installs what is missing and runs a cluster here (ARGS="--nodes 100 --runtime fake")
	@scripts/up $(BIN) $(ARGS)

test: $(VENV)/.dev install images clients ## runs the whole test suite (ARGS="-k scheduler")
	@$(BIN)/pytest $(ARGS)

check: $(VENV)/.dev ## ruff, mypy, import-linter and the freshness of generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@scripts/proto --check

bench: $(VENV)/.dev ## our figures beside the budgets (ARGS="--only api,start")
	@$(BIN)/python -m tests.bench $(ARGS)

proto: $(VENV)/.dev ## generates kubelite/rpc and runtimes/rpc from proto/
	@scripts/proto

images: $(VENV)/.ready ## builds the pause image and the example's image from Debian's busybox-static
	@$(BIN)/python scripts/images.py --output .cache/images

clients: $(VENV)/.ready ## unmodified kubectl and helm for the tests, into .cache/bin
	@$(BIN)/python scripts/clients.py --output .cache/bin

install: ## Debian packages that a node needs: containerd, runc, CNI plugins, nftables (as root)
	@scripts/install

upgrade: ## takes the newest versions of all dependencies and writes them down
	@scripts/upgrade

clean: ## removes the virtual environment and the caches of this checkout
	rm -rf $(VENV) .cache build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.ready: pyproject.toml scripts/venv scripts/constraints.txt
	@scripts/venv $(VENV)

$(VENV)/.dev: pyproject.toml scripts/venv scripts/constraints.txt
	@scripts/venv $(VENV) dev

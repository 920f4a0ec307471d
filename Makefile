# Needs make, a POSIX shell and Python >= 3.11; everything else comes hashed from requirements/.
.DEFAULT_GOAL := help
.PHONY: help env demo test check long fuzz bench peers sizes proto lock clean
PY := .venv/bin/python
# Environments hold no bytecode. What is run from here is compiled once and kept aside; without that
# each of the many processes that the tests start would compile a hundred modules anew.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.pycache
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

env: ## make .venv with everything from requirements/dev.txt (quick when nothing changed)
	@sh requirements/install.sh dev .venv

demo: env ## the flights example: from the table to a served, logged prediction
	@$(PY) -m examples.flights.demo

test: env ## the whole suite: unit, contract, walk and end-to-end tests
	@$(PY) -m pytest -n auto --dist loadfile

check: env ## lint, formatting, types, import contracts and the fast tests
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@$(PY) -m mypy
	@.venv/bin/lint-imports
	@$(PY) -m pytest tests/unit src

long: env ## soak and kill tests; minutes each
	@$(PY) -m pytest -m long --timeout 3600

fuzz: env ## ten minutes of mutated requests on every route (FUZZ_SECONDS, FUZZ_SEED)
	@$(PY) -m pytest -m long -s --timeout 3600 tests/fuzz/test_servers.py

bench: ## every benchmark beside its rival, in an environment of its own
	@sh requirements/install.sh bench .venv-bench
	@.venv-bench/bin/python -m bench.parity
	@.venv-bench/bin/python -m bench.run
	@.venv-bench/bin/python bench/predictions.py
	@.venv-bench/bin/python bench/serve.py
	@.venv-bench/bin/python bench/serve_grpc.py
	@.venv-bench/bin/python bench/client.py

# pytriton runs Python inside Triton, by the shared library of the one that Debian has.
peers: ## the server beside the whole field of model servers, each in an environment of its own
	@sh requirements/install.sh bench .venv-bench
	@for name in bentoml litserve mlflow mlserver pytriton ray; do \
		sh requirements/install.sh peers/$$name .venv-peers/$$name || echo "$$name: left out"; \
	done
	@.venv-bench/bin/python bench/serve.py --peers all --rounds 3 --seconds 2

sizes: ## megabytes of the base and of the training environment, package by package
	@for name in base train; do \
		sh requirements/install.sh $$name .venv-$$name && \
		echo "$$name:" && .venv-$$name/bin/python requirements/sizes.py || exit 1; \
	done

proto: env ## compile the description of the gRPC messages that is checked in
	@$(PY) -m grpc_tools.protoc -I src/steelyard/serve/grpc inference.proto \
		--descriptor_set_out=src/steelyard/serve/grpc/inference.binpb

lock: ## resolve pyproject.toml anew into requirements/*.txt
	@sh requirements/install.sh lock .venv-lock
	@sh requirements/lock.sh

clean: ## remove the environments and every cache
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .pycache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target goes through engine.bootstrap, so a fresh clone needs nothing but Python 3.11.
PYTHON ?= python3
BOOTSTRAP := $(PYTHON) -m engine.bootstrap
UV := .venv/bin/uv
COMPILE := env -u PIP_FIND_LINKS -u UV_FIND_LINKS $(UV) pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header --extra examples

.PHONY: help install run test lint types format bench schema lock clean

help:
	@$(BOOTSTRAP) --help
	@echo; echo "make: install run test lint types format bench schema lock clean (ARGS='…' is passed on)"

install:
	$(BOOTSTRAP) install --dev

run:
	$(BOOTSTRAP) run pipeline=flights $(ARGS)

test:
	$(BOOTSTRAP) test $(ARGS)

lint:
	$(BOOTSTRAP) lint

types: install
	.venv/bin/mypy $(ARGS)

format: install
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

bench: install
	.venv/bin/python benchmarks/run.py $(ARGS)
	.venv/bin/python benchmarks/nodes.py $(ARGS)

schema: install
	.venv/bin/engine schema write

# The newest versions that pyproject.toml admits; the development lock contains the other, version by version.
lock:
	@test -x $(UV) || $(BOOTSTRAP) install --dev
	@$(COMPILE) --upgrade pyproject.toml -o .requirements.tmp > /dev/null
	@$(COMPILE) --upgrade --extra dev -c .requirements.tmp pyproject.toml -o .requirements-dev.tmp > /dev/null
	@for half in "requirements What 'engine run' needs, with the data of the shipped pipeline." \
			"requirements-dev What the tests and linters need too: it contains requirements.lock."; do \
		name=$${half%% *}; \
		{ echo "# $${half#* }"; \
		  echo "# Every package of pyproject.toml at one version, each file by its hash. Write it anew with 'make lock'."; \
		  cat .$$name.tmp; } > $$name.lock && rm .$$name.tmp || exit 1; \
	done

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up, start, tests: every command of the README.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

.PHONY: run test test-all check chaos fuzz bench soak format lock clean setup

run: setup  ## Set up, then start Finstage in the foreground.
	@exec $(BIN)/finstage up

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Finstage needs Python 3.11 to 3.13: make PYTHON=python3.12 run"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv is missing: apt install python3-venv"; exit 2; }
	@echo "setting up $(VENV), once: a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@$(BIN)/python -m actors.indicators.live.warm
	@rm -f $(VENV)/.installed-* && touch $@

test: check  ## Everything: checks, then all four kinds of tests.
	@tests/run

check: setup  ## Format, lint, types, layers.
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/pytest --quiet tests/unit/test_layers.py

test-all: test  ## The tests, and three minutes each of chaos and of fuzz.
	@$(BIN)/python -m tests.chaos --minutes 3
	@$(BIN)/python -m tests.fuzz --minutes 3

chaos: setup  ## Kill processes at random, count what is lost; MINUTES=10 SEED=. Writes docs/bench/chaos.md.
	@$(BIN)/python -m tests.chaos --page --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

fuzz: setup  ## Send what makes no sense, look for what breaks; MINUTES=10 SEED=. Writes docs/bench/chaos.md.
	@$(BIN)/python -m tests.fuzz --page --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

bench: setup  ## Each claim beside its peer; results in docs/bench.
	@$(BIN)/python -m benchmarks

soak: setup  ## An hour of everything, and whether memory stays flat; MINUTES=60.
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),60)

format: setup
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format .

lock:  ## Pin every dependency anew.
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev --extra ml pyproject.toml \
	  --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf $(VENV) build *.egg-info

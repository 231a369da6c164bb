# `make demo` and `make test` do all set-up themselves; they need Python 3.11 or newer and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLDEST := $(VENV)/oldest/.ready

.PHONY: demo test check crash day format bench bench-against bench-peers bench-postgres bench-history bench-prune bench-triggers bench-overlap bench-cancel serve lock schema docs clean

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pullcord needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	touch $(READY)

# What a location with an interpreter of its own may have at least; tests run workers on it.
$(OLDEST): tests/oldest.lock $(READY)
	$(BIN)/python -m venv $(VENV)/oldest
	$(VENV)/oldest/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/oldest.lock
	touch $(OLDEST)

demo: $(READY)  ## run the main example to its end, with a worker killed on the way
	$(BIN)/python demo/demo.py

check: $(READY)  ## types, style, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A test that kills its process, or hangs, ends the run: where tests went on, pytest-xdist could wait for ever at the end.
test: check $(OLDEST)  ## everything
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --max-worker-restart=0

KILLS ?= 1000
STORE ?= sqlite
crash: $(READY)  ## kill processes a thousand times under load, and look whether anything was lost
	$(BIN)/python -m tests.crash --kills $(KILLS) --store $(STORE)

HOURS ?= 24
day: $(READY)  ## a simulated day of everything at once, with kills, and look whether anything was lost
	$(BIN)/python -m tests.day --hours $(HOURS) --store $(STORE)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Pullcord's own figures
	$(BIN)/python -m bench

REVISION ?= HEAD~1
bench-against: $(READY)  ## the same of this tree and of another revision, in turns
	$(BIN)/python -m bench.against $(REVISION)

bench-peers: $(READY)  ## the same beside DBOS and Prefect
	$(BIN)/python -m bench --json bench/results/pullcord.json
	$(BIN)/python -m bench.peers --pullcord bench/results/pullcord.json

bench-postgres: $(READY)  ## Pullcord's figures over PostgreSQL
	$(BIN)/python -m bench.postgres

bench-history: $(READY)  ## what a million runs behind it cost a server
	$(BIN)/python -m bench.history

bench-prune: $(READY)  ## a million runs are pruned while others arrive
	$(BIN)/python -m bench.pruning

bench-triggers: $(READY)  ## schedules and events at size
	$(BIN)/python -m bench.triggers --json bench/results/triggers.json

bench-overlap: $(READY)  ## a long queue under a thousand limits
	$(BIN)/python -m bench.overlap

bench-cancel: $(READY)  ## how soon a cancelled run is cancelled
	$(BIN)/python -m bench.cancelling --json bench/results/cancelling.json

serve: $(READY)  ## serve the examples
	$(BIN)/pullcord serve examples

schema: $(READY)  ## rewrite the schema snapshot and the generated reference from the code
	$(BIN)/python docs/generate.py

lock: $(READY)  ## pin all dependencies anew
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev \
		--no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		tests/oldest.in -o tests/oldest.lock

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# make demo | test | lint | lock | parity: each sets up .venv by itself when it is missing or stale.
PYTHON ?= python3
VENV := .venv
DATA ?= ../shared/data
READY := $(VENV)/.ready

.PHONY: setup demo test slow parity lint lock clean

setup: $(READY)

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@echo "baton: installing the locked packages into $(VENV) (about 3 GB, some minutes the first time)"
	@$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 13); sys.exit(None if ok else "baton: Python 3.11 or 3.12 is needed, $(PYTHON) is " + sys.version.split()[0] + "; try: make PYTHON=python3.11 setup")'
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --no-deps -r requirements.txt -r requirements-dev.txt
	@$(VENV)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $(READY)
	@echo "baton: ready; the command is $(VENV)/bin/baton"

demo: $(READY)
	@echo "baton: the demo trains four small models on the built-in corpus"
	@$(VENV)/bin/baton demo

test: $(READY)
	@echo "baton: running the test suite"
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile -m "not slow"

parity: $(READY)
	@echo "baton: installing torch, with which the test suite also compares with transformers"
	@$(VENV)/bin/python -m pip install --quiet --no-deps -r requirements-parity.txt

slow: $(READY)
	@$(VENV)/bin/python -m pytest -m slow

lint: $(READY)
	@echo "baton: ruff and pyright"
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright --level error

lock: $(READY)
	@$(VENV)/bin/uv pip compile --quiet requirements.in --override requirements-overrides.txt --universal \
	  --python-version 3.11 --no-header --no-annotate -o requirements.lock
	@grep -v -E '^(seqio|tfds)-nightly' requirements.lock > requirements.txt && rm requirements.lock
	@$(VENV)/bin/uv pip compile --quiet requirements-dev.in --universal --python-version 3.11 \
	  --no-header --no-annotate -o requirements-dev.txt
	@echo "baton: requirements.txt and requirements-dev.txt are locked anew"

# reproduce-soltan2023, reproduce-metro, reproduce-reuse: some hours each, and they resume; the pages are in docs/results.
reproduce-%: docs/results/%.py $(READY)
	@$(VENV)/bin/python $< run --data $(DATA) --workdir runs/$* --jobs 2

clean:
	rm -rf $(VENV)

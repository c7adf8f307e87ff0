# make run   sets up what is missing and serves the app
# make test  sets up what is missing, browser included, and runs every test
# make lint  checks style and format
# make test-newest   runs every test with the newest versions that the requirements allow, in an environment of its own
# make constraints   makes those the versions that everybody gets: run the tests with them first

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PINS := -c constraints.txt
NEWEST := VENV=.venv-newest PINS=

.PHONY: run test lint test-newest constraints setup setup-dev browser

run: setup
	$(BIN)/python app.py

# One thread for each process that a test starts, or they would wait for one another. Files in one piece, since starting a
# page takes seconds, and in their order, since the browser's come first and take longest.
test: setup-dev browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-newest:
	rm -rf .venv-newest
	$(MAKE) test $(NEWEST)

# By the oldest Python that the app runs on, since a newer one takes versions that the oldest cannot have. PyTorch's
# packages for Linux alone stay in: where nobody asks for a package, its constraint does nothing.
constraints:
	rm -rf .venv-newest
	$(MAKE) setup-dev $(NEWEST) PYTHON=python3.11
	.venv-newest/bin/pip freeze --all --exclude pip > constraints.txt

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# Debian splits venv from Python, and without it leaves half an environment behind.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install python3-venv (apt-get install python3-venv)." >&2; exit 1; }

$(VENV)/.installed: requirements.txt constraints.txt | $(BIN)/python
	$(BIN)/pip install --quiet --upgrade $(PINS) -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/pip install --quiet $(PINS) -r requirements-dev.txt
	touch $@

# Debian's Chromium where there is one or can be one, and Playwright's own elsewhere.
browser: setup-dev
	@$(BIN)/python tests/browser/find_chromium.py || sh tests/browser/install_chromium.sh $(BIN)

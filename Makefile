# make run   sets up what is missing and serves the app
# make test  sets up what is missing, browser included, and runs every test
# make lint  checks style and format

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint setup setup-dev browser

run: setup
	$(BIN)/python app.py

# One thread for each process that a test starts, or they would wait for one another. Files in one piece, since starting a
# page takes seconds, and in their order, since the browser's come first and take longest.
test: setup-dev browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

setup: $(VENV)/.installed
setup-dev: $(VENV)/.installed-dev

# Debian splits venv from Python, and without it leaves half an environment behind.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Install python3-venv (apt-get install python3-venv)." >&2; exit 1; }

$(VENV)/.installed: requirements.txt | $(BIN)/python
	$(BIN)/pip install --quiet --upgrade -r requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/pip install --quiet -r requirements-dev.txt
	touch $@

# Debian's Chromium where there is one or can be one, and Playwright's own elsewhere.
browser: setup-dev
	@$(BIN)/python tests/browser/find_chromium.py || sh tests/browser/install_chromium.sh $(BIN)

# Two commands do everything on a machine with Python (3.11 or newer) and make:
#   make demo    a network from the exported library reads real handwritten digits
#   make test    the whole suite
# Both set up .venv first; it is made again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: setup demo test journey book book-test lint export clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"TinyTorch needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Try: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(STAMP)

demo: setup
	$(BIN)/tito milestone run 03

# two processes on two cores: one thread each for their products
test: export OPENBLAS_NUM_THREADS := 1
test: export OMP_NUM_THREADS := 1
test: setup
	$(BIN)/python -m pytest -n 2 --dist worksteal -p no:logging

# every lesson, from the wheel, as a learner does it: minutes
journey: export TINYTORCH_JOURNEY := all
journey: export OPENBLAS_NUM_THREADS := 1
journey: setup
	$(BIN)/python -m pytest tests/tito/test_journey.py tests/tito/test_nbgrader.py

# the book, into book/_build/html: the first time every lesson is run, later those that changed
# (Sphinx would not warn again of a page it has read: after a warning it reads all of them)
book: $(VENV)/installed-book
	$(BIN)/python -m sphinx -b html -d book/_build/doctrees -W --keep-going book book/_build/html \
		|| { rm -rf book/_build/doctrees; exit 1; }

# every page, written anew, in a headless Chromium, which must be there: narrow and wide, links, search, light and dark
book-test:
	rm -rf book/_build/html
	$(MAKE) book
	TINYTORCH_BOOK=1 $(BIN)/python -m pytest tests/book

$(VENV)/installed-book: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,book]'
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

export: setup
	$(BIN)/tito export

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis book/_build book/lessons book/api/generated

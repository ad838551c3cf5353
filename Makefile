# make demo    install, run the main sweep on real digits, write its report
# make test    install, pass every test
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: setup demo test lint bench clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo 'merge-sweep needs Python 3.11 to 3.13; say which: make setup PYTHON=python3.12'; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(STAMP)

demo: setup
	$(BIN)/sweep run configs/digits.yaml
	$(BIN)/analysis report runs/digits
	@echo
	@echo 'the report:       runs/digits/report.html'
	@echo 'the runs:         $(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/runs/mlflow.db'
	@echo 'the tables:       $(BIN)/sweep sql runs/digits "select method, avg(accuracy) from candidates group by 1"'

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/training.py

clean:
	rm -rf .venv build *.egg-info

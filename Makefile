# make demo    install, run the main sweep on real digits, write its report
# make test    install, pass every test, those that kill processes last
# make soak    a hundred rounds of kills (ROUNDS=, SEED=), and a hundred times as many hostile inputs: hours
# make archive the committed files and the commit as build/merge-sweep.tar.gz, for the nodes of a cluster
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := .venv/installed

.PHONY: setup demo test soak lint bench archive clean

PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder
ROUNDS ?= 100
SEED ?= 20

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo 'merge-sweep needs Python 3.11 to 3.13; say which: make setup PYTHON=python3.12'; exit 2; }
	$(PYTHON) -m venv .venv
	$(PIP) install --no-deps --no-compile -r requirements.lock  # complete: nothing to resolve; compiled when imported
	$(PIP) install --no-deps -e .
	$(PIP) check
	@touch $(STAMP)

demo: setup
	$(BIN)/sweep run configs/digits.yaml
	$(BIN)/analysis report runs/digits
	@echo
	@echo 'the report:       runs/digits/report.html'
	@echo 'the runs:         MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow ui --backend-store-uri sqlite:///$(CURDIR)/runs/mlflow.db'
	@echo 'the tables:       $(BIN)/sweep sql runs/digits "select method, avg(accuracy) from candidates group by 1"'

test: export PYTHONDONTWRITEBYTECODE =  # compile each source once, not in every process that a test starts
test: setup
	$(BIN)/python -m pytest $(PARALLEL)
	$(BIN)/python -m pytest $(PARALLEL) -m faults tests/faults

soak: setup
	ROUNDS=$(ROUNDS) SEED=$(SEED) $(BIN)/python -m pytest -m faults -rP tests/faults
	HOSTILE=100 $(BIN)/python -m pytest tests/config/test_hostile.py tests/storage/test_hostile_*.py tests/plugins/datasets/test_pictures.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@found=$$(PATH="$(BIN):$$PATH" pip-audit --requirement requirements.lock --disable-pip --no-deps 2>&1); case "$$?:$$found" in \
	  0:*) echo 'no known vulnerability in requirements.lock' ;; \
	  127:*) echo 'skipped: pip-audit is not installed, so requirements.lock was not checked for vulnerabilities' ;; \
	  *Found*vulnerabilit*) echo "$$found"; exit 1 ;; \
	  *) echo 'skipped: no data base of vulnerabilities can be reached, so requirements.lock was not checked' ;; esac

bench: setup
	$(BIN)/python -m benchmarks.runs.start_up
	$(BIN)/python -m benchmarks.evaluation.engine
	$(BIN)/python -m benchmarks.training.one_member

archive:
	@mkdir -p build
	git archive --format=tar.gz --prefix=merge-sweep/ --output=build/merge-sweep.tar.gz HEAD

clean:
	rm -rf .venv build *.egg-info

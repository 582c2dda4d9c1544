# The two commands of a newcomer: `make test` passes the tests, `make lint` checks the code.
# Each makes the virtual environment it needs; nothing is installed outside this folder but ActiveMQ, when it may.

PYTHON ?= python3
PYTEST_ARGS ?=
VENV := .venv
PEERS := .peers

.PHONY: test lint format manual bench broker clean

test: $(VENV)/installed $(PEERS)/installed broker wheel
	PYTHONSAFEPATH=1 ZOC_TEST_WHEEL=1 $(VENV)/bin/pytest $(PYTEST_ARGS)

lint: $(VENV)/lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/lint
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

manual: $(VENV)/installed wheel
	$(VENV)/bin/python -m zoctools.cli.manual man completions

broker:
	@sh deploy/install-activemq.sh

# The suite runs on what a user installs: the built wheel, rebuilt each time.
.PHONY: wheel
wheel: $(VENV)/installed
	@rm -rf build/wheel
	@$(VENV)/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	@$(VENV)/bin/pip install --quiet --no-deps --force-reinstall build/wheel/zoctools-*.whl

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt ".[images,test]"
	@touch $@

$(VENV)/lint: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt ".[lint]"
	@touch $@

# The published packages we must work beside, apart from ours: tests start them as child processes.
$(PEERS)/installed: deploy/install-peers.sh
	sh deploy/install-peers.sh $(PYTHON) $(PEERS)
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

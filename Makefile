# The commands a person types. None but `make test` touches the system, and that only as root.
RUN := runs/internet-outage
BIN := .venv/bin

.PHONY: help run test lint docs bench clean

help:
	@echo "make run    play the Internet outage in simulation, analyse it, print what each device did"
	@echo "make test   run all tests"
	@echo "make lint   check style and types"
	@echo "make docs   build the documentation into docs/_build/html"
	@echo "make bench  run the benchmarks"
	@echo "make clean  remove what these commands made"

run:
	@tools/setup.sh run
	$(BIN)/testbed run internet-outage --out $(RUN) --force
	$(BIN)/testbed analyse $(RUN)/capture.pcap --run $(RUN) --out $(RUN)/analysis --force

test:
	@tools/setup.sh test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint:
	@tools/setup.sh test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs:
	@tools/setup.sh test
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

bench:
	@tools/setup.sh test
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

clean:
	rm -rf .venv runs build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Everything runs in .venv, installed once with the tested versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint tables docs mutate gpu setup clean

demo: $(INSTALLED)
	$(BIN)/hdt distill co2 --out runs/demo --force
	$(BIN)/hdt evaluate runs/demo
	$(BIN)/hdt finetune runs/demo --base recipes/moirai/tiny --lr 0.001 --steps 200 --force
	@$(BIN)/hdt report runs/demo > /dev/null
	@echo "report: $(CURDIR)/runs/demo/report.html"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto  # one worker per core, notebooks included

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tables: $(INSTALLED)  # of the pages, from the errors in recipes/results
	$(BIN)/python recipes/tables.py

docs: $(INSTALLED)  # the site, into site/, without network; a broken link or a page that loads from elsewhere ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

mutate: $(INSTALLED)  # which edits of the maths no test notices; hours, but SAMPLE=400 for a few; goes on where it was
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[mutate]'
	OMP_NUM_THREADS=1 $(BIN)/python recipes/mutate.py $(SAMPLE)

gpu: $(INSTALLED)  # the tests that need a GPU, and a table of seconds beside the CPU; without one, the CPU's alone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m gpu -p no:nbmake -o addopts="-q --strict-markers -rs"
	$(BIN)/python recipes/gpu.py

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "hdt needs Python 3.10 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,docs,hub,moirai,neuralforecast,privacy,ray,search,view]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps uni2ts
	@touch $@

clean:
	rm -rf .venv runs dist site mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis

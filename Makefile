# make demo: from a fresh clone to a tuned model, its trace and a plot. make test: lint, types, tests.
PYTHON ?= python3
DEMO := demo-results

.PHONY: demo test slow clean

demo: .venv/ready
	.venv/bin/shine-run -m problem=logreg method=shine,cg,jf,grid runtime.results=$(DEMO)
	.venv/bin/shine-plot $(DEMO) --figure curves

test: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest

slow: .venv/ready
	.venv/bin/pytest -m slow

clean:
	rm -rf .venv $(DEMO)

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# saescope: every target sets up its own environment in .venv
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.DEFAULT_GOAL := help

.PHONY: help demo sample test coverage test-slow test-faults test-input test-defects docs test-docs test-pages test-gpu test-lowest graph check embedded synthetic calibration audit bench bench-train bench-whole bench-size bench-gpu parity clean

help:  ## list of targets
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# one stamp per install, remade when the requirements change
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# the oldest versions that pyproject.toml allows, which pip cannot choose
.venv-lowest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[saelens,workspaces]'
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python pytest pytest-timeout pytest-xdist hypothesis
	@touch $@

demo: $(VENV)/.installed  ## the main job on the embedded model: table and report
	$(BIN)/saescope

SAMPLE_MODEL ?= EleutherAI/pythia-70m
SAMPLE_FLAGS ?=
sample: $(VENV)/.installed  ## a sweep and its reports of a real model, in sample/: SAMPLE_MODEL=FOLDER or a Hub id
	$(BIN)/saescope -m model=local 'model.name=$(SAMPLE_MODEL)' sae=train,random sae.expansion_factor=4,8 sae.k=16,32 \
		sae.tokens=200000 hydra.sweep.dir=sample $(SAMPLE_FLAGS)

# a process a core, whose idle threads must not spin beside the other processes' work
test: $(VENV)/.installed-dev  ## the fast tests
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist worksteal

coverage: $(VENV)/.installed-dev  ## the fast tests, and which lines they reach
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term --cov-report=html

test-slow: $(VENV)/.installed-dev  ## the slow tests too
	$(BIN)/python -m pytest -m slow

test-faults: $(VENV)/.installed-dev  ## kills, full disks, lost caches: does the same command still finish? (20 minutes)
	$(BIN)/python -m pytest -m faults tests/faults

test-input: $(VENV)/.installed-dev  ## bad input by the thousand, numerics (docs/reliability.md)
	$(BIN)/python -m pytest -m campaign tests/campaigns

test-defects: $(VENV)/.installed-dev  ## do the tests notice seeded defects in SI, Q, capture and cache? (20 minutes)
	$(BIN)/python scripts/defects.py

docs: $(VENV)/.installed-docs  ## the documentation as a site, in site/ (a broken link is an error)
	$(BIN)/mkdocs build --strict

test-docs: $(VENV)/.installed-dev docs  ## the site, every cell of the notebook, every example of a docstring
	$(BIN)/python -m pytest -m docs tests/test_tutorial.py tests/test_api.py

test-pages: $(VENV)/.installed-dev  ## the pages in headless Chromium, and their accessibility where npm is there
	@if command -v npm > /dev/null; then npm install --silent --no-save --prefix $(VENV)/axe axe-core; else echo "no npm: without axe-core"; fi
	$(BIN)/python -m pytest -m browser tests/report

test-gpu: $(VENV)/.installed-dev  ## on a CUDA GPU: whole jobs beside the CPU's, the passes that are simulated elsewhere
	$(BIN)/python -m pytest -m 'gpu or not slow' tests/end_to_end/test_gpu.py tests/*/test_on_a_device.py

test-lowest: .venv-lowest/.installed  ## the fast tests with the oldest versions that pyproject.toml allows
	OMP_WAIT_POLICY=PASSIVE .venv-lowest/bin/python -m pytest -n auto --dist loadfile -p no:cacheprovider

graph: $(VENV)/.installed-dev  ## the picture of the house: rooms, arrows, circles
	$(BIN)/python scripts/graph.py --longest

check: $(VENV)/.installed-dev  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

embedded: $(VENV)/.installed  ## train the embedded model, its SAEs and probes anew (about half an hour)
	$(BIN)/python scripts/embedded/build.py

synthetic: $(VENV)/.installed  ## noise and planted structure: the tables of docs/definitions.md
	$(BIN)/python benchmarks/synthetic.py

calibration: $(VENV)/.installed  ## do p-values and intervals keep their word? docs/calibration.md (20 minutes)
	$(BIN)/python benchmarks/calibration.py --corpora 120 > docs/calibration.part && mv docs/calibration.part docs/calibration.md

audit: $(VENV)/.installed  ## which metric may be quoted for what? docs/audit.md and what pages say of it (12 minutes)
	$(BIN)/python scripts/audit/run.py

# .[dev] has sae_lens and TransformerLens, the other side of extract.py
bench: $(VENV)/.installed-dev  ## all benchmarks beside what one would do instead (2 quiet cores: 25 minutes)
	$(BIN)/python benchmarks/startup.py --rounds 3
	$(BIN)/python benchmarks/extract.py --rounds 2
	$(BIN)/python benchmarks/stats.py
	$(BIN)/python benchmarks/sweep.py --per-task 1000
	$(BIN)/python benchmarks/train.py --rounds 1 --steps 3 --brief
	$(BIN)/python benchmarks/whole.py --brief
	$(BIN)/python benchmarks/table.py

bench-whole: $(VENV)/.installed-dev  ## jobs and sweeps from Enter to the report, more tokens, three rounds
	$(BIN)/python benchmarks/whole.py --rounds 3

bench-size: $(VENV)/.installed-dev  ## all statistics of a job at 131,072 latents, k 64, as tokens grow (hours)
	$(BIN)/python benchmarks/size.py --tokens 200000 1000000 4000000

bench-gpu: $(VENV)/.installed-dev  ## extraction at larger shapes on a CUDA GPU
	$(BIN)/python benchmarks/gpu.py

bench-train: $(VENV)/.installed-dev  ## training beside sparsify's Trainer (2 cores: about 30 minutes)
	$(BIN)/python benchmarks/train.py

parity: $(VENV)/.installed  ## validation FVU beside sparsify's Trainer, on the embedded model
	$(BIN)/python benchmarks/parity.py

clean:  ## remove the environment and caches (never results)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

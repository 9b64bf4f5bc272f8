# What people do here. `make demo` and `make test` start from a fresh machine: they make .venv and install first.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo
MINUTES ?= 13
WORKERS ?= 2
RESULTS := benchmarks/results

.DEFAULT_GOAL := help
.PHONY: help setup demo play readme bench bench-gpu test lint format clean

help:  ## list what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/'

setup: .venv/.installed  ## make .venv and install everything into it

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: setup  ## train a small world from the bundled clip, evaluate it, write a film (about a quarter of an hour)
	$(BIN)/genie train examples/doom_room.mp4 --run $(RUN) --preset tiny --minutes $(MINUTES)
	$(BIN)/genie evaluate $(RUN) --quick --video examples/doom_room_heldout.mp4 --actions examples/doom_room_heldout.npz
	$(BIN)/genie rollout $(RUN) --actions random --steps 120 -o $(RUN)/rollout.mp4 -o $(RUN)/rollout.gif -o $(RUN)/rollout.png
	@echo
	@echo 'The film is $(RUN)/rollout.mp4, pictures of every stage are in $(RUN)/previews, the numbers in $(RUN)/evaluation.'
	@echo 'Play it in the browser:         make play'
	@echo 'Hold an action of your choice:  $(BIN)/genie rollout $(RUN) --actions hold:2 --steps 60 -o hold.mp4'
	@echo 'A world of your own video:      $(BIN)/genie train my_video.mp4 --run runs/mine --minutes 60'

play: setup  ## play the demo's world in the browser, or the bundled one before there is a demo
	$(BIN)/genie play $(if $(wildcard $(RUN)/world/world.json),$(RUN))

readme: setup  ## cross-check the demo's world; put its figures and pictures into the README
	$(BIN)/genie crosscheck $(RUN) --json > $(RUN)/crosscheck.json
	$(BIN)/python benchmarks/readme.py $(RUN)

# The table tells of benchmarks that failed, so it is made in that case too; then make fails as they did.
bench: setup  ## every benchmark on the CPU; the README's table of them
	$(BIN)/python benchmarks/run_all.py; failed=$$?; \
	$(BIN)/python benchmarks/table.py $(RESULTS)/cpu.json $(wildcard $(RESULTS)/gpu.json) && exit $$failed

bench-gpu: setup  ## the same on a GPU, with the share of its peak: benchmarks/results/gpu.json
	$(BIN)/python benchmarks/run_all.py --device cuda; failed=$$?; \
	$(BIN)/python benchmarks/table.py $(wildcard $(RESULTS)/cpu.json) $(RESULTS)/gpu.json && exit $$failed

test: setup  ## run every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: setup  ## lint and format check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup  ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and the demo's run
	rm -rf .venv $(RUN)

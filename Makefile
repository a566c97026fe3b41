# SPDX-License-Identifier: MIT
# The commands of the README. Each does its own set-up: packages, virtual environment, native build.
.PHONY: help demo board test test-long bench lint boot-scripts
.DEFAULT_GOAL := help

# mkfs and sfdisk are in /usr/sbin, where people who are not root do not look
SETUP = python=$$(.ci/setup | tail -n 1) && export PYTHONPATH=.:tests PATH="$$PATH:/usr/sbin:/sbin"

help:
	@echo "make demo          a good update and a bad one, on an emulated board, on one screen"
	@echo "make board         the emulated board as a device of your own: FILES=FOLDER (docs/cloud.md)"
	@echo "make test          lint, then every test, the emulated board included"
	@echo "make test-long     what takes longer: random power cuts, more of everything"
	@echo "make bench         measure the native pipeline and a fleet, and write docs/bench"
	@echo "make lint          mypy and ruff alone"
	@echo "make boot-scripts  render each board's boot.cmd from its template and slot table"

# PICTURE=docs/demo.svg draws the run into that file.
demo:
	@$(SETUP) && "$$python" -m demo $(if $(PICTURE),--picture $(PICTURE))

# FILES names a folder with the board's own files: docs/cloud.md.
board:
	@$(SETUP) && "$$python" -m board.emulator $(FILES)

test: lint
	@$(SETUP) && "$$python" -m pytest --cov --cov-report=term:skip-covered tests && \
	"$$python" -m coverage report --include='updater/core/*' --skip-covered --fail-under=100

test-long:
	@$(SETUP) && "$$python" -m pytest -m long tests

# PART=pipeline or PART=fleet measures that alone.
bench:
	@$(subst .ci/setup,.ci/setup .ci/packages-bench.txt,$(SETUP)) && "$$python" -m bench $(PART)

lint:
	@$(SETUP) && "$$python" -m ruff check updater native board docs tests setup.py && "$$python" -m mypy

boot-scripts:
	@$(SETUP) && "$$python" -m board.emulator.scripts

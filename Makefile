# SPDX-License-Identifier: MIT
# The commands of the README. Each does its own set-up.
.PHONY: test lint
.DEFAULT_GOAL := help

help:
	@echo "make test   install what is needed, then lint and run every test"
	@echo "make lint   mypy and ruff alone"

test:
	@python=$$(.ci/setup | tail -n 1) && \
	"$$python" -m ruff check updater native board tests setup.py && \
	"$$python" -m mypy && \
	"$$python" -m pytest --cov --cov-report=term:skip-covered tests

lint:
	@python=$$(.ci/setup | tail -n 1) && \
	"$$python" -m ruff check updater native board tests setup.py && "$$python" -m mypy

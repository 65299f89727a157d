# Every target makes what it needs: `make demo` or `make test` on a fresh clone are enough.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-gpu lint types format bench bench-data bench-sample bench-train bench-autoregressive bench-adversarial bench-flow bench-busy taxonomy gallery accept clean

help: ## show this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

install: $(STAMP) ## make .venv with gentrain and its tools (about 2 minutes, 6 GB)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(STAMP) ## train a VAE on handwritten digits (under a minute) and write pictures from it
	$(BIN)/gentrain train model=vae dataset=digits
	$(BIN)/gentrain sample
	$(BIN)/gentrain reconstruct images=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
	$(BIN)/gentrain interpolate
	$(BIN)/gentrain eval
	@echo
	@echo "pictures in outputs/$$(cat outputs/latest):"
	@cd "outputs/$$(cat outputs/latest)" && ls -1 *.png
	@echo "more:  .venv/bin/gentrain train model=vae dataset=mnist     (downloads MNIST)"
	@echo "       .venv/bin/gentrain train dataset=folder dataset.root=YOUR_IMAGES dataset.image_size=32"
	@echo "       .venv/bin/tensorboard --logdir outputs"

test: $(STAMP) ## the test suite, about 7 minutes on two cores with AVX-512, 20 on older ones
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu"

test-all: $(STAMP) ## after it: 20 kills for each family, full-length runs (20 minutes on such cores, 42 on older ones)
	$(BIN)/python -m pytest -q -n 2 -m "slow and not gpu" --timeout 1500

test-gpu: $(STAMP) ## what needs a CUDA device
	$(BIN)/python -m pytest -q -m gpu

lint: $(STAMP) ## ruff: lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy
	$(BIN)/mypy

format: $(STAMP) ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## the trainer against a bare loop over the same model
	$(BIN)/python scripts/bench.py loop

bench-data: $(STAMP) ## our batches against a torchvision DataLoader (needs MNIST)
	$(BIN)/python scripts/bench.py data

bench-sample: $(STAMP) ## drawing value by value, beside the naive sampler (about 3 minutes)
	$(BIN)/python scripts/bench.py sample

bench-train: $(STAMP) ## training a PixelCNN, in float32 and bf16
	$(BIN)/python scripts/bench.py train

bench-autoregressive: $(STAMP) ## training autoregressive models as published (about 10 minutes)
	$(BIN)/python scripts/bench.py autoregressive

bench-adversarial: $(STAMP) ## whole steps of adversarial models (about 5 minutes)
	$(BIN)/python scripts/bench.py adversarial

bench-flow: $(STAMP) ## whole steps of flows (about 5 minutes)
	$(BIN)/python scripts/bench.py flow

bench-busy: $(STAMP) ## training beside a spinning process (about 7 minutes)
	$(BIN)/python scripts/bench.py busy

reproduce-%: $(STAMP) ## train an experiment and hold it against its figure, e.g. make reproduce-vae_mnist
	$(BIN)/gentrain reproduce experiment=$*

accept: $(STAMP) ## keep the finished reproductions and their weights in results/, remake the table of them
	$(BIN)/python scripts/accept.py outputs/reproduce/*/result.json

taxonomy: $(STAMP) ## every system on digits, on one page; LEAVES=vae,gan for some
	$(BIN)/python scripts/taxonomy.py $(if $(LEAVES),--leaves $(LEAVES))

gallery: $(STAMP) ## the README's pictures, from real runs
	$(BIN)/python scripts/gallery.py

clean: ## remove .venv and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info

"""`gentrain eval`: the log-likelihood of a split, in nats and bits/dim with standard errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from gentrain import __version__
from gentrain.commands.trained import (
    batches_of,
    capable,
    ckpt_argument,
    device_of,
    open_data,
    open_model,
    split_of,
)
from gentrain.config import conform
from gentrain.contracts import HasLikelihood
from gentrain.files import replacing
from gentrain.metrics.likelihood import evaluate_likelihood
from gentrain.schemas import EvalConfig


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Measure and print; write the figures beside the checkpoint's run.

    Raises:
        UserError: a model without likelihood, missing data.
        Fault: a log-likelihood that is not finite.
    """
    config = conform(EvalConfig, config)
    loaded = open_model(config)
    model = capable(loaded, HasLikelihood, "eval")
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    count = len(split.images) if config.limit is None else min(config.limit, len(split.images))
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    with torch.no_grad():
        bar = tqdm(batches, total=math.ceil(count / config.batch_size), unit="batch", disable=None)
        result = evaluate_likelihood(model, bar, loaded.model.spec, samples=config.samples)
    which = f"{config.split} ({result.images} images)"
    print(f"model   {loaded.config.names.model} on {loaded.config.names.dataset}, step {loaded.step}")
    print(f"nll     {result.nats:.4f} +- {result.nats_stderr:.4f} nats per image, {result.kind}, {which}")
    print(f"        {result.bits_per_dim:.5f} +- {result.bits_per_dim_stderr:.5f} bits/dim")
    if loaded.run is not None:
        entry = {
            "split": config.split,
            "step": loaded.step,
            "checkpoint": loaded.path.name,
            "seed": int(config.seed),
            "gentrain": __version__,
            **asdict(result),
        }
        part = "" if config.limit is None else f"_first_{config.limit}"
        keep(entry, loaded.run.folder / f"eval_{config.split}{part}.json")
    print(f"next    gentrain sample {ckpt_argument(loaded)}")


def keep(entry: dict[str, Any], path: Path) -> None:
    """Write the figures, whole or not at all; a folder of somebody else's is no reason to fail."""
    # JSON has no nan, which the standard error of a single image is.
    entry = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in entry.items()}
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(entry, indent=2) + "\n")
    except OSError as error:
        print(f"note    the figures are not kept: cannot write {path}: {error.strerror}")
        return
    print(f"wrote   {path}")

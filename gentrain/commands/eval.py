"""`gentrain eval`: metrics of a trained model with standard errors: its log-likelihood, its samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain import __version__
from gentrain.api import Loaded
from gentrain.commands.measures import METRICS, chosen
from gentrain.commands.trained import ckpt_argument, device_of, next_command, open_model
from gentrain.config import conform
from gentrain.files import replacing, write_text
from gentrain.schemas import EvalConfig
from gentrain.training import randomness


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Measure and print; write each metric's figures beside the checkpoint's run.

    Raises:
        UserError: a metric that does not exist or that the model cannot have, missing data.
        Fault: a log-likelihood that is not finite.
    """
    config = conform(EvalConfig, config)
    loaded = open_model(config)
    names = chosen(loaded, config.metrics)
    print(f"model   {loaded.config.names.model} on {loaded.config.names.dataset}, step {loaded.step}")
    for name in names:
        measure(name, loaded, config)
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'sample', 'reconstruct')}")


def measure(name: str, loaded: Loaded, config: DictConfig) -> dict[str, Any]:
    """The figures of the metric `name`: printed, kept beside the checkpoint's run, and returned.

    Raises:
        UserError: missing data.
        Fault: a figure that is not finite.
    """
    # Each metric sees the noise that it would see alone.
    with torch.no_grad(), randomness.aside(int(config.seed), device_of(loaded)):
        found = METRICS[name].measure(loaded, config)
    print("\n".join(found.lines))
    if loaded.run is not None:
        entry = {
            "step": loaded.step,
            "checkpoint": loaded.path.name,
            "seed": int(config.seed),
            "gentrain": __version__,
            **found.figures,
        }
        keep(entry, loaded.run.folder / found.file)
    return found.figures


def keep(entry: dict[str, Any], path: Path) -> None:
    """Write the figures, whole or not at all; a folder of somebody else's is no reason to fail."""
    # JSON has no nan, which the standard error of a single image is.
    entry = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in entry.items()}
    try:
        with replacing(path) as temporary:
            write_text(temporary, json.dumps(entry, indent=2) + "\n")
    except OSError as error:
        print(f"note    the figures are not kept: cannot write {path}: {error.strerror}")
        return
    print(f"wrote   {path}")

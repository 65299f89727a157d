"""`gentrain eval`: metrics of a trained model with standard errors: its log-likelihood, its samples."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain import __version__
from gentrain.api import Loaded
from gentrain.commands.asked import Asked
from gentrain.commands.measures import METRICS, chosen
from gentrain.commands.measures.beside import another
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.trained import device_of, open_data, open_model, split_of
from gentrain.config import conform
from gentrain.errors import UserError
from gentrain.files import numbered, write_text
from gentrain.schemas import EvalConfig
from gentrain.training import randomness


def run(asked: Asked) -> None:
    """Measure and print; write each metric's figures beside the checkpoint's run.

    Raises:
        UserError: a metric that does not exist or that the model cannot have, another model that does not
            compare, missing data.
        Fault: a log-likelihood that is not finite, or a full disk.
    """
    config = asked.config
    config = conform(EvalConfig, config)
    loaded = open_model(config)
    names = chosen(loaded, config.metrics)
    loaded.beside = another(loaded, config, [METRICS[name] for name in names])
    print(f"model   {loaded.config.names.model} on {loaded.config.names.dataset}, step {loaded.step}")
    for name in names:
        check_enough(name, loaded, config)
    for name in names:
        measure(name, loaded, config)
    ckpt = ckpt_argument(loaded)
    print(f"next    {next_command(loaded.model, ckpt, 'sample', 'reconstruct', config=config)}")


def check_enough(name: str, loaded: Loaded, config: DictConfig) -> None:
    """See that there are as many samples and images as the metric `name` takes, before any is measured.

    Raises:
        UserError: there are fewer; or missing data.
    """
    least = METRICS[name].least
    if least == 1:
        return
    there = len(split_of(open_data(loaded, config), config.split))
    takes = f"metrics=[{name}]: this takes at least {least} samples and images"
    for key in ("n", "limit"):
        if config[key] is not None and config[key] < least:
            raise UserError(f"{takes}, found {key}={config[key]}; set {key}={least} or more")
    if there < least:
        raise UserError(f"{takes}, found {there} {config.split} images; take others, or leave {name} out")


def measure(name: str, loaded: Loaded, config: DictConfig) -> dict[str, Any]:
    """The figures of the metric `name`: printed, kept beside the checkpoint's run, and returned.

    Raises:
        UserError: missing data.
        Fault: a figure that is not finite, or a full disk.
    """
    # Each metric sees the noise that it would see alone.
    with torch.no_grad(), randomness.aside(int(config.seed), device_of(loaded)):
        try:
            found = METRICS[name].measure(loaded, config)
        except ValueError as error:  # the model refuses these images: it needs their labels, say
            raise UserError(f"metrics=[{name}]: {error}") from error
    print("\n".join(found.lines))
    if (other := other_data(loaded)) and found.figures.get("split"):
        print(f"data    {other['other_data']}: {other['difference']}")
    if loaded.run is not None:
        entry = {
            "step": loaded.step,
            "checkpoint": loaded.path.name,
            "seed": int(config.seed),
            "gentrain": __version__,
            **other_data(loaded),
            **found.figures,
        }
        keep(entry, loaded.run.folder / found.file)
    return found.figures


def other_data(loaded: Loaded) -> dict[str, Any]:
    """What the figures are of, where the data are not those of training."""
    if loaded.change is None or loaded.data is None or loaded.data.identity is None:
        return {}
    return {
        "other_data": loaded.data.identity.root or loaded.data.name,
        "difference": str(loaded.change),
        "held_out_images_trained_on": dict(loaded.change.leaks),
    }


def keep(entry: dict[str, Any], path: Path) -> None:
    """Write the figures, whole or not at all; a folder of somebody else's is no reason to fail.

    Figures that are there already stay: others go beside them, in the next file whose name is free.

    Raises:
        Fault: the disk is full, or failed.
    """
    # JSON has no nan, which the standard error of a single image is.
    entry = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in entry.items()}
    content = json.dumps(entry, indent=2) + "\n"
    try:
        path, new = numbered(path, lambda file: write_text(file, content))
    except UserError as error:
        print(f"note    the figures are not kept: {error}")
        return
    print(f"wrote   {path}{'' if new else ', unchanged'}")

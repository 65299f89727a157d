"""`gentrain sample`: images drawn from a trained model, as a grid or an archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.commands.abilities import capable
from gentrain.commands.labels import as_typed, label_of
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import drawn, listed, open_model
from gentrain.config import conform
from gentrain.contracts import DataSpec, Samples
from gentrain.errors import UserError, did_you_mean
from gentrain.images import grid
from gentrain.schemas import SampleConfig

#: The most images that a picture shows.
MOST_IN_A_PICTURE = 4096


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Draw `n` images and write them.

    Raises:
        UserError: a model that does not sample, a label or an attribute that the data do not have,
            a place that cannot be written.
    """
    config = conform(SampleConfig, config)
    loaded = open_model(config)
    capable(loaded, Samples, "sample")
    spec = loaded.model.spec
    out = Output(config, loaded, "samples.png", (".png", ".npz"))
    picture = out.path.suffix == ".png"
    if picture and config.n > MOST_IN_A_PICTURE:
        raise UserError(f"n={config.n} is too many for a picture; write them with out=samples.npz")
    given = condition(config, spec, typed)
    where = "sample" if config.attributes is None else "attributes"
    with torch.no_grad():
        parts = [part.cpu() for part in drawn(loaded, config.n, given, config.temperature, where)]
    images = torch.cat(parts)  # [n, C, H, W]
    if picture:
        out.png(grid(images, spec.levels))
    else:
        out.npz(images=images.numpy(), levels=np.int64(spec.levels))
    print(out.wrote(f"{len(images)} images, step {loaded.step}"))
    then = next_command(loaded.model, ckpt_argument(loaded), "eval", "reconstruct", "interpolate")
    print(f"next    {then}")


def condition(config: DictConfig, spec: DataSpec, typed: Sequence[str]) -> Tensor | None:
    """What every image is to have: a label, int64 [], or attributes, bool [A]; None where nothing is named.

    Raises:
        UserError: both, or what the data do not have.
    """
    if config.label is not None:
        if config.attributes is not None:
            raise UserError("label and attributes both say what to draw; give one of them")
        word = as_typed(typed, "label", config.label)
        if spec.label_words is None:
            raise UserError(f"label={word}: expected none: the data have no labels")
        return torch.tensor(label_of(word, spec.label_words, f"label={word}"))
    if config.attributes is None:
        return None
    if spec.attributes is None:
        raise UserError("attributes: expected none: the data have no attributes")
    named = [str(name) for name in listed("attributes", config.attributes, "names")]
    for name in named:
        if name not in spec.attributes:
            raise UserError(f"attributes: there is no {name!r}{did_you_mean(name, spec.attributes)}")
    return torch.tensor([name in named for name in spec.attributes])

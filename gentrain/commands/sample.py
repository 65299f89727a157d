"""`gentrain sample`: images drawn from a trained model, as a grid or an archive."""

from __future__ import annotations

import numpy as np
import torch

from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.given import given, given_in_words
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import open_model, samples_of
from gentrain.config import conform
from gentrain.contracts import Samples
from gentrain.errors import UserError
from gentrain.images import grid
from gentrain.schemas import SampleConfig

#: The most images that a picture shows.
MOST_IN_A_PICTURE = 4096


def run(asked: Asked) -> None:
    """Draw `n` images and write them.

    Raises:
        UserError: a model that does not sample, a label or an attribute that the data do not have,
            a place that cannot be written.
    """
    config, typed = asked.config, asked.typed
    config = conform(SampleConfig, config)
    loaded = open_model(config)
    capable(loaded, Samples, "sample")
    spec = loaded.model.spec
    out = Output(config, loaded, "samples.png", (".png", ".npz"))
    picture = out.path.suffix == ".png"
    if picture and config.n > MOST_IN_A_PICTURE:
        raise UserError(f"n={config.n} is too many for a picture; write them with out=samples.npz")
    out.name(what=f"{config.n} samples" + given_in_words(config, typed))
    one = given(config, loaded, typed)
    with torch.no_grad():
        parts = [part.cpu() for part in samples_of(loaded, config.n, one, config.temperature)]
    images = torch.cat(parts)  # [n, C, H, W]
    if picture:
        out.png(grid(images, spec.levels))
    else:
        out.npz(images=images.numpy(), levels=np.int64(spec.levels))
    print(out.wrote(f"{len(images)} images, step {loaded.step}"))
    then = next_command(loaded.model, ckpt_argument(loaded), "eval", "reconstruct", "interpolate")
    print(f"next    {then}")

"""`gentrain reconstruct`: images above what the model makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain.commands.trained import capable, ckpt_argument, named_images, open_model, out_path
from gentrain.config import conform
from gentrain.contracts import ImagesToLatents
from gentrain.images import check_out, grid, pairs, save_png
from gentrain.schemas import ReconstructConfig


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Encode and decode the images that were named; write real-above-reconstruction pairs.

    Raises:
        UserError: a model without an encoder, images that cannot be read.
    """
    config = conform(ReconstructConfig, config)
    loaded = open_model(config)
    model = capable(loaded, ImagesToLatents, "reconstruct")
    out = out_path(config, loaded, "reconstructions.png")
    check_out(out, (".png",))
    x = named_images(config.images, loaded, config)
    with torch.no_grad():
        again = model.latents_to_images(model.images_to_latents(x))
    save_png(grid(pairs(x, again), loaded.model.spec.levels, columns=min(8, len(x))), out)
    difference = (x.float() - again.float()).abs().mean() / (loaded.model.spec.levels - 1)
    print(f"wrote   {out} ({len(x)} images, real above reconstruction)")
    print(f"error   {float(difference):.4f} mean absolute, of the range 0 to 1")
    print(f"next    gentrain interpolate {ckpt_argument(loaded)}")

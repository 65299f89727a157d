"""`gentrain encode`: the latents of images as an .npz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from tqdm import tqdm

from gentrain.commands.sample import save_npz
from gentrain.commands.trained import (
    batches_of,
    capable,
    ckpt_argument,
    device_of,
    named_images,
    open_data,
    open_model,
    out_path,
    split_of,
)
from gentrain.config import conform
from gentrain.contracts import ImagesToLatents
from gentrain.images import check_out
from gentrain.schemas import EncodeConfig


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Write `latents` float32 [N, D] and, for a split that has them, `labels` int64 [N].

    Raises:
        UserError: a model without an encoder, images that cannot be read.
    """
    config = conform(EncodeConfig, config)
    loaded = open_model(config)
    model = capable(loaded, ImagesToLatents, "encode")
    out = out_path(config, loaded, "latents.npz")
    check_out(out, (".npz",))
    arrays: dict[str, Any] = {}
    with torch.no_grad():
        if config.images is not None:
            z = model.images_to_latents(named_images(config.images, loaded, config)).cpu()
        else:
            data = open_data(loaded, config)
            split = split_of(data, config.split)
            batches = batches_of(data, split, config, device_of(loaded))
            parts, labels = [], []
            for batch in tqdm(batches, unit="batch", disable=None):
                parts.append(model.images_to_latents(batch.x).cpu())
                if batch.label is not None:
                    labels.append(batch.label.cpu())
            z = torch.cat(parts)
            if labels:
                arrays["labels"] = torch.cat(labels).numpy()
    save_npz(out, latents=z.float().numpy(), **arrays)
    print(f"wrote   {out} (latents {list(z.shape)}{', labels' if arrays else ''})")
    print(f"next    gentrain reconstruct {ckpt_argument(loaded)}")

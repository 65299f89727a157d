"""How far from the images what a model makes of them is."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from gentrain.contracts import Batch, DataSpec, Reconstructs


@dataclass(frozen=True)
class Reconstruction:
    """What `evaluate_reconstruction` found.

    images: how many images the means are over.
    mse: {row: mean squared error per pixel value, pixels 0 to 1}, for each row that a model shows of a batch
        beside the images themselves.
    mse_stderr: their standard errors over the images.
    """

    images: int
    mse: dict[str, float]
    mse_stderr: dict[str, float]


@torch.no_grad()
def evaluate_reconstruction(model: Reconstructs, batches: Iterable[Batch], spec: DataSpec) -> Reconstruction:
    """The error of every row of `model.reconstructions` against the images, whole images weighted equally.

    Args:
        model: in the mode (train or eval) that the caller wants.
        batches: images, in batches of any sizes, on the model's device.
        spec: what they are; its `levels` scale the error.

    Raises:
        ValueError: no images, or not the labels that the model needs.
    """
    errors: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        for name, row in model.reconstructions(batch).items():
            if row is batch.x:
                continue
            difference = (row.double() - batch.x.double()) / (spec.levels - 1)
            errors.setdefault(name, []).append(difference.square().flatten(1).mean(1).cpu())  # [B]
    if not errors:
        raise ValueError("there are no images to reconstruct")
    each = {name: torch.cat(parts) for name, parts in errors.items()}
    count = len(next(iter(each.values())))
    return Reconstruction(
        count,
        {name: float(values.mean()) for name, values in each.items()},
        {
            name: float(values.std()) / math.sqrt(count) if count > 1 else math.nan
            for name, values in each.items()
        },
    )


def figures(found: Reconstruction) -> dict[str, Any]:
    """The same as plain figures: images, `<row>_mse` and `<row>_mse_stderr`."""
    plain: dict[str, Any] = {"images": found.images}
    for name, value in found.mse.items():
        plain |= {f"{name}_mse": value, f"{name}_mse_stderr": found.mse_stderr[name]}
    return plain

"""The latents of many images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gentrain.contracts import Batch, ImagesToLatents
from gentrain.errors import Fault


def encoded(model: ImagesToLatents, batches: Iterable[Batch], images: bool) -> tuple[Tensor, Batch]:
    """The latents of images, and what is known of the images, on the CPU.

    Args:
        model: what has the latents.
        batches: the images, on its device.
        images: whether the images themselves are kept; else `x` is empty.

    Returns:
        z float32 [N, D], and one batch of all N images.
    """
    latents: list[Tensor] = []
    parts: list[Batch] = []
    with torch.no_grad():
        for batch in batches:
            z = model.images_to_latents(batch.x, condition=model.condition_in(batch))
            latents.append(z.float().cpu())
            parts.append((batch if images else batch._replace(x=batch.x[:0])).map(Tensor.cpu))
    x, *known = (None if part[0] is None else torch.cat(part) for part in zip(*parts, strict=True))
    assert x is not None
    return torch.cat(latents), Batch(x, *known)


def check_latents(z: Tensor) -> None:
    """Refuse latents [N, D] of a model that went bad.

    Raises:
        Fault: some are not finite; says of how many images.
    """
    bad = int((~z.isfinite().all(1)).sum())
    if bad:
        raise Fault(
            f"the latents of {bad} of {len(z)} images are not finite; the model has diverged: "
            "take an earlier checkpoint, or train with a lower learning rate"
        )

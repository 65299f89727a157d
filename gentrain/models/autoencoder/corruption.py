"""Ways to spoil an image: the corruption C(x~|x) of a denoising autoencoder.

[1] Vincent, Larochelle, Lajoie, Bengio & Manzagol 2010, "Stacked Denoising Autoencoders", JMLR 11,
    section 3.3.

Each maps pixels [B, C, H, W] in [0, 1] to the same shape, every pixel value independently of the others.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def masking(pixels: Tensor, level: float) -> Tensor:
    """Each value set to 0 with probability `level`."""
    return pixels.masked_fill(torch.rand_like(pixels) < level, 0.0)


def gaussian(pixels: Tensor, level: float) -> Tensor:
    """Normal noise of standard deviation `level` added; the sum is not cut to [0, 1]."""
    return pixels + level * torch.randn_like(pixels)


def salt_and_pepper(pixels: Tensor, level: float) -> Tensor:
    """Each value replaced with probability `level`, by 0 or by 1 with equal chances."""
    u = torch.rand_like(pixels)
    return pixels.masked_fill(u < level, 1.0).masked_fill(u < level / 2, 0.0)


CORRUPTIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "masking": masking,
    "gaussian": gaussian,
    "salt_and_pepper": salt_and_pepper,
}


def corruption(name: str, level: float) -> Callable[[Tensor], Tensor]:
    """The corruption `name`, one of `CORRUPTIONS`, at `level`.

    Raises:
        ValueError: an unknown name, or a level that is not above 0 (for a probability: at most 1).
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"model.corruption must be one of {', '.join(CORRUPTIONS)}, found {name!r}")
    if not level > 0:
        raise ValueError(f"model.level must be above 0, found {level}; without corruption take model=ae")
    if name != "gaussian" and level > 1:
        raise ValueError(f"model.level is a probability for {name} and must be at most 1, found {level}")
    corrupt = CORRUPTIONS[name]
    return lambda pixels: corrupt(pixels, level)

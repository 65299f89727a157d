"""Differentiable augmentation of what a discriminator sees.

[1] Zhao et al. 2020, "Differentiable Augmentation for Data-Efficient GAN Training", arXiv:2006.10738.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gentrain.layers.settings import check_choice

#: Largest translation and the side of the square that is cut out, as shares of a side; [1] section 3.
TRANSLATION, CUTOUT = 1 / 8, 1 / 2
#: The level of black: what comes in from outside and what is cut out. In [1] it is 0.
BLACK = -1.0


def _each(x: Tensor, low: float, high: float) -> Tensor:
    """A number U[low, high] for each image of x [B, C, H, W]: [B, 1, 1, 1]."""
    return torch.empty(len(x), 1, 1, 1, dtype=x.dtype, device=x.device).uniform_(low, high)


def colour(x: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast, in the ranges of [1]; [B, C, H, W] in about [-1, 1].

    Brightness moves by up to half of the range of the levels, as in [1], whose images are in [-1, 1] too:
    U[-0.5, 0.5]; the other two scale the distance from a pixel's and from the image's mean.
    """
    x = x + _each(x, -0.5, 0.5)
    if x.shape[1] > 1:
        mean = x.mean(1, keepdim=True)
        x = torch.lerp(mean, x, _each(x, 0, 2))
    mean = x.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, x, _each(x, 0.5, 1.5))


def _shifts(x: Tensor, side: int) -> Tensor:
    """A whole number of pixels for each image, up to a share `TRANSLATION` of a side: [B, 1]."""
    most = int(side * TRANSLATION + 0.5)
    return torch.randint(-most, most + 1, (len(x), 1), device=x.device)


def _begins(x: Tensor, side: int) -> Tensor:
    """Where the square that is cut out begins, which may reach over the edge: [B, 1]."""
    size = int(side * CUTOUT + 0.5)
    middle = torch.randint(0, side + 1 - size % 2, (len(x), 1), device=x.device)
    return middle - size // 2


def translation(x: Tensor) -> Tensor:
    """Moved by up to an eighth of each side; black comes in; [B, C, H, W]."""
    batch, channels, height, width = x.shape
    black = x.new_tensor(BLACK)
    for dim, side in ((2, height), (3, width)):
        source = torch.arange(side, device=x.device) + _shifts(x, side)  # [B, side]
        inside = (source >= 0) & (source < side)
        view = (batch, 1, -1, 1) if dim == 2 else (batch, 1, 1, -1)
        index = source.clamp(0, side - 1).view(view).expand(batch, channels, height, width)
        x = torch.where(inside.view(view), x.gather(dim, index), black)
    return x


def cutout(x: Tensor) -> Tensor:
    """Half of each side is black, a rectangle anywhere; [B, C, H, W]."""
    cut = []
    for side in x.shape[2:]:
        begin, places = _begins(x, side), torch.arange(side, device=x.device)
        cut.append((places >= begin) & (places < begin + int(side * CUTOUT + 0.5)))  # [B, side]
    return torch.where(cut[0][:, None, :, None] & cut[1][:, None, None, :], x.new_tensor(BLACK), x)


AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


class DiffAugment:
    """The augmentations `names`, one after the other, each image with random numbers of its own [1].

    Each is differentiable by the image, so that a generator learns through it.

    Args:
        names: of `AUGMENTATIONS`; none of them: images stay as they are, and nothing is drawn.

    [B, C, H, W] in [-1, 1] -> the same shape.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        for name in names:
            check_choice("augment", name, tuple(AUGMENTATIONS))
        self.names = tuple(names)

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> the same, augmented."""
        for name in self.names:
            x = AUGMENTATIONS[name](x)
        return x

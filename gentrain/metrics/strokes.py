"""How strokes stand: their slant and thickness, and how far another image's are from them.

A label says which digit it is, not how it is written. Of a translation that keeps the label, these say
whether it is still this digit, or another of its kind.

[1] Castro, Tan, Kainz, Konukoglu & Glocker 2019, "Morpho-MNIST: Quantitative Assessment and Diagnostics for
    Representation Learning", JMLR 20(178): digits by slant (of moments, as here) and thickness (along the
    skeleton there; here by ink and edges, which need no threshold and no thinning).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


def ink(x: Tensor) -> Tensor:
    """Grey images [B, 1, H, W] in 0 to 1 -> the same, light on dark, whatever the border is made of."""
    border = torch.cat(
        [x[..., [0, -1], :].flatten(1), x[..., 1:-1, [0, -1]].flatten(1)], 1
    )  # [B, 2 (H + W) - 4]
    light = border.mean(1) > 0.5  # [B]
    return torch.where(light[:, None, None, None], 1 - x, x)


def slant(images: Tensor) -> Tensor:
    """[B, C, H, W] -> how far ink moves to the right per line upwards, by moments of its places: [B]."""
    found = images.double().sum(1) + 1e-12
    height, width = found.shape[1:]
    y = torch.arange(height, dtype=torch.float64, device=found.device)[:, None]
    x = torch.arange(width, dtype=torch.float64, device=found.device)
    total = found.sum((1, 2), keepdim=True)
    dx, dy = (part - (found * part).sum((1, 2), keepdim=True) / total for part in (x, y))
    return -(found * dx * dy).sum((1, 2)) / (found * dy * dy).sum((1, 2))


def thickness(images: Tensor) -> Tensor:
    """[B, C, H, W] -> ink over the length of its edges, about half the width of strokes in pixels: [B]."""
    found = images.double().sum(1)
    edges = sum((found.diff(dim=dim).abs().sum((1, 2)) for dim in (1, 2)), found.new_zeros(len(found)))
    return found.sum((1, 2)) / edges.clamp_min(1e-12)


#: What is measured of strokes: {name: images [B, C, H, W], light on dark -> [B]}.
LOOKS: Mapping[str, Callable[[Tensor], Tensor]] = {"slant": slant, "thickness": thickness}


def shuffled_difference(a: Tensor, b: Tensor) -> float:
    """The mean |a_i - b_j| over all pairs of [N] and [M]: over all ways to give each another's."""
    b = b.double().sort().values
    sums = torch.cat([b.new_zeros(1), b.cumsum(0)])
    below = torch.searchsorted(b, a.double().contiguous())  # [N], how many of b are
    each = a * below - sums[below] + (sums[-1] - sums[below]) - a * (len(b) - below)
    return float(each.mean() / len(b))

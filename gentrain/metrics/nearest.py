"""The training image nearest to a sample: whether a model has learnt by heart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_CHUNK = 4096  # training images handled at a time


def nearest(x: Tensor, images: np.ndarray, levels: int, stored_levels: int) -> tuple[list[int], list[float]]:
    """For each of `x` the image with the smallest mean squared difference of pixels, both in 0..1.

    Args:
        x: uint8 [B, C, H, W] in 0 .. levels-1, on the CPU.
        images: uint8 [N, C, H, W] in 0 .. stored_levels-1.
        levels: grey levels of `x`.
        stored_levels: grey levels of `images`.

    Returns:
        The numbers of the images, and the roots of the mean squared differences, 0..1.
    """
    points = x.flatten(1).float() / (levels - 1)  # [B, D]
    best = torch.full((len(points),), torch.inf)
    index = torch.zeros(len(points), dtype=torch.int64)
    for start in range(0, len(images), _CHUNK):
        part = torch.from_numpy(np.array(images[start : start + _CHUNK])).flatten(1).float()
        part /= stored_levels - 1  # [N', D]
        # |a - b|^2 = |a|^2 - 2 a.b + |b|^2; a product of matrices, and no [B, N', D].
        squares = (part * part).sum(1) - 2 * points @ part.T  # [B, N'], but for |a|^2
        distance, at = squares.min(1)
        closer = distance < best
        best, index = torch.where(closer, distance, best), torch.where(closer, at + start, index)
    chosen = torch.from_numpy(images[index.numpy()]).flatten(1).float() / (stored_levels - 1)
    differences = (points - chosen).square().mean(1).sqrt()  # anew: what was left of large sums is rounded
    return index.tolist(), differences.tolist()

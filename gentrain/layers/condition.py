"""What is given of an image as numbers that a network takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConditionVector(nn.Module):
    """Labels int64 [B], one-hot; attributes bool [B, A], as 0 and 1; captions int64 [B, T], counts of words.

    A caption's words are 1 to `size`, 0 pads and does not count. Numbers that are floating, [B, Y], are
    mixtures and stay as they are.

    Args:
        size: how many labels, attributes or words there are: Y.
        tokens: whether numbers are captions' words, counted from 1.

    [B, ...] -> [B, Y], in the dtype that `forward` is given.
    """

    def __init__(self, size: int, tokens: bool = False) -> None:
        super().__init__()
        self.size, self.tokens = size, tokens

    def forward(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        """y [B], [B, A] or [B, T] -> [B, Y]."""
        if y.dtype == torch.bool or y.is_floating_point():
            return y.to(dtype)
        known = torch.arange(self.size, device=y.device) + int(self.tokens)
        hits = y[..., None] == known  # [B, Y] or [B, T, Y]
        return (hits.sum(1) if hits.ndim == 3 else hits).to(dtype)


class BiasOf(nn.Module):
    """What is known of an image as a bias of feature maps; zero at first.

    Args:
        known: Y, numbers that are known.
        features: F.

    [B, Y] -> [B, F].
    """

    def __init__(self, known: int, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, known))

    def forward(self, c: Tensor) -> Tensor:
        """c [B, Y] -> [B, F]."""
        return F.linear(c, self.weight)

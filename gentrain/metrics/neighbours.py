"""Nearest neighbours: how many images have the label of the training image whose features are nearest.

1. Donahue et al. 2017, Adversarial feature learning, arXiv:1605.09782, section 4.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Images compared with all others at once.
_CHUNK = 500


def nearest(train: Tensor, test: Tensor) -> Tensor:
    """[N, D], [M, D] -> the row of `train` that is nearest to each of `test`, Euclidean: int64 [M]."""
    half = train.square().sum(1) / 2
    return torch.cat([(part @ train.T - half).argmax(1) for part in test.split(_CHUNK)])


def accuracy(train: Tensor, labels: Tensor, test: Tensor, test_labels: Tensor) -> tuple[float, float]:
    """The share of `test` whose nearest neighbour in `train` has their label [1], and its standard error.

    Args:
        train, test: float [N, D] and [M, D]; labels, test_labels: int64 [N] and [M].
    """
    right = float((labels[nearest(train, test)] == test_labels).double().mean())
    return right, math.sqrt(right * (1 - right) / len(test))


def principal(train: Tensor, others: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Both projected on the `size` principal components of `train`: [N, size], [M, size]."""
    mean = train.mean(0)
    centred = (train - mean).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)  # ascending
    axes = vectors[:, -size:].to(train.dtype)
    return (train - mean) @ axes, (others - mean) @ axes

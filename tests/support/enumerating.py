"""Images to feed a model, all of them where they can be listed, and weights that make it depend on them."""

from __future__ import annotations

import itertools
from typing import TypeVar

import torch
from torch import Tensor, nn

from gentrain.contracts import DataSpec

M = TypeVar("M", bound=nn.Module)


def images(spec: DataSpec, n: int, seed: int = 0) -> Tensor:
    """`n` images of independent uniform pixels."""
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8)


def all_images(spec: DataSpec) -> Tensor:
    """Every image that there is, in lexical order."""
    every = itertools.product(range(spec.levels), repeat=spec.dims)
    return torch.tensor(list(every), dtype=torch.uint8).view(-1, *spec.shape)


def vivid(model: M, gain: float = 3.0) -> M:
    """The model in float64 with larger weights, so that its outputs depend on their conditions."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(gain).add_(0.3 * torch.randn_like(p))
    return model

"""A small GAN, its batches, and its updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec
from gentrain.models.adversarial.gan import GAN
from gentrain.models.adversarial.objectives import OBJECTIVES
from gentrain.training.distributed import World
from gentrain.training.precision import Precision
from gentrain.training.update import TurnUpdate

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
ALL = pytest.mark.parametrize("objective", OBJECTIVES)
#: Settings of every game between two players.
GAME: dict[str, Any] = {
    "latent": "gaussian",
    "objective": "nonsaturating",
    "penalty_weight": 10.0,
    "n_critic": 1,
    "augment": [],
    "r1_weight": 0.0,
    "r1_every": 16,
}
NETWORKS = pytest.mark.parametrize("network", ["dcgan", "mlp"])


def gan(spec: DataSpec = DIGITS, **settings: Any) -> GAN:
    """A small GAN, the same each time."""
    defaults = {
        "network": "dcgan",
        "channels": 4,
        "dense": 0,
        "hidden": [12, 10],
        "latent_dim": 6,
        **GAME,
        "norm": "auto",
        "generator_norm": "auto",
    }
    torch.manual_seed(0)
    return GAN(spec, **defaults | settings)


def vivid(model: GAN) -> GAN:
    """The model with a generator whose images are not all grey."""
    with torch.no_grad():
        for p in model.generator.parameters():
            p.mul_(6)
    return model


def batch(seed: int = 0, n: int = 8, spec: DataSpec = DIGITS) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8))


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 2e-4, betas=(0.5, 0.999), fused=True)


def updates_of(
    model: GAN,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = adam,
    precision: str = "fp32",
    accumulate: int = 1,
) -> list[TurnUpdate]:
    """One per turn, as a run has them."""
    updates = []
    for turn in model.turns():
        own = {id(p) for p in turn.parameters()}
        others = [p for p in model.parameters() if id(p) not in own]
        how = Precision(precision, "cpu")
        optimizer = make(turn.parameters())
        updates.append(
            TurnUpdate(turn, others, optimizer, None, how, World(), accumulate, None, 3, compile=False)
        )
    return updates


def latch() -> Tensor:
    return torch.zeros((), dtype=torch.bool)


def scaled(x: Tensor) -> Tensor:
    return x.float() * (2 / 16) - 1

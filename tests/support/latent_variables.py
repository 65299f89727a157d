"""Latent variable models to test, and what they say about images, by numerical integration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from gentrain.contracts import Conditional, DataSpec
from gentrain.models.autoencoder.latent_variable import LatentVariableModel
from gentrain.models.autoencoder.vae import VAE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
#: Few enough images to list.
TINY = DataSpec(shape=(1, 2, 2), levels=2)
#: Settings of every model that derives from `VAE`.
MLP: Mapping[str, Any] = {
    "network": "mlp",
    "latent_dim": 3,
    "channels": [],
    "hidden": [8],
    "activation": "tanh",
    "dropout": 0.0,
    "likelihood": "auto",
    "mixtures": 2,
    "sample_pixels": False,
}
CONV: Mapping[str, Any] = {**MLP, "network": "conv", "channels": [4, 6], "activation": "silu"}


def vae(spec: DataSpec = DIGITS, base: Mapping[str, Any] = MLP, **settings: Any) -> VAE:
    """A small VAE."""
    return VAE(spec, **{**base, **settings})


def given(model: LatentVariableModel, n: int) -> tuple[Tensor, ...]:
    """(y,): conditions of `n` images, all in turn; () of a model of p(x)."""
    return (model.condition.in_turn(n, torch.device("cpu")),) if isinstance(model, Conditional) else ()


@torch.no_grad()
def integrated_log_p(model: LatentVariableModel, x: Tensor, *y: Tensor) -> Tensor:
    """log p(x) [B], or log p(x|y) under one condition y [1, ...]: a sum over a grid of one or two latents."""
    steps = {1: 2001, 2: 181}[model.latent_dim]
    line = torch.linspace(-9, 9, steps, dtype=torch.float64)
    z = torch.cartesian_prod(*[line] * model.latent_dim).view(-1, model.latent_dim)
    p = model._likelihood(z, *(part.expand(len(z), *part.shape[1:]) for part in y))
    log_p_z = Normal(0.0, 1.0).log_prob(z).sum(1)
    log_joint = torch.stack([p.log_prob(one[None].expand(len(z), *one.shape)) + log_p_z for one in x])
    return log_joint.logsumexp(1) + model.latent_dim * math.log(line[1] - line[0])

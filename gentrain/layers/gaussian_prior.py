"""Gaussian priors of a flow's values, as maps to standard normal latents.

[1] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039,
    and its code, github.com/openai/glow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gentrain.layers.coupling import ZeroConv2d
from gentrain.layers.gaussian import bounded
from gentrain.layers.half_precision import at_least_float32


class GaussianPrior(nn.Module, ABC):
    """p(z|h) = N(mu(h), diag sigma(h)^2), written as eps = (z - mu) / sigma with eps ~ N(0, I).

    log p(z|h) = log N(eps; 0, I) - sum log sigma, so -sum log sigma is the log-determinant of the map from
    z to eps.
    """

    @abstractmethod
    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, C', H, W], C' may be 0 -> mu and log sigma, which broadcast with z [B, C, H, W]."""

    def whiten(self, z: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """z [B, C, H, W], h [B, C', H, W] -> (eps [B, C, H, W], log |det d eps / dz| [B])."""
        mu, log_sigma = self.moments(h)
        eps = (z - mu) * (-log_sigma).exp()
        return eps, -log_sigma.expand_as(z).flatten(1).sum(1)

    def colour(self, eps: Tensor, h: Tensor) -> Tensor:
        """eps [B, C, H, W], h [B, C', H, W] -> z [B, C, H, W], inverse of `whiten`."""
        mu, log_sigma = self.moments(h)
        return torch.addcmul(mu, eps, log_sigma.exp())


class ConditionalPrior(GaussianPrior):
    """The prior of the half that is split off, given the half that goes on ([1] section 3.4, its code).

    Args:
        channels_in: of h.
        channels: of z.
    """

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__()
        self.net = ZeroConv2d(channels_in, 2 * channels)

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, C', H, W] -> mu and log sigma, [B, C, H, W] each."""
        mu, log_sigma = at_least_float32(self.net(h)).chunk(2, dim=1)
        return mu, bounded(log_sigma)


class StandardPrior(GaussianPrior):
    """N(0, I): the values are the latents; nothing is learnt."""

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Any h -> zeros []."""
        return h.new_zeros(()), h.new_zeros(())


class TopPrior(GaussianPrior):
    """The prior of what is left at the top, a mean and a scale per channel ([1]'s code, `learn_top`).

    Args:
        channels: of z.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mu = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_sigma = nn.Parameter(torch.zeros(channels, 1, 1))

    def moments(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Any h -> mu and log sigma, [C, 1, 1] each."""
        return self.mu, bounded(self.log_sigma)

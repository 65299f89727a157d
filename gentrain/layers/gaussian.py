"""Diagonal Gaussians from a network's output."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from gentrain.layers.half_precision import at_least_float32

#: |log sigma| stays below this, so that no precision overflows.
LOG_SIGMA_BOUND = 7.0


def bounded(log_sigma: Tensor) -> Tensor:
    """Smoothly within +-`LOG_SIGMA_BOUND`, with a gradient everywhere."""
    return LOG_SIGMA_BOUND * torch.tanh(log_sigma / LOG_SIGMA_BOUND)


def diagonal_gaussian(parameters: Tensor) -> Independent:
    """N(mu, diag sigma^2) from a network's output [..., 2 D]: mu and log sigma before it is bounded.

    Half precision is widened to float32. Arguments are not validated, since that would wait for the device.

    Returns:
        Batch shape [...], event shape [D].
    """
    mu, log_sigma = at_least_float32(parameters).chunk(2, dim=-1)  # [..., D] each
    # Bounded, q stays a Gaussian, and the ELBO a bound.
    return Independent(Normal(mu, bounded(log_sigma).exp(), validate_args=False), 1, validate_args=False)


def standard_gaussian(dimensions: int, like: Tensor) -> Independent:
    """N(0, I), event shape [dimensions], with the dtype and on the device of `like`."""
    zeros = torch.zeros(dimensions, dtype=like.dtype, device=like.device)
    return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False)


def kl_from_standard(q: Independent) -> Tensor:
    """KL(N(mu_j, sigma_j^2) || N(0, 1)) of each dimension of q, [B, D] in nats.

    Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114, appendix B.
    """
    return 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log())

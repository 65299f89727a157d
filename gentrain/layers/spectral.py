"""Spectral normalisation, where a setting says so.

[1] Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957.
"""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def normalised(layer: nn.Module, spectral: bool) -> nn.Module:
    """`layer`, its weight divided by its largest singular value if `spectral`.

    That value comes from one step of the power iteration each time the weight is computed in training mode,
    algorithm 1 of [1]; a step of training moves weights little, so that the iteration keeps up with them. It
    starts from 15 steps on the weight as it is now: initialise it before.
    """
    return spectral_norm(layer) if spectral else layer

"""Noise between the levels of an image, drawn from a flow that sees the image.

[1] Ho, Chen, Srinivas, Duan & Abbeel 2019, "Flow++: Improving Flow-Based Generative Models with Variational
    Dequantization and Architecture Design", arXiv:1902.00275.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.coupling import CheckerboardMask, Coupling, TanhScale, ZeroConv2d
from gentrain.layers.transform import Chain

#: Couplings, of one colour of positions and of the other in turn, and channels inside their networks.
COUPLINGS, HIDDEN = 4, 32


class _Net(nn.Module):
    """Two 3x3 convolutions and one that starts at zero, of one colour of the noise and the whole image."""

    def __init__(self, channels_in: int, channels_out: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(channels_in + channels, HIDDEN, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1), nn.ReLU(), ZeroConv2d(HIDDEN, channels_out)),
        )

    def forward(self, noise: Tensor, x: Tensor) -> Tensor:
        """noise [B, channels_in, H, W], x [B, channels, H, W] -> [B, channels_out, H, W]."""
        return self.layers(torch.cat([noise, x], 1))


class Dequantiser(nn.Module):
    """q(u|x) over [0, 1)^D: logistic noise through couplings that see x, then a sigmoid ([1] section 3.1).

    It starts as the uniform distribution.

    Args:
        channels: C of the images [B, C, H, W].
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.couplings = Chain(
            Coupling(
                channels,
                lambda c_in, c_out: _Net(c_in, c_out, channels),
                TanhScale,
                CheckerboardMask(bool(i % 2)),
            )
            for i in range(COUPLINGS)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] around 0 -> (u ~ q(u|x) in [0, 1), log q(u|x) [B])."""
        tiny = torch.finfo(x.dtype).eps
        h = torch.logit(torch.rand_like(x), eps=tiny)
        v, log_det = self.couplings(h, x)
        log_q = (_log_logistic(h) - _log_logistic(v)).flatten(1).sum(1) - log_det
        return torch.sigmoid(v).clamp_max(1 - tiny), log_q


def _log_logistic(h: Tensor) -> Tensor:
    """log of the standard logistic density, which is that of d sigmoid(h) / dh too."""
    return -F.softplus(h) - F.softplus(-h)

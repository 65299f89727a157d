"""A logistic prior of a flow's values, as a map to standard normal latents.

[1] Dinh, Krueger & Bengio 2015, "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.layers.transform import Transform

#: |h| up to which the normal quantile of its probability is a number.
_FURTHEST = 650.0


class LogisticToNormal(Transform):
    """eps = Phi^-1(sigmoid(h)): standard logistic values become standard normal, each by itself.

    log N(eps; 0, 1) + log d eps / dh is the logistic log-density, -softplus(h) - softplus(-h) ([1]
    section 3.4).
    """

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """h [B, ...] -> (eps, log |det| [B])."""
        # One tail, in float64: the other rounds to 1, and float32's own ends at |h| = 88.
        with torch.no_grad():
            tail = torch.sigmoid(-x.double().abs().clamp_max(_FURTHEST))
            found = (torch.special.ndtri(tail) * -x.sign()).to(x.dtype)
            log_slope = -F.softplus(x) - F.softplus(-x) + 0.5 * (found.square() + math.log(2 * math.pi))
            slope = log_slope.exp()
        eps = found + slope * (x - x.detach())  # ndtri's own derivative overflows
        log_p = -F.softplus(x) - F.softplus(-x)
        return eps, (log_p + 0.5 * (eps.square() + math.log(2 * math.pi))).flatten(1).sum(1)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """eps -> h = logit(Phi(eps))."""
        return torch.special.log_ndtr(y) - torch.special.log_ndtr(-y)

"""Invertible maps with a log-determinant, and their composition.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[2] Dinh, Krueger & Bengio 2015, "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """An invertible map f of [B, C, ...] to the same number of values per image.

    `forward` is the direction from data to latents, where the density is computed:
    log p_x(x) = log p_y(f(x)) + log |det df/dx|. `given` is (c,), c [B, Y] what is known of each image, for a
    map that depends on it; () or unused by others.
    """

    @abstractmethod
    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, ...] -> (y = f(x), log |det df/dx| [B], in float32 at least)."""

    @abstractmethod
    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y -> x with f(x) = y; its log-determinant is minus that of `forward` at x."""


class Shift(Transform):
    """x + by: moves data to around 0, say.

    Args:
        by: one number.
    """

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (x + by, zeros [B])."""
        return x + self.by, x.new_zeros(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y -> y - by."""
        return y - self.by


class Scale(Transform):
    """exp(s) x with a learnt s for each component ([2] section 3.3).

    Args:
        components: D of the input [B, D].
    """

    def __init__(self, components: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(components))

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, D] -> (exp(s) x, sum s [B])."""
        return x * self.log_scale.exp(), self.log_scale.sum().expand(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, D] -> exp(-s) y."""
        return y * (-self.log_scale).exp()


class Logit(Transform):
    """logit(a / 2 + (1 - a) x): what lies in [0, 1] is spread over the whole line ([1] section 4.1).

    Values near 0 and 1 come apart, so that many equal pixels there do not ask for a scale without end. All
    numbers between about -a / 2 and 1 + a / 2 have an image.

    Args:
        alpha: a, in (0, 1).
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, ...] in [0, 1] -> (log p - log q, log |det| [B]), p = a / 2 + (1 - a) x and q = 1 - p."""
        # 1 - p would lose the digits of q; what `inverse` rounds may lie outside by a digit.
        tiny = torch.finfo(x.dtype).tiny
        log_p = (self.alpha / 2 + (1 - self.alpha) * x).clamp_min(tiny).log()
        log_q = (self.alpha / 2 + (1 - self.alpha) * (1 - x)).clamp_min(tiny).log()
        return log_p - log_q, (math.log(1 - self.alpha) - log_p - log_q).flatten(1).sum(1)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, ...] -> x = (sigmoid(y) - a / 2) / (1 - a)."""
        return (torch.sigmoid(y) - self.alpha / 2) / (1 - self.alpha)


class Chain(Transform):
    """f_n(... f_2(f_1(x))); an empty chain is the identity.

    Args:
        transforms: f_1 to f_n.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, the sum of the log-determinants [B])."""
        log_det = x.new_zeros(len(x))
        for transform in self.transforms:
            x, change = transform(x, *given)
            log_det = log_det + change
        return x, log_det

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y -> x, the inverses in the opposite order."""
        for transform in reversed(self.transforms):
            assert isinstance(transform, Transform)
            y = transform.inverse(y, *given)
        return y

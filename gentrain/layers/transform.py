"""Invertible maps with a log-determinant, and their composition."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Transform(nn.Module, ABC):
    """An invertible map f of [B, C, ...] to the same number of values per image.

    `forward` is the direction from data to latents, where the density is computed:
    log p_x(x) = log p_y(f(x)) + log |det df/dx|.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, ...] -> (y = f(x), log |det df/dx| [B], in float32 at least)."""

    @abstractmethod
    def inverse(self, y: Tensor) -> Tensor:
        """y -> x with f(x) = y; its log-determinant is minus that of `forward` at x."""


class Shift(Transform):
    """x + by: moves data to around 0, say.

    Args:
        by: one number.
    """

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (x + by, zeros [B])."""
        return x + self.by, x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """y -> y - by."""
        return y - self.by


class Chain(Transform):
    """f_n(... f_2(f_1(x))); an empty chain is the identity.

    Args:
        transforms: f_1 to f_n.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, the sum of the log-determinants [B])."""
        log_det = x.new_zeros(len(x))
        for transform in self.transforms:
            x, change = transform(x)
            log_det = log_det + change
        return x, log_det

    def inverse(self, y: Tensor) -> Tensor:
        """y -> x, the inverses in the opposite order."""
        for transform in reversed(self.transforms):
            assert isinstance(transform, Transform)
            y = transform.inverse(y)
        return y

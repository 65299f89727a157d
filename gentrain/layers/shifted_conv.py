"""Convolutions that see only rows above, or rows above and columns to the left, with normalised weights.

[1] Salimans, Karpathy, Chen & Kingma 2017, "PixelCNN++", arXiv:1701.05517, and its code.
[2] Salimans & Kingma 2016, "Weight Normalization", arXiv:1602.07868.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: "down": the row itself and those above, columns to both sides; "right": columns to the left and its own.
Way = Literal["down", "right"]


def down_shift(x: Tensor) -> Tensor:
    """[B, F, H, W] moved down by one row, zeros above."""
    return F.pad(x, (0, 0, 1, -1))


def right_shift(x: Tensor) -> Tensor:
    """[B, F, H, W] moved right by one column, zeros to the left."""
    return F.pad(x, (1, -1))


def concat_elu(x: Tensor, dim: int = 1) -> Tensor:
    """[..., F, ...] -> [..., 2 F, ...]: elu(x) and elu(-x) ([1], its code)."""
    return F.elu(torch.cat([x, -x], dim))


class Normalised(nn.Module):
    """Weights w = g v / |v|, of each output feature apart ([2] equation 2).

    Args:
        shape: of v.
        output: which of its dimensions counts output features.
        scale: standard deviation of the outputs after `start` ([2] section 3).
    """

    def __init__(self, shape: tuple[int, ...], output: int, scale: float) -> None:
        super().__init__()
        self.output, self.scale = output, scale
        self.v = nn.Parameter(0.05 * torch.randn(shape))
        self.g = nn.Parameter(torch.full((shape[output],), scale))
        self.bias = nn.Parameter(torch.zeros(shape[output]))
        self.starting = False

    @property
    def weight(self) -> Tensor:
        """w, of v's shape."""
        others = [d for d in range(self.v.ndim) if d != self.output]
        norm = self.v.square().sum(others, keepdim=True).sqrt().clamp_min(1e-12)
        sizes = [1] * self.v.ndim
        sizes[self.output] = -1
        return self.v * (self.g.view(sizes) / norm)

    def start(self, y: Tensor) -> Tensor:
        """Set g and the bias so that y [B, F, H, W], made with them, has mean 0 and deviation `scale`.

        Of an output that is constant in the batch only the mean is set.
        """
        mean, deviation = y.mean((0, 2, 3)), y.std((0, 2, 3), correction=0)
        by = torch.where(deviation > 1e-4, self.scale / deviation, torch.ones_like(deviation))
        with torch.no_grad():
            self.g.mul_(by)
            self.bias.sub_(mean).mul_(by)
        return (y - mean[:, None, None]) * by[:, None, None]


class ShiftedConv2d(Normalised):
    """A convolution that sees no pixel after its own, in the sense of `way`.

    Args:
        features: in, out.
        kernel: (rows, columns); of "down" the columns are odd.
        way: "down" or "right".
        stride: of rows and columns; position (i, j) of the output then lies at (stride i, stride j).
        scale: see `Normalised`.

    [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)].
    """

    def __init__(
        self,
        features: tuple[int, int],
        kernel: tuple[int, int],
        way: Way,
        stride: int = 1,
        scale: float = 1.0,
    ) -> None:
        super().__init__((features[1], features[0], *kernel), 0, scale)
        self.kernel, self.way, self.stride = kernel, way, stride
        above, beside = kernel[0] - 1, kernel[1] - 1
        self.padding = (beside, 0, above, 0) if way == "right" else (beside // 2, beside // 2, above, 0)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, out, H', W']."""
        y = F.conv2d(F.pad(x, self.padding), self.weight, self.bias, stride=self.stride)
        return self.start(y) if self.starting else y


class Upsample2d(Normalised):
    """A transposed convolution of stride 2.

    Position (i, j) is made from (i // 2, j // 2) and, of "down", from columns beside it too.

    Args:
        features: of input and output.
        way: "down", kernel 2x3, or "right", kernel 2x2.

    [B, F, H', W'] -> [B, F, H, W], H' = ceil(H / 2).
    """

    def __init__(self, features: int, way: Way) -> None:
        super().__init__((features, features, 2, 3 if way == "down" else 2), 1, 1.0)
        self.way = way

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """x [B, F, H', W'], (H, W) -> [B, F, H, W]."""
        y = F.conv_transpose2d(x, self.weight, self.bias, stride=2)
        if self.way == "down":
            y = y[..., 1:]  # the kernel's middle column lies on even columns
        y = y[..., : size[0], : size[1]]
        return self.start(y) if self.starting else y

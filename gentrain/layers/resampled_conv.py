"""3x3 convolutions after doubling an image, or before halving it, at less than half of the cost.

A pixel doubled is the same number four times, so a 3x3 convolution of the doubled image takes each of its
outputs from 2x2 pixels of the small one, with sums of its weights. As one layer: a transposed convolution
with a 4x4 kernel and stride 2. In the same way a 3x3 convolution whose outputs are averaged over 2x2 is a 4x4
convolution with stride 2. Both take 16 products for four outputs or for an average, where there were 36.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def spread(weight: Tensor) -> Tensor:
    """3x3 kernels [O, I, 3, 3] -> [O, I, 4, 4]: each convolved with 2x2 ones."""
    wide = F.pad(weight, (0, 1)) + F.pad(weight, (1, 0))
    return F.pad(wide, (0, 0, 0, 1)) + F.pad(wide, (0, 0, 1, 0))


class UpConv2d(nn.Conv2d):
    """A 3x3 convolution of the image doubled by nearest neighbours: [B, I, H, W] -> [B, O, 2H, 2W]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, 2H, 2W]."""
        kernel = spread(self.weight.flip(2, 3)).transpose(0, 1)
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)


class DownConv2d(nn.Conv2d):
    """A 3x3 convolution averaged over 2x2 pixels: [B, I, H, W] -> [B, O, H / 2, W / 2], H and W even."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H / 2, W / 2]."""
        return F.conv2d(input, spread(self.weight) / 4, self.bias, stride=2, padding=1)

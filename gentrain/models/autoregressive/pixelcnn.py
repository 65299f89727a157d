"""The PixelCNN.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.masked_conv import MaskedConv2d, colour_groups
from gentrain.layers.raster import Canvas, Incremental, Residual, SkipSum, incremental
from gentrain.layers.settings import check_for_colours, check_odd
from gentrain.models.autoregressive.autoregressive import Autoregressive


class PixelCNN(Autoregressive):
    """p(x) = prod_i p(x_i | x_1, ..., x_(i-1)), pixels in raster order, R, G, B in each ([1] equations 1, 2).

    A convolution with mask A, `depth` residual blocks of convolutions with mask B ([1] figure 5, left, and
    table 1), and two 1x1 convolutions before the logits. A pixel value of two levels is Bernoulli, of more
    levels categorical ([1] section 3.3 and 5.1). For images of any size.

    Args:
        spec: what the images are.
        channels: 2h, feature maps between the residual blocks; inside a block there are half of them.
        depth: residual blocks.
        first_kernel: size of the kernel with mask A, odd.
        kernel: size of the kernel in the middle of a block, odd.
        head_channels: feature maps of the two 1x1 layers before the logits.
        skips: the head sees the sum of what all blocks make, and not of the last alone.

    Raises:
        ValueError: a setting out of its range.
    """

    formerly: ClassVar[Mapping[str, Any]] = {"skips": False}

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        depth: int,
        first_kernel: int,
        kernel: int,
        head_channels: int,
        skips: bool,
    ) -> None:
        super().__init__(spec, Pixels.softmax(spec.levels))
        colours = spec.shape[0]
        if channels < 2 * colours or channels % 2:
            raise ValueError(
                f"model.channels must be even and at least {2 * colours}, two for each colour channel, "
                f"found {channels}"
            )
        check_for_colours("head_channels", head_channels, colours)
        if depth < 0:
            raise ValueError(f"model.depth must be at least 0, found {depth}")
        for setting, size in (("first_kernel", first_kernel), ("kernel", kernel)):
            check_odd(setting, size)
        image, wide, inside, head = (
            colour_groups(features, colours) for features in (colours, channels, channels // 2, head_channels)
        )
        # Together the blocks about double the variance, whatever their number; near uniform at the end.
        block_gain, logits_gain = math.sqrt(2 / max(depth, 1)), 0.1
        blocks = [
            Residual(
                nn.Sequential(
                    nn.ReLU(),
                    MaskedConv2d(wide, inside, 1, "B"),
                    nn.ReLU(),
                    MaskedConv2d(inside, inside, kernel, "B"),
                    nn.ReLU(),
                    MaskedConv2d(inside, wide, 1, "B", block_gain),
                )
            )
            for _ in range(depth)
        ]
        # What the blocks make is alike, so that their sum grows with their number.
        head_gain = math.sqrt(2) / (depth + 1 if skips else 1)
        # Output p * C + c belongs to colour c.
        logits = MaskedConv2d(head, image * self.pixels.parameters, 1, "B", logits_gain)
        self.network = nn.Sequential(
            MaskedConv2d(image, wide, first_kernel, "A"),
            *([SkipSum(blocks)] if skips else blocks),
            nn.ReLU(),
            MaskedConv2d(wide, head, 1, "B", head_gain),
            nn.ReLU(),
            MaskedConv2d(head, head, 1, "B"),
            nn.ReLU(),
            logits,
        )

    @property
    def stagger(self) -> int:  # type: ignore[override]
        """A path from a pixel to one before it goes right only as it goes up, by one kernel's reach a row."""
        return 1 + max(layer.reach for layer in self.modules() if isinstance(layer, MaskedConv2d))

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> logits [B, P * C, H, W]."""
        # Few feature maps at many positions: twice as quick with the maps of a position together. Not
        # contiguous(), which leaves images of one channel as they are.
        return self.network(x.to(memory_format=torch.channels_last))

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """The network position by position."""
        return incremental(self.network, canvas)

"""A U-Net: down to a narrow place and up again, with a short cut at every resolution.

Ronneberger, Fischer & Brox 2015, "U-Net", arXiv:1505.04597; as the generator of Isola et al. 2017,
"Image-to-Image Translation with Conditional Adversarial Networks", arXiv:1611.07004, section 6.1.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.patch_discriminator import initialise

_LARGEST = 8  # times the first layer's maps
_DROPPED = 3  # layers next to the narrow place that drop features


class UNet(nn.Module):
    """Convolutions of 4x4 pixels with stride 2 down to sides of 1 to 3 pixels, and back.

    Images of any size from 8 pixels up: where a side is odd on its way, the way back is cut to it.

    Args:
        inputs: channels of what it is given.
        outputs: channels of what it makes.
        size: (H, W).
        channels: maps of the first layer; they double downwards, up to 8 times.
        dropout: probability with which the layers next to the narrow place drop features.

    [B, inputs, H, W] -> [B, outputs, H, W] in [-1, 1].

    Raises:
        ValueError: images below 8 pixels.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], channels: int, dropout: float
    ) -> None:
        super().__init__()
        if min(size) < 8:
            raise ValueError(f"a U-Net needs images of at least 8x8 pixels, found {size[0]}x{size[1]}")
        depth, side = 0, min(size)
        while side >= 2 and depth < 8:
            depth, side = depth + 1, side // 2
        maps = [channels * min(2**i, _LARGEST) for i in range(depth)]
        self.down = nn.ModuleList(
            nn.Conv2d(before, after, 4, 2, 1) for before, after in zip([inputs, *maps], maps, strict=False)
        )
        # Of all but the outermost and the innermost: one pixel has no variance to divide by.
        self.down_norm = nn.ModuleList(nn.InstanceNorm2d(m, affine=True) for m in maps[1:-1])
        into = [maps[-1], *(2 * m for m in reversed(maps[:-1]))]
        out = [*reversed(maps[:-1]), outputs]
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(into, out, strict=True))
        self.up_norm = nn.ModuleList(nn.InstanceNorm2d(m, affine=True) for m in out[:-1])
        self.dropout = dropout
        #: Whether features are dropped in eval mode too: the only noise of the paper's generator.
        self.always = True
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, outputs, H, W]."""
        kept: list[Tensor] = []
        h = x
        for i, conv in enumerate(self.down):
            kept.append(h)
            h = conv(h if i == 0 else F.leaky_relu(h, 0.2))
            if 0 < i < len(self.down) - 1:
                h = self.down_norm[i - 1](h)
        for i, conv in enumerate(self.up):
            beside = kept[-1 - i]
            h = conv(F.relu(h), output_size=beside.shape[2:])
            if i == len(self.up) - 1:
                return h.tanh()
            if min(h.shape[2:]) > 1:
                h = self.up_norm[i](h)
            if self.dropout and i < _DROPPED:
                h = F.dropout(h, self.dropout, self.training or self.always)
            h = torch.cat([h, beside], 1)
        raise AssertionError("a U-Net has a last layer")

"""A discriminator of patches: an output for each, the same network on all of them.

Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial Networks", arXiv:1611.07004,
section 3.2.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from gentrain.layers.settings import check_positive

_KERNEL = 4  # pixels of a side
_LARGEST = 8  # times the first layer's maps


class PatchDiscriminator(nn.Module):
    """Convolutions of 4x4 pixels, `depth` of them halving the sides, and two that do not ([paper] section
    6.1.2).

    Args:
        inputs: channels of what it is shown.
        channels: maps of the first layer; they double with each that halves the sides, up to 8 times.
        depth: layers that halve the sides; 1, 2 and 3 see patches of 16, 34 and 70 pixels.

    [B, inputs, H, W] -> [B, 1, h, w], one output for each patch.
    """

    def __init__(self, inputs: int, channels: int, depth: int) -> None:
        super().__init__()
        check_positive("patch_channels", channels)
        check_positive("patch_depth", depth)
        maps = [channels * min(2**i, _LARGEST) for i in range(depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(inputs, maps[0], _KERNEL, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, depth + 1):
            stride = 2 if i < depth else 1
            layers += [
                nn.Conv2d(maps[i - 1], maps[i], _KERNEL, stride, 1, bias=False),
                nn.InstanceNorm2d(maps[i], affine=True),
                nn.LeakyReLU(0.2),
            ]
        self.net = nn.Sequential(*layers, nn.Conv2d(maps[-1], 1, _KERNEL, 1, 1))
        self.depth = depth
        initialise(self)

    @property
    def field(self) -> int:
        """Pixels of a side of the patch that an output sees."""
        size = 1
        strides = [2] * self.depth + [1, 1]
        for stride in reversed(strides):
            size = (size - 1) * stride + _KERNEL
        return size

    @property
    def least(self) -> int:
        """The smallest side of an image that has a patch, where each layer keeps more than one pixel."""
        size = 2  # before the last layer, whose output is one; instance normalisation wants several numbers
        for stride in reversed([2] * self.depth + [1]):
            size = (size - 1) * stride + _KERNEL - 2
        return size

    def check(self, height: int, width: int) -> None:
        """Refuse images without a patch.

        Raises:
            ValueError: a side below `least`.
        """
        if min(height, width) < self.least:
            raise ValueError(
                f"model.patch_depth={self.depth} needs sides of at least {self.least} pixels, found "
                f"{height}x{width}; set model.patch_depth=1"
            )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, 1, h, w]."""
        found: Tensor = self.net(x)
        return found


def initialise(net: nn.Module) -> None:
    """Weights from N(0, 0.02^2), biases 0, gains from N(1, 0.02^2), as in the paper's code."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.InstanceNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, 1, 0.02)
            nn.init.zeros_(module.bias)

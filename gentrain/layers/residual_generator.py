"""A generator of residual blocks that keeps the size of a picture.

Johnson, Alahi & Fei-Fei 2016, "Perceptual Losses for Real-Time Style Transfer", arXiv:1603.08155; as in Zhu
et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
arXiv:1703.10593, section 7.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from gentrain.layers.patch_discriminator import initialise


class Block(nn.Module):
    """x -> x + norm(conv(relu(norm(conv(x))))), edges mirrored; [B, F, H, W]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_layer(features, features, 3, 1), nn.ReLU(), *_layer(features, features, 3, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, H, W] -> [B, F, H, W]."""
        return x + self.body(x)


class ResidualGenerator(nn.Module):
    """c7s1-n, d2n, d4n, R4n x blocks, u2n, un, c7s1, in the paper's words; instance normalisation throughout.

    Args:
        inputs, outputs: channels of what it is given and of what it makes.
        channels: n.
        blocks: how many.

    [B, inputs, H, W] -> [B, outputs, H, W] in [-1, 1], for sides that are multiples of 4 from 8 up.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, blocks: int) -> None:
        super().__init__()
        n = channels
        self.net = nn.Sequential(
            *_layer(inputs, n, 7, 1), nn.ReLU(),
            *_layer(n, 2 * n, 3, 2), nn.ReLU(),
            *_layer(2 * n, 4 * n, 3, 2), nn.ReLU(),
            *(Block(4 * n) for _ in range(blocks)),
            *_up(4 * n, 2 * n), nn.ReLU(),
            *_up(2 * n, n), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(n, outputs, 7), nn.Tanh(),
        )  # fmt: skip
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, inputs, H, W] -> [B, outputs, H, W]."""
        found: Tensor = self.net(x)
        return found


def _layer(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    """A convolution with mirrored edges, and instance normalisation."""
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inputs, outputs, kernel, stride, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
    ]


def _up(inputs: int, outputs: int) -> list[nn.Module]:
    """Twice the sides."""
    return [
        nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1, bias=False),
        nn.InstanceNorm2d(outputs, affine=True),
    ]

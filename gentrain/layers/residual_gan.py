"""The residual generator and discriminator of SNGAN, which BigGAN and conditional models build on.

[1] Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957,
    appendix B.4: the networks for 32x32 pixels.
[2] Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028, appendix F: the blocks.
[3] Miyato & Koyama 2018, "cGANs with Projection Discriminator", arXiv:1802.05637, equation 3.
[4] Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", arXiv:1805.08318, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.conditional_norm import BatchNorm
from gentrain.layers.dcgan import halvings
from gentrain.layers.resampled_conv import DownConv2d, UpConv2d
from gentrain.layers.spectral import normalised

#: The discriminator halves images while their shorter side is above this; then it has two more blocks [1].
SMALLEST = 8
#: For images of a size that these networks do not take.
INSTEAD = "another model, e.g. model=gan model.network=mlp"
#: What a layer starts as: its weight -> None.
Start = Callable[[Tensor], object]


def glorot(weight: Tensor) -> Tensor:
    """Glorot & Bengio 2010, equation 16; times the root of 2 for 3x3 kernels, as in the code of [1]."""
    gain = math.sqrt(2) if weight.ndim == 4 and weight.shape[-1] > 1 else 1.0
    return nn.init.xavier_uniform_(weight, gain)


def layer(made: nn.Conv2d | nn.Linear, start: Start, spectral: bool) -> nn.Module:
    """`made` with its weight started by `start`, its bias at zero, and spectral norm if that is wanted."""
    start(made.weight)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return normalised(made, spectral)


class UpBlock(nn.Module):
    """Normalise, ReLU, double, convolve, normalise, ReLU, convolve; the doubled input is added [2].

    Args:
        in_channels, out_channels: maps.
        norm: maps -> a normalisation, called with (maps, condition).
        spectral: whether its layers are spectrally normalised.
        start: how weights start.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        norm: Callable[[int], nn.Module],
        spectral: bool = False,
        start: Start = glorot,
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList([norm(in_channels), norm(out_channels)])
        self.up = layer(UpConv2d(in_channels, out_channels), start, spectral)
        self.conv = layer(nn.Conv2d(out_channels, out_channels, 3, padding=1), start, spectral)
        self.short = layer(nn.Conv2d(in_channels, out_channels, 1), start, spectral)

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """[B, I, H, W], c [B, Y] -> [B, O, 2H, 2W]."""
        y = self.up(F.relu(self.norms[0](x, c)))
        y = self.conv(F.relu(self.norms[1](y, c)))
        # A 1x1 convolution and nearest neighbours change places: a quarter of the products.
        return y + F.interpolate(self.short(x), scale_factor=2)


class DownBlock(nn.Module):
    """ReLU, convolve, ReLU, convolve, halve if `down`; the input, made to fit, is added [2].

    Args:
        in_channels, out_channels: maps.
        down: whether height and width are halved.
        first: it is shown images, which a ReLU would cut.
        spectral: whether its layers are spectrally normalised.
        start: how weights start.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        down: bool,
        first: bool = False,
        spectral: bool = True,
        start: Start = glorot,
    ) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv = layer(nn.Conv2d(in_channels, out_channels, 3, padding=1), start, spectral)
        last = DownConv2d if down else _Conv3x3
        self.last = layer(last(out_channels, out_channels), start, spectral)
        fits = in_channels == out_channels and not down
        self.short = None if fits else layer(nn.Conv2d(in_channels, out_channels, 1), start, spectral)

    def forward(self, x: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H, W], or halves of H and W."""
        y = self.last(F.relu(self.conv(x if self.first else F.relu(x))))
        short = F.avg_pool2d(x, 2) if self.down else x
        return y + (short if self.short is None else self.short(short))


class _Conv3x3(nn.Conv2d):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)


class Attention(nn.Module):
    """x + g * o, o what each position takes from all others [4]; g starts at zero.

    Keys and values are of maps halved by their largest entries, as in the papers' code; queries and keys have
    an eighth of the maps, values a half.
    """

    def __init__(self, channels: int, spectral: bool, start: Start = glorot) -> None:
        super().__init__()
        eighth, half = max(1, channels // 8), max(1, channels // 2)

        def conv(ins: int, outs: int) -> nn.Module:
            return layer(nn.Conv2d(ins, outs, 1, bias=False), start, spectral)

        self.query, self.key, self.value = (conv(channels, n) for n in (eighth, eighth, half))
        self.out = conv(half, channels)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """[B, F, H, W] -> the same shape."""
        query, key, value = self.query(x), F.max_pool2d(self.key(x), 2), F.max_pool2d(self.value(x), 2)
        q, k, v = (part.flatten(2).transpose(1, 2) for part in (query, key, value))  # [B, positions, maps]
        found = F.scaled_dot_product_attention(q, k, v, scale=1.0)  # [B, H * W, F / 2]
        return x + self.gain * self.out(found.transpose(1, 2).unflatten(2, tuple(x.shape[2:])))


class ResidualGenerator(nn.Module):
    """A linear projection, an `UpBlock` for each doubling, normalise, ReLU, convolve, tanh [1].

    Args:
        latent_dim: numbers of the latent that the projection is given.
        shape: (C, H, W) of the output.
        channels: maps before the last layer.
        growth: maps are so many times as many with each stage away from the image; 1 in [1].
        norm: maps -> a normalisation, called with (maps, condition).
        spectral: whether its layers are spectrally normalised.
        attention: side of the maps after which there is `Attention`; 0: there is none.
        start: how weights start.

    Raises:
        ValueError: a size that `halvings` refuses, or an attention of a size that there is not.
    """

    def __init__(
        self,
        latent_dim: int,
        shape: tuple[int, int, int],
        channels: int,
        growth: int,
        norm: Callable[[int], nn.Module] = BatchNorm,
        spectral: bool = False,
        attention: int = 0,
        start: Start = glorot,
    ) -> None:
        super().__init__()
        out_channels, height, width = shape
        sizes = halvings(height, width, instead=INSTEAD)[::-1]
        widths = [channels * growth**power for power in range(len(sizes))][::-1]
        widths[0] = widths[1]
        height, width = sizes[0]
        self.project = layer(nn.Linear(latent_dim, widths[0] * height * width), start, spectral)
        self.unflatten = nn.Unflatten(1, (widths[0], height, width))
        self.blocks = nn.ModuleList(
            UpBlock(ins, outs, norm, spectral, start) for ins, outs in pairwise(widths)
        )
        self.attention = attention_at(
            attention, [min(size) for size in sizes[1:]], widths[1:], spectral, start
        )
        self.norm = BatchNorm(channels)
        self.conv = layer(nn.Conv2d(channels, out_channels, 3, padding=1), start, spectral)

    @staticmethod
    def doublings(shape: tuple[int, int, int]) -> int:
        """How many blocks there are for images [C, H, W].

        Raises:
            ValueError: a size that `halvings` refuses.
        """
        return len(halvings(shape[1], shape[2], instead=INSTEAD)) - 1

    def forward(self, z: Tensor, conditions: Sequence[Tensor] | None = None) -> Tensor:
        """z [B, D], for each block a condition [B, Y] -> [B, C, H, W] in [-1, 1]."""
        x = self.unflatten(self.project(z))
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = block(x, None if conditions is None else conditions[i])
            if str(i) in self.attention:
                x = self.attention[str(i)](x)
        return torch.tanh(self.conv(F.relu(self.norm(x))))


class ResidualDiscriminator(nn.Module):
    """`DownBlock`s, ReLU, the sum over positions h, a linear output [1]; and <V c, h>, given a condition [3].

    Args:
        shape: (C, H, W) of the input.
        channels: maps of the first block.
        growth: maps are so many times as many with each halving; 1 in [1].
        spectral: whether its layers are spectrally normalised.
        attention: as for the generator.
        known: Y, numbers that are known of an image; 0: none.
        start: how weights start.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        growth: int,
        spectral: bool,
        attention: int = 0,
        known: int = 0,
        start: Start = glorot,
    ) -> None:
        super().__init__()
        in_channels, height, width = shape
        halved = halvings(height, width, instead=INSTEAD)
        halves = max(1, sum(min(part) > SMALLEST for part in halved[:-1]))
        sides = [min(part) for part in halved[1 : halves + 1]]
        sides += 2 * sides[-1:]
        widths = [channels * growth ** min(i, halves) for i in range(halves + 2)]
        blocks = [DownBlock(in_channels, widths[0], True, True, spectral, start)]
        for i, (ins, outs) in enumerate(pairwise(widths), 1):
            blocks.append(DownBlock(ins, outs, i < halves, False, spectral, start))
        self.blocks = nn.ModuleList(blocks)
        self.attention = attention_at(attention, sides, widths, spectral, start)
        self.features = widths[-1]
        self.output = layer(nn.Linear(self.features, 1), start, spectral)
        self.embed = layer(nn.Linear(known, self.features, bias=False), start, spectral) if known else None

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] in [-1, 1], c [B, Y] -> [B]."""
        h = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            h = block(h)
            if str(i) in self.attention:
                h = self.attention[str(i)](h)
        h = F.relu(h).sum((2, 3))
        found: Tensor = self.output(h).squeeze(1)
        if self.embed is not None:
            found = found + (self.embed(c) * h).sum(1)
        return found


def attention_at(
    side: int, sides: Sequence[int], widths: Sequence[int], spectral: bool, start: Start
) -> nn.ModuleDict:
    """{number of the first stage whose maps have this `side`: an `Attention`}; empty for 0.

    Raises:
        ValueError: no stage has maps of this side.
    """
    if not side:
        return nn.ModuleDict()
    if side not in sides or side % 2:
        there = ", ".join(str(s) for s in dict.fromkeys(sides) if s % 2 == 0)
        raise ValueError(f"model.attention must be 0 or a side of the maps, {there}, found {side}")
    stage = list(sides).index(side)
    return nn.ModuleDict({str(stage): Attention(widths[stage], spectral, start)})

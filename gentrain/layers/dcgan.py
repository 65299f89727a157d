"""The convolutional generator and discriminator of Radford et al.

[1] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434, section 3.
[2] Chen et al. 2016, "InfoGAN: Interpretable Representation Learning by Information Maximizing
    Generative Adversarial Nets", arXiv:1606.03657, appendix C.1: the networks for MNIST.
"""

from __future__ import annotations

from torch import Tensor, nn

from gentrain.layers.settings import WrongSize

#: Slope of the discriminator's LeakyReLU below 0, [1] section 4.
SLOPE = 0.2
#: Standard deviation of the initial weights, [1] section 4.
INITIAL_STD = 0.02
#: Normalisations that the networks take.
NORMS = ("batch", "layer", "none")


def halvings(height: int, width: int, instead: str = "model.network=mlp") -> list[tuple[int, int]]:
    """(height, width) before and after each stride-2 stage.

    Both are halved twice, then for as long as they are even and their halves at least 4, the smallest
    size in [1]: 64x64 -> ... -> 4x4, 28x28 -> 14x14 -> 7x7, 8x8 -> 4x4 -> 2x2. With one stage 8x8 pixels
    would leave the discriminator a single layer before its output.

    Args:
        height, width: of the images.
        instead: what a user may type who has images of another size.

    Raises:
        ValueError: a side that is below 8 or no multiple of 4; names the nearest sizes that work.
    """
    if min(height, width) < 8 or height % 4 or width % 4:
        near = [(_multiple_of_4(height, up), _multiple_of_4(width, up)) for up in (False, True)]
        named = [str(h) if height == width else f"[{h},{w}]" for h, w in dict.fromkeys(near)]
        raise WrongSize(
            f"images are {height}x{width}, but these networks take heights and widths that are "
            "multiples of 4 from 8 up",
            " or ".join(named),
            instead,
        )
    sizes = [(height, width)]
    while len(sizes) < 3 or (height % 2 == 0 and width % 2 == 0 and min(height, width) >= 8):
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def _multiple_of_4(side: int, up: bool) -> int:
    """The nearest multiple of 4 on one side of `side`, at least 8."""
    return max(8, -(-side // 4) * 4 if up else side // 4 * 4)


def normalisation(name: str, maps: int, flat: bool = False) -> nn.Module:
    """A new layer for the normalisation `name`, one of `NORMS`, of [B, maps, H, W], or [B, maps] if `flat`.

    `layer` is Ba et al. 2016 (arXiv:1607.06450) over all maps and positions of an example, with a scale
    and a shift per map.
    """
    if name == "batch":
        return nn.BatchNorm1d(maps) if flat else nn.BatchNorm2d(maps)
    return nn.GroupNorm(1, maps) if name == "layer" else nn.Identity()


def initialise(net: nn.Module) -> None:
    """Weights ~ N(0, 0.02^2) ([1] section 4), scales of normalisations ~ N(1, 0.02^2), biases 0."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, INITIAL_STD)
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, INITIAL_STD)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class DCGANGenerator(nn.Sequential):
    """A linear projection to maps of the smallest size, then stride-2 transposed convolutions.

    A normalisation and ReLU follow every layer but the last, which ends in tanh. There are as many
    transposed convolutions as `halvings`; the maps halve in number as they double in size, down to
    `channels` before the last one. With `dense` a fully connected layer comes before the projection [2].

    Args:
        latent_dim: D, units of the input.
        shape: (C, H, W) of the output.
        channels: maps before the last layer.
        dense: units of the fully connected layer before the projection; 0: there is none.
        norm: batch or none.

    [B, D] -> [B, C, H, W] in [-1, 1].

    Raises:
        ValueError: a size that `halvings` refuses.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, int, int], channels: int, dense: int, norm: str
    ) -> None:
        out_channels, height, width = shape
        sizes = halvings(height, width)
        stages = len(sizes) - 1
        height, width = sizes[-1]
        maps = channels * 2 ** (stages - 1)
        # A bias before BatchNorm would be taken out again.
        bias = norm == "none"
        layers: list[nn.Module] = []
        if dense:
            layers += [nn.Linear(latent_dim, dense, bias=bias), normalisation(norm, dense, True), nn.ReLU()]
        layers += [
            nn.Linear(dense or latent_dim, maps * height * width, bias=bias),
            nn.Unflatten(1, (maps, height, width)),
            normalisation(norm, maps),
            nn.ReLU(),
        ]
        for _ in range(stages - 1):
            layers += [
                nn.ConvTranspose2d(maps, maps // 2, 4, 2, 1, bias=bias),
                normalisation(norm, maps // 2),
                nn.ReLU(),
            ]
            maps //= 2
        super().__init__(*layers, nn.ConvTranspose2d(maps, out_channels, 4, 2, 1), nn.Tanh())
        initialise(self)


class DCGANDiscriminator(nn.Module):
    """Stride-2 convolutions with LeakyReLU, then a linear output.

    Every layer but the first and the output is normalised. The number of maps starts at `channels` and
    doubles as their size halves. With `dense` a fully connected layer, normalised and with LeakyReLU, comes
    before the output [2]: it sees the image as a whole, which a unit of the last maps does not.

    Args:
        shape: (C, H, W) of the input.
        channels: maps of the first layer.
        dense: units of the fully connected layer before the output; 0: there is none.
        norm: one of `NORMS`.

    [B, C, H, W] in [-1, 1] -> [B]. `units` is how many numbers the output is a linear function of.

    Raises:
        ValueError: a size that `halvings` refuses.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int, dense: int, norm: str) -> None:
        super().__init__()
        in_channels, height, width = shape
        sizes = halvings(height, width)
        height, width = sizes[-1]
        maps = channels
        bias = norm == "none"
        layers: list[nn.Module] = [nn.Conv2d(in_channels, maps, 4, 2, 1), nn.LeakyReLU(SLOPE)]
        for _ in sizes[2:]:
            layers += [
                nn.Conv2d(maps, 2 * maps, 4, 2, 1, bias=bias),
                normalisation(norm, 2 * maps),
                nn.LeakyReLU(SLOPE),
            ]
            maps *= 2
        layers.append(nn.Flatten())
        units = maps * height * width
        if dense:
            layers += [
                nn.Linear(units, dense, bias=bias),
                normalisation(norm, dense, True),
                nn.LeakyReLU(SLOPE),
            ]
            units = dense
        self.units = units
        self.net = nn.Sequential(*layers, nn.Linear(units, 1))
        initialise(self)

    def features(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, units], what the output is a linear function of."""
        h: Tensor = self.net[:-1](x)
        return h

    def output(self, h: Tensor) -> Tensor:
        """`features` [B, units] -> [B]."""
        y: Tensor = self.net[-1](h)
        return y.squeeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B]."""
        return self.output(self.features(x))

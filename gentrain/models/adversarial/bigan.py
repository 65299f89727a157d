"""The bidirectional GAN: an encoder learns beside the generator, and pairs are judged.

[1] Donahue, Kraehenbuehl & Darrell 2017, "Adversarial Feature Learning", arXiv:1605.09782.
[2] Dumoulin et al. 2017, "Adversarially Learned Inference", arXiv:1606.00704, appendix A.
[3] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.buffers import buffers_kept
from gentrain.contracts import Batch, DataSpec, ImagesToLatents
from gentrain.layers.dcgan import SLOPE, DCGANDiscriminator, DCGANGenerator, initialise
from gentrain.layers.mlp import Linear
from gentrain.layers.settings import check_choice, check_positive
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.game import Contest

NETWORKS = ("dcgan", "mlp")


class Perceptron(nn.Module):
    """Hidden layers as in the code of [1]: what stands beside is added in each of them but the first.

    Batch normalisation, without parameters, comes before the activation. With one hidden layer alone, what
    stands beside is added there.

    Args:
        sizes: of input, hidden layers and output.
        activation: after each hidden layer.
        beside: D, numbers of what stands beside; 0: nothing does.
        normed: the first hidden layer that is normalised, counted from 0; None: none is.
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[], nn.Module], *, beside: int, normed: int | None
    ) -> None:
        super().__init__()
        hidden = sizes[1:-1]
        self.layers = nn.ModuleList(Linear(ins, outs) for ins, outs in pairwise(sizes[:-1]))
        self.norms = nn.ModuleList(
            nn.Identity() if normed is None or i < normed else nn.BatchNorm1d(units, affine=False)
            for i, units in enumerate(hidden)
        )
        self.told = min(1, len(hidden) - 1)  # the first layer in which what stands beside is added
        self.beside = nn.ModuleList(
            Linear(beside, units, bias=False) for units in hidden[self.told :] if beside
        )
        self.activation = activation()
        self.output = Linear(sizes[-2], sizes[-1])
        initialise(self)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """x [B, sizes[0]], what stands beside, z [B, D] -> [B, sizes[-1]]."""
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = layer(x)
            if z is not None and i >= self.told:
                x = x + self.beside[i - self.told](z)
            x = self.activation(norm(x))
        found: Tensor = self.output(x)
        return found


def leaky() -> nn.Module:
    """The activation of encoder and discriminator [1]."""
    return nn.LeakyReLU(SLOPE)


class FromLatents(nn.Module):
    """G of flat images: z comes in at the first layer and again at each later one. [B, D] -> [B, C, H, W]."""

    def __init__(self, latent_dim: int, hidden: Sequence[int], shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.again = len(hidden) > 1
        sizes = [latent_dim, *hidden, prod(shape)]
        self.net = Perceptron(sizes, nn.ReLU, beside=latent_dim if self.again else 0, normed=0)
        self.shape = shape

    def forward(self, z: Tensor) -> Tensor:
        """z [B, D] -> [B, C, H, W] in [-1, 1]."""
        return self.net(z, z if self.again else None).tanh().unflatten(1, self.shape)


class Pairs(nn.Module):
    """D(x, z) of flat images: the latent comes in after the first layer [1]. [B, C, H, W], [B, D] -> [B]."""

    def __init__(self, net: Perceptron) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x [B, C, H, W], z [B, D] -> [B]."""
        found: Tensor = self.net(x.flatten(1), z)
        return found.squeeze(1)


class ConvPairs(nn.Module):
    """D(x, z): features of the image by convolutions, of the latent by a layer, then both together [2].

    Args:
        latent_dim: D.
        shape: (C, H, W).
        channels: maps of the first convolution.
        dense: units of each of the three parts.
        norm: of the convolutions.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, int, int], channels: int, dense: int, norm: str
    ) -> None:
        super().__init__()
        self.of_x = DCGANDiscriminator(shape, channels, 0, norm)
        self.of_x.net[-1] = nn.Linear(self.of_x.units, dense)
        self.of_z = nn.Linear(latent_dim, dense)
        self.of_both = nn.Sequential(leaky(), nn.Linear(2 * dense, dense), leaky(), nn.Linear(dense, 1))
        initialise(self)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x [B, C, H, W], z [B, D] -> [B]."""
        h = torch.cat([self.of_x.net(x), self.of_z(z.to(x.dtype))], 1)
        found: Tensor = self.of_both(h)
        return found.squeeze(1)


class IntoPrior(nn.Module):
    """Numbers on the line -> latents that a uniform prior has, 2 sigmoid(a) - 1, as in the code of [1]."""

    def forward(self, a: Tensor) -> Tensor:
        """[B, D] -> [B, D] in [-1, 1]."""
        return 2 * a.sigmoid() - 1


class BiGAN(Adversarial, ImagesToLatents):
    """Pairs (x, E(x)) against pairs (G(z), z) [1] equation 2. Where D cannot tell them, E is G's inverse.

    E moves in the generator's turn and wants its pairs taken for the generator's.

    Args:
        spec: what the images are.
        network: mlp, the perceptrons of [1] for MNIST, for images of any size; dcgan: convolutions as in [3],
            for heights and widths that are multiples of 4 from 8 up.
        hidden: mlp: units of the hidden layers of all three networks, one or more; [1024, 1024] in [1].
        channels: dcgan: maps next to the image.
        dense: dcgan: units of the discriminator's features of image, of latent, and of both.
        settings: of `Adversarial`.

    Raises:
        ValueError: a size that the networks cannot take, or a setting out of its range.
    """

    lacks: ClassVar[Mapping[str, str]] = {"eval": Adversarial.lacks["eval"]}

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        hidden: Sequence[int],
        channels: int,
        dense: int,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_choice("network", network, NETWORKS)
        check_positive("hidden", *hidden)
        check_positive("channels", channels)
        check_positive("dense", dense)
        latent_dim = self.latent_dim
        end = IntoPrior() if self.latent_prior == "uniform" else nn.Identity()
        if network == "mlp":
            self.generator = FromLatents(latent_dim, hidden, spec.shape)
            to_latents = Perceptron([spec.dims, *hidden, latent_dim], leaky, beside=0, normed=1)
            self.encoder = nn.Sequential(nn.Flatten(), to_latents, end)
            normed = None if self.objective.penalised else 1
            self.discriminator = Pairs(
                Perceptron([spec.dims, *hidden, 1], leaky, beside=latent_dim, normed=normed)
            )
            return
        norm = "layer" if self.objective.penalised else "batch"
        self.generator = DCGANGenerator(latent_dim, spec.shape, channels, 0, "batch")
        trunk = DCGANDiscriminator(spec.shape, channels, 0, "batch")
        trunk.net[-1] = nn.Linear(trunk.units, latent_dim)
        initialise(trunk)
        self.encoder = nn.Sequential(trunk.net, end)
        self.discriminator = ConvPairs(latent_dim, spec.shape, channels, dense, norm)

    def players(self) -> dict[str, list[nn.Module]]:
        """The encoder plays with the generator."""
        return {"discriminator": [self.discriminator], "generator": [self.generator, self.encoder]}

    def contestants(self, batch: Batch) -> Contest:
        """(x, E(x)) and (G(z), z)."""
        x, z = self.scaled(batch.x), self._prior_draws(len(batch.x))
        return Contest((x, self.encoder(x)), (self.generator(z), z), (z,))

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """What the encoder minimises; logs `latent_error`, the mean of |E(G(z)) - z|."""
        if turn == "discriminator":
            return None, {}
        with torch.no_grad(), buffers_kept(self.encoder):  # its statistics are of images
            fake = contest.fake[0].detach().to(self._like.dtype)
            error = (self.encoder(fake) - contest.drawn[0]).abs().mean()
        return self.objective.encoder(self.judged(contest.real)), {"latent_error": error}

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """E(x)."""
        found: Tensor = self.encoder(self.scaled(x))
        return found

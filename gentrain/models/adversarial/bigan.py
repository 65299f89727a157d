"""The bidirectional GAN: an encoder learns beside the generator, and pairs are judged.

[1] Donahue, Kraehenbuehl & Darrell 2017, "Adversarial Feature Learning", arXiv:1605.09782.
[2] Dumoulin et al. 2017, "Adversarially Learned Inference", arXiv:1606.00704, appendix A.
[3] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
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


def perceptron(sizes: Sequence[int], activation: Callable[[], nn.Module], norm: bool = True) -> nn.Sequential:
    """[B, sizes[0]] -> [B, sizes[-1]], [1] appendix C: hidden layers but the first are normalised if `norm`.

    By batch normalisation without parameters.
    """
    layers: list[nn.Module] = []
    for i, (ins, outs) in enumerate(pairwise(sizes[:-1])):
        normed = [nn.BatchNorm1d(outs, affine=False)] if i and norm else []
        layers += [Linear(ins, outs), *normed, activation()]
    net = nn.Sequential(*layers, Linear(sizes[-2], sizes[-1]))
    initialise(net)
    return net


def leaky() -> nn.Module:
    """The activation of encoder and discriminator [1]."""
    return nn.LeakyReLU(SLOPE)


class Pairs(nn.Module):
    """D(x, z) of flat images: a perceptron of all numbers together [1]. [B, C, H, W], [B, D] -> [B]."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """x [B, C, H, W], z [B, D] -> [B]."""
        found: Tensor = self.net(torch.cat([x.flatten(1), z.to(x.dtype)], 1))
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


class LikePrior(nn.BatchNorm1d):
    """Each latent dimension with mean 0 and the prior's variance over a batch, as in the code of [1]."""

    def __init__(self, latent_dim: int, std: float) -> None:
        super().__init__(latent_dim, affine=False)
        self.std = std

    def forward(self, input: Tensor) -> Tensor:
        """[B, D] -> [B, D]."""
        return self.std * super().forward(input)


class BiGAN(Adversarial, ImagesToLatents):
    """Pairs (x, E(x)) against pairs (G(z), z) [1] equation 2. Where D cannot tell them, E is G's inverse.

    E moves in the generator's turn and wants its pairs taken for the generator's.

    Args:
        spec: what the images are.
        network: mlp, the perceptrons of [1] for MNIST, for images of any size; dcgan: convolutions as in [3],
            for heights and widths that are multiples of 4 from 8 up.
        hidden: mlp: units of the hidden layers of all three networks; [1024, 1024] in [1].
        channels: dcgan: maps next to the image.
        dense: dcgan: units of the discriminator's features of image, of latent, and of both.
        encoder_norm: whether E(x) has mean 0 and the prior's variance over a batch.
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
        encoder_norm: bool,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_choice("network", network, NETWORKS)
        check_positive("hidden", *hidden)
        check_positive("channels", channels)
        check_positive("dense", dense)
        latent_dim = self.latent_dim
        end = LikePrior(latent_dim, self._prior_std) if encoder_norm else nn.Identity()
        if network == "mlp":
            to_image = perceptron([latent_dim, *hidden, spec.dims], nn.ReLU)
            self.generator = nn.Sequential(to_image, nn.Tanh(), nn.Unflatten(1, spec.shape))
            self.encoder = nn.Sequential(
                nn.Flatten(), perceptron([spec.dims, *hidden, latent_dim], leaky), end
            )
            both = [spec.dims + latent_dim, *hidden, 1]
            self.discriminator = Pairs(perceptron(both, leaky, not self.objective.penalised))
            return
        norm = "layer" if self.objective.penalised else "batch"
        self.generator = DCGANGenerator(latent_dim, spec.shape, channels, 0, "batch")
        trunk = DCGANDiscriminator(spec.shape, channels, 0, "batch")
        trunk.net[-1] = nn.Linear(trunk.units, latent_dim)
        initialise(trunk)
        self.encoder = nn.Sequential(trunk.net, end)
        self.discriminator = ConvPairs(latent_dim, spec.shape, channels, dense, norm)

    @property
    def _prior_std(self) -> float:
        """Of each latent dimension."""
        return 1.0 if self.latent_prior == "gaussian" else 3**-0.5

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

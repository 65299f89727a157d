"""The conditional GAN: p(x|y) of labels, attributes or captions.

[1] Mirza & Osindero 2014, "Conditional Generative Adversarial Nets", arXiv:1411.1784.
[2] Miyato & Koyama 2018, "cGANs with Projection Discriminator", arXiv:1802.05637.
[3] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import DataSpec, MixesConditions
from gentrain.layers.condition import ConditionVector
from gentrain.layers.conditional_norm import ConditionalBatchNorm
from gentrain.layers.dcgan import DCGANDiscriminator, DCGANGenerator
from gentrain.layers.mlp import MLP
from gentrain.layers.residual_gan import ResidualDiscriminator, ResidualGenerator
from gentrain.layers.settings import check_choice, check_positive, check_weight
from gentrain.models.adversarial.adversarial import Adversarial

LABEL_BY = ("concatenation", "projection")
NETWORKS = ("auto", "dcgan", "mlp", "residual")


class BesideLatents(nn.Module):
    """G(z, y): the numbers that are known stand beside the latents, [1] figure 1."""

    def __init__(self, net: nn.Module, vector: ConditionVector) -> None:
        super().__init__()
        self.net, self.vector = net, vector

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, ...] -> [B, C, H, W]."""
        found: Tensor = self.net(torch.cat([z, self.vector(y, z.dtype)], 1))
        return found


class BesideImages(nn.Module):
    """D(x, y): the numbers that are known stand beside the pixels [1]: as maps, or as they are if `flat`."""

    def __init__(self, net: nn.Module, vector: ConditionVector, flat: bool) -> None:
        super().__init__()
        self.net, self.vector, self.flat = net, vector, flat

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, H, W], y [B, ...] -> [B]."""
        c = self.vector(y, x.dtype)
        c, x = (c, x.flatten(1)) if self.flat else (c[:, :, None, None].expand(-1, -1, *x.shape[2:]), x)
        found: Tensor = self.net(torch.cat([x, c], 1))
        return found


class ByGains(nn.Module):
    """G(z, y): what is known decides gains and shifts of every block's normalisations, [2] section 4."""

    def __init__(self, net: ResidualGenerator, vector: ConditionVector) -> None:
        super().__init__()
        self.net, self.vector = net, vector

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, ...] -> [B, C, H, W]."""
        c = self.vector(y, z.dtype)
        found: Tensor = self.net(z, [c] * len(self.net.blocks))
        return found


class ByProjection(nn.Module):
    """D(x, y) with <V y, h(x)> in it, [2] equation 3."""

    def __init__(self, net: ResidualDiscriminator, vector: ConditionVector) -> None:
        super().__init__()
        self.net, self.vector = net, vector

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, H, W], y [B, ...] -> [B]."""
        found: Tensor = self.net(x, self.vector(y, x.dtype))
        return found


class CGAN(Adversarial, MixesConditions):
    """G(z, y) against D(x, y). A fake is judged with what it was made for, which is drawn from the data.

    Args:
        spec: what the images are.
        label_by: concatenation [1]: y beside the latents and beside the pixels. projection [2]: by gains and
            shifts of the generator's normalisations, and by an inner product in the discriminator.
        network: dcgan [3] or mlp [1] with concatenation; residual, the networks of [2], with projection or
            concatenation; auto: dcgan, with projection residual.
        channels: dcgan, residual: maps of both networks next to the image.
        dense: dcgan: units of a fully connected layer on the latents' side, in both networks; 0: none.
        hidden: mlp: units of the generator's hidden layers; the discriminator has them in reverse.
        settings: of `Adversarial`.

    Raises:
        ValueError: images without anything known of them, a size that the network cannot take, or a setting
            out of its range.
    """

    takes: ClassVar[tuple[str, ...]] = ("label", "attributes", "caption")

    def __init__(
        self,
        spec: DataSpec,
        *,
        label_by: str,
        network: str,
        channels: int,
        dense: int,
        hidden: Sequence[int],
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_choice("label_by", label_by, LABEL_BY)
        check_choice("network", network, NETWORKS)
        check_positive("channels", channels)
        check_weight("dense", dense)
        check_positive("hidden", *hidden)
        if network == "auto":
            network = "residual" if label_by == "projection" else "dcgan"
        if label_by == "projection" and network != "residual":
            raise ValueError(
                f"model.network must be auto or residual with model.label_by=projection, found {network!r}"
            )
        condition = self.condition_of(spec)
        vector = ConditionVector(condition.size, tokens=condition.name == "caption")
        self.one_pass = network == "residual"
        if label_by == "projection":
            norm = partial(ConditionalBatchNorm, known=vector.size)
            to_image = ResidualGenerator(self.latent_dim, spec.shape, channels, 1, norm)
            self.generator = ByGains(to_image, vector)
            judge = ResidualDiscriminator(spec.shape, channels, 1, spectral=True, known=vector.size)
            self.discriminator = ByProjection(judge, vector)
            return
        images = (spec.shape[0] + vector.size, *spec.shape[1:])
        inputs = self.latent_dim + vector.size
        makes: nn.Module
        judges: nn.Module
        if network == "dcgan":
            makes = DCGANGenerator(inputs, spec.shape, channels, dense, "batch")
            norm_of_d = "layer" if self.objective.penalised else "batch"
            judges = DCGANDiscriminator(images, channels, dense, norm_of_d)
        elif network == "residual":
            makes = ResidualGenerator(inputs, spec.shape, channels, 1)
            judges = ResidualDiscriminator(images, channels, 1, spectral=True)
        else:
            perceptron = MLP([inputs, *hidden, spec.dims], "relu")
            makes = nn.Sequential(perceptron, nn.Tanh(), nn.Unflatten(1, spec.shape))
            perceptron = MLP([spec.dims + vector.size, *reversed(hidden), 1], "leaky_relu")
            judges = nn.Sequential(perceptron, nn.Flatten(0))
        self.generator = BesideLatents(makes, vector)
        self.discriminator = BesideImages(judges, vector, flat=network == "mlp")

"""The generative adversarial network.

[1] Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv:1406.2661.
[2] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
[3] Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from gentrain.contracts import DataSpec
from gentrain.layers.dcgan import DCGANDiscriminator, DCGANGenerator
from gentrain.layers.mlp import MLP
from gentrain.layers.settings import check_choice, check_positive
from gentrain.models.adversarial.adversarial import Adversarial

NETWORKS = ("dcgan", "mlp")
#: Choices of `norm` and `generator_norm`.
NORM_CHOICES = ("auto", "batch", "layer", "none")
GENERATOR_NORM_CHOICES = ("auto", "batch", "none")


class GAN(Adversarial):
    """A generator G(z) against a discriminator D(x) [1], with the networks of [2] by default.

    Args:
        spec: what the images are.
        network: dcgan: convolutions as in [2], for heights and widths that are multiples of 4 from 8 up.
            mlp: fully connected as in [1], for images of any size, with LeakyReLU in the discriminator
            where [1] has maxout and dropout, and linear layers that start as in `layers.mlp.MLP`.
        channels: dcgan: maps of the discriminator's first and before the generator's last layer; they
            double with each stage away from the image.
        dense: dcgan: units of a fully connected layer on the latents' side of the smallest maps, in both
            networks, as Chen et al. 2016 (arXiv:1606.03657, appendix C.1) have for MNIST; 0: none, as in [2].
        hidden: mlp: units of the generator's hidden layers; the discriminator has them in reverse.
        norm: dcgan's discriminator: batch, layer or none; auto is batch, and layer under wgan_gp, whose
            penalty wants D(x) to depend on x alone ([3] section 4).
        generator_norm: dcgan's generator: batch or none; auto is batch.
        settings: of `Adversarial`.

    Raises:
        ValueError: a size that the network cannot take, or a setting out of its range.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        channels: int,
        dense: int,
        hidden: Sequence[int],
        norm: str,
        generator_norm: str,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        latent_dim = self.latent_dim
        check_choice("network", network, NETWORKS)
        check_choice("norm", norm, NORM_CHOICES)
        check_choice("generator_norm", generator_norm, GENERATOR_NORM_CHOICES)
        check_positive("channels", channels)
        if dense < 0:
            raise ValueError(f"model.dense must be at least 0, found {dense}")
        check_positive("hidden", *hidden)
        if network == "dcgan":
            if norm == "auto":
                norm = "layer" if self.objective.penalised else "batch"
            generator_norm = "batch" if generator_norm == "auto" else generator_norm
            self.generator = DCGANGenerator(latent_dim, spec.shape, channels, dense, generator_norm)
            self.discriminator = DCGANDiscriminator(spec.shape, channels, dense, norm)
            return
        for key, value in (("norm", norm), ("generator_norm", generator_norm)):
            if value not in ("auto", "none"):
                raise ValueError(f"model.{key} must be auto or none with model.network=mlp, found {value!r}")
        to_image = nn.Unflatten(1, spec.shape)
        self.generator = nn.Sequential(MLP([latent_dim, *hidden, spec.dims], "relu"), nn.Tanh(), to_image)
        self.discriminator = nn.Sequential(
            nn.Flatten(), MLP([spec.dims, *reversed(hidden), 1], "leaky_relu"), nn.Flatten(0)
        )

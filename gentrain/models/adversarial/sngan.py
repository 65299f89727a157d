"""The spectrally normalised GAN with residual networks.

[1] Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", arXiv:1802.05957.
"""

from __future__ import annotations

from typing import Any

from gentrain.contracts import DataSpec
from gentrain.layers.residual_gan import ResidualDiscriminator, ResidualGenerator
from gentrain.layers.settings import check_positive
from gentrain.models.adversarial.adversarial import Adversarial


class SNGAN(Adversarial):
    """Residual networks; every weight of the discriminator has largest singular value 1: D is Lipschitz [1].

    With 256 and 128 channels, 128 latents and 32x32 pixels the networks are those of [1] appendix B.4, of
    4.28 and 1.05 million parameters.

    Args:
        spec: what the images are; heights and widths that are multiples of 4 from 8 up.
        channels: maps of the generator next to the image.
        discriminator_channels: maps of the discriminator next to the image.
        growth: both have so many times as many with each stage away from the image; 1 in [1] for 32x32.
        spectral: whether the discriminator is spectrally normalised.
        settings: of `Adversarial`.

    Raises:
        ValueError: a size that the networks cannot take, or a setting out of its range.
    """

    one_pass = True

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        discriminator_channels: int,
        growth: int,
        spectral: bool,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_positive("channels", channels)
        check_positive("discriminator_channels", discriminator_channels)
        check_positive("growth", growth)
        self.generator = ResidualGenerator(self.latent_dim, spec.shape, channels, growth)
        self.discriminator = ResidualDiscriminator(spec.shape, discriminator_channels, growth, spectral)

"""The variational autoencoder.

[1] Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114.
[2] Rezende, Mohamed & Wierstra 2014, "Stochastic Backpropagation and Approximate Inference in Deep
    Generative Models", arXiv:1401.4082.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.distributions import Independent

from gentrain.contracts import DataSpec, EncodesDecodes, ImagesToLatents
from gentrain.distributions import Pixels
from gentrain.layers.encoder_decoder import EncoderDecoder, encoder_decoder
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder.latent_variable import LatentVariableModel


class VAE(LatentVariableModel, EncodesDecodes, ImagesToLatents):
    """A latent variable model trained on -ELBO [1, 2].

    Args:
        spec: what the images are.
        network: one of `layers.encoder_decoder.NETWORKS`.
        latent_dim: D, the number of latent dimensions.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers, the decoder has them in reverse; conv: one
            number, the units of the linear layer between feature maps and latents.
        activation: one of `layers.activation.ACTIVATIONS`.
        dropout: conv: probability with which an input of the encoder's linear layers is zeroed in training.
        likelihood: p(x|z), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|z) or takes their mean.

    Raises:
        ValueError: a setting out of its range, or images too small for the network.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        latent_dim: int,
        channels: Sequence[int],
        hidden: Sequence[int] | int,
        activation: str,
        dropout: float,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latent_dim", latent_dim)
        pixels = Pixels.of(likelihood, spec.levels, mixtures)
        networks = self.networks(
            spec,
            network,
            codes=2 * latent_dim,
            latents=latent_dim,
            start=pixels.start(spec.shape[0]),
            channels=channels,
            hidden=hidden,
            activation_name=activation,
            dropout=dropout,
        )
        super().__init__(
            spec, latent_dim=latent_dim, networks=networks, pixels=pixels, sample_pixels=sample_pixels
        )

    @classmethod
    def networks(cls, spec: DataSpec, network: str, **settings: Any) -> EncoderDecoder:
        """The encoder and the decoder: arguments as of `encoder_decoder`."""
        return encoder_decoder(network, spec.shape, **settings, black_is_zero=True)

    def _encode(self, x: Tensor, *y: Tensor) -> Independent:
        return self._posterior(x, *y)

    def _decode(self, z: Tensor, *y: Tensor) -> Independent:
        return self._likelihood(z, *y)

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """The mean of q(z|x)."""
        return self._posterior(x, *y).mean

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level nearest to the mean of p(x|z)."""
        return self._images(z, *y)

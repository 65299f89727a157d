"""The autoencoder: an encoder and a decoder that squeeze images through a narrow code.

[1] Baldi & Hornik 1989, "Neural Networks and Principal Component Analysis: Learning from Examples Without
    Local Minima", Neural Networks 2(1).
[2] Hinton & Salakhutdinov 2006, "Reducing the Dimensionality of Data with Neural Networks", Science 313.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, ImagesToLatents
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.settings import check_positive


class AE(ImagesToLatents):
    """x' = decoder(encoder(x)), trained on the squared error |x' - x|^2 of pixels in [0, 1] [2].

    With `network=linear` its minimum is the error of PCA with as many components as there are latent
    dimensions, and the loss has no other local minimum [1]. There is no density anywhere: neither over
    images nor over latents.

    Args:
        spec: what the images are.
        network: one of `layers.encoder_decoder.NETWORKS`.
        latent_dim: D, the number of latent dimensions.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers, the decoder has them in reverse; conv: one
            number, the units of the linear layer between feature maps and latents.
        activation: one of `layers.activation.ACTIVATIONS`; linear has none.

    Raises:
        ValueError: a setting out of its range, or images too small for the network.
    """

    latent_prior = "none"
    lacks = {  # noqa: RUF012 - ClassVar in the base class
        "sample": "a plain autoencoder learns no density over its latents, so there is nothing to draw "
        "from; train model=vae, or model=dae, whose Markov chain samples",
        "eval": "the squared error of a plain autoencoder is no log-likelihood; train model=vae",
    }

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        latent_dim: int,
        channels: Sequence[int],
        hidden: Sequence[int] | int,
        activation: str,
    ) -> None:
        super().__init__(spec)
        check_positive("latent_dim", latent_dim)
        self.latent_dim = latent_dim
        networks = encoder_decoder(
            network,
            spec.shape,
            codes=latent_dim,
            latents=latent_dim,
            start=torch.full((spec.shape[0],), 0.5),  # the middle of [0, 1]
            channels=channels,
            hidden=hidden,
            activation_name=activation,
        )
        self.encoder, self.decoder = networks.encoder, networks.decoder

    def _pixels(self, x: Tensor) -> Tensor:
        """uint8 [B, C, H, W] -> the same in [0, 1]."""
        return x.to(self._like.dtype) / (self.spec.levels - 1)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The squared error of pixels in [0, 1], summed over an image and averaged over the batch."""
        pixels = self._pixels(batch.x)
        # The difference has the pixels' dtype, which is no half precision under autocast either.
        squared_error = (pixels - self.decoder(self.encoder(pixels))).square().flatten(1).sum(1)  # [B]
        loss = squared_error.mean()
        return loss, {"mse": loss.detach() / self.spec.dims}

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """The code."""
        return self.encoder(self._pixels(x))

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The nearest level of each pixel."""
        pixels = self.decoder(z).clamp(0, 1)
        return (pixels * (self.spec.levels - 1)).round().to(torch.uint8)

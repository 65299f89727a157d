"""The conditional variational autoencoder: p(x|y) of images with labels, attributes or captions y.

[1] Sohn, Lee & Yan 2015, "Learning Structured Output Representation using Deep Conditional Generative
    Models", NeurIPS 2015.
[2] Kingma, Rezende, Mohamed & Welling 2014, "Semi-supervised Learning with Deep Generative Models",
    arXiv:1406.5298, its model M2 with all labels known.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import Condition, Conditional, DataSpec
from gentrain.layers.condition import ConditionVector
from gentrain.layers.encoder_decoder import EncoderDecoder, encoder_decoder
from gentrain.models.autoencoder.vae import VAE


class ConditionalEncoder(nn.Module):
    """An encoder that sees the condition as one more channel of the image, learnt per condition.

    Args:
        encoder: [B, C + 1, H, W] -> [B, codes].
        condition: what is given of an image.
        size: (H, W) of the images.

    x [B, C, H, W], y [B, ...] -> [B, codes].
    """

    def __init__(self, encoder: nn.Module, condition: Condition, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        self.vector = ConditionVector(condition.size, tokens=condition.name == "caption")
        self.embedding = nn.Sequential(
            nn.Linear(condition.size, height * width), nn.Unflatten(1, (1, height, width))
        )
        self.encoder = encoder

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, H, W], y [B, ...] -> [B, codes]."""
        return self.encoder(torch.cat([x, self.embedding(self.vector(y, x.dtype))], dim=1))


class ConditionalDecoder(nn.Module):
    """A decoder that sees the condition beside the latents.

    Args:
        decoder: [B, D + Y] -> [B, out_channels, H, W].
        condition: what is given of an image; Y is its size.

    z [B, D], y [B, ...] -> [B, out_channels, H, W].
    """

    def __init__(self, decoder: nn.Module, condition: Condition) -> None:
        super().__init__()
        self.vector = ConditionVector(condition.size, tokens=condition.name == "caption")
        self.decoder = decoder

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, ...] -> [B, out_channels, H, W]."""
        return self.decoder(torch.cat([z, self.vector(y, z.dtype)], dim=1))


class CVAE(VAE, Conditional):
    """p(x|y) with p(z) = N(0, I), p(x|z, y) from a decoder and q(z|x, y) from an encoder [1, 2].

    y is the label as a one-hot vector where the data have labels, else the boolean attributes, else the
    counts of a caption's words. Settings as of the `VAE`.

    Raises:
        ValueError: data with nothing to condition on, a setting out of its range, or images too small for
            the network.
    """

    takes: ClassVar[tuple[str, ...]] = ("label", "attributes", "caption")
    lacks = {  # noqa: RUF012 - ClassVar in the base class
        "probe": "its encoder is given the label, which a classifier of its latents would find there"
    }

    @classmethod
    def networks(cls, spec: DataSpec, network: str, **settings: Any) -> EncoderDecoder:
        """Those of the VAE, with one more channel to encode and the condition beside the latents."""
        condition = cls.condition_of(spec)
        channels, height, width = spec.shape
        settings["latents"] += condition.size
        plain = encoder_decoder(network, (channels + 1, height, width), **settings, black_is_zero=True)
        return EncoderDecoder(
            ConditionalEncoder(plain.encoder, condition, (height, width)),
            ConditionalDecoder(plain.decoder, condition),
        )

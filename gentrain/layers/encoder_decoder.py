"""Pairs of an encoder and a decoder that mirror each other, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gentrain.layers.conv import ConvDecoder, ConvEncoder
from gentrain.layers.mlp import MLP
from gentrain.layers.settings import WrongSize, check_choice, check_positive

NETWORKS = ("linear", "mlp", "conv")


class EncoderDecoder(NamedTuple):
    """encoder: [B, C, H, W] in [-1, 1] -> [B, codes]; decoder: [B, latents] -> [B, out_channels, H, W]."""

    encoder: nn.Module
    decoder: nn.Module


class FlattenToUnit(nn.Flatten):
    """[B, C, H, W] in [-1, 1] -> [B, C H W] in [0, 1].

    Of images that are nearly all black, -1 for black would move every hidden unit alike, by hundreds of
    weights at a time; 0 moves none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, C H W]."""
        return super().forward(x) * 0.5 + 0.5


def encoder_decoder(
    network: str,
    shape: tuple[int, int, int],
    *,
    codes: int,
    latents: int,
    start: Tensor,
    channels: Sequence[int],
    hidden: Sequence[int] | int,
    activation_name: str,
    dropout: float = 0.0,
    black_is_zero: bool = False,
) -> EncoderDecoder:
    """An encoder and a decoder of the kind `network`.

    Args:
        network: linear (one layer each, no activation), mlp or conv (strided convolutions, images of
            8x8 pixels and more).
        shape: (C, H, W) of the encoder's input.
        codes: units of the encoder's output.
        latents: units of the decoder's input.
        start: [out_channels], what the decoder puts out at first, near enough.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers (a number: of the only one), the decoder has them
            in reverse; conv: one number, the units of the linear layer between feature maps and latents.
        activation_name: one of `layers.activation.ACTIVATIONS`; linear has none.
        dropout: conv: probability with which an input of the encoder's linear layers is zeroed.
        black_is_zero: mlp: the first layer is given [0, 1] in place of [-1, 1].

    Raises:
        ValueError: an unknown network, images too small for it, or a setting out of its range; the
            message names the key below `model.`.
    """
    check_choice("network", network, NETWORKS)
    if not 0 <= dropout < 1:
        raise ValueError(f"model.dropout must be at least 0 and below 1, found {dropout}")
    hidden = [hidden] if isinstance(hidden, int) else hidden
    if network == "conv":
        return _convolutional(shape, codes, latents, start, channels, hidden, activation_name, dropout)
    if network == "linear":
        hidden = []
    else:
        check_positive("hidden", *hidden)
    in_channels, height, width = shape
    encoder = MLP([in_channels * height * width, *hidden, codes], activation_name)
    decoder = MLP([latents, *reversed(hidden), len(start) * height * width], activation_name)
    _start_output(decoder[-1], start.repeat_interleave(height * width))
    return EncoderDecoder(
        nn.Sequential(FlattenToUnit() if black_is_zero else nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (len(start), height, width))),
    )


def _convolutional(
    shape: tuple[int, int, int],
    codes: int,
    latents: int,
    start: Tensor,
    channels: Sequence[int],
    hidden: Sequence[int],
    activation_name: str,
    dropout: float,
) -> EncoderDecoder:
    _, height, width = shape
    if min(height, width) < 8:
        raise WrongSize(
            f"images are {height}x{width}, the smallest that strided convolutions take is 8x8",
            "8 or more",
            "take a fully connected network",
        )
    check_positive("channels", *channels)
    check_positive("hidden", *hidden)
    if len(hidden) != 1:
        raise ValueError(f"model.hidden must be one number for strided convolutions, found {list(hidden)}")
    encoder = ConvEncoder(shape, channels, hidden[0], codes, activation_name, dropout)
    decoder = ConvDecoder(latents, (len(start), height, width), channels, hidden[0], activation_name)
    _start_output(decoder.output, start)
    return EncoderDecoder(encoder, decoder)


@torch.no_grad()
def _start_output(layer: nn.Module, values: Tensor) -> None:
    """Add `values` to the bias of the decoder's last layer."""
    assert isinstance(layer, nn.Linear | nn.ConvTranspose2d)
    assert layer.bias is not None
    layer.bias += values

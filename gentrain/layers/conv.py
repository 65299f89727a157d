"""A strided convolutional trunk and its mirror image, for images of any size from 1x1 up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from gentrain.layers.activation import activation


def stage_sizes(size: tuple[int, int], stages: int) -> list[tuple[int, int]]:
    """(height, width) before and after each stride-2 stage, `stages + 1` pairs; halves are rounded up."""
    sizes = [size]
    for _ in range(stages):
        height, width = sizes[-1]
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    return sizes


def _keep_variance(module: nn.Module, last: nn.Module, last_gain: float) -> None:
    """Start every layer as in He et al. 2015, equation 10, `last` with its own gain; biases at zero.

    torch's own start shrinks the signal in each layer, so that a decoder of three stages or more
    ignores z for the first thousand steps.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            fan_in = layer.weight[0].numel()
            if isinstance(layer, nn.ConvTranspose2d):  # an output position sees 1 / stride^2 of the kernel
                fan_in = layer.weight.shape[0] * layer.weight[0, 0].numel() // 4
            gain = last_gain if layer is last else math.sqrt(2)
            nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


class ConvEncoder(nn.Module):
    """Stride-2 convolutions, one per entry of `channels`, then two linear layers.

    Args:
        shape: (C, H, W) of the input.
        channels: feature maps after each stage; stage i sees ceil(H / 2^i) x ceil(W / 2^i) positions.
        hidden: units of the linear layer between the maps and the output.
        out_features: units of the output.
        activation_name: one of `layers.activation.ACTIVATIONS`.
        dropout: probability with which an input of the last two linear layers is zeroed.

    [B, C, H, W] -> [B, out_features].
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: Sequence[int],
        hidden: int,
        out_features: int,
        activation_name: str,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        in_channels, height, width = shape
        top_height, top_width = stage_sizes((height, width), len(channels))[-1]
        layers: list[nn.Module] = []
        for out_channels in channels:
            layers += [nn.Conv2d(in_channels, out_channels, 3, 2, 1), activation(activation_name)]
            in_channels = out_channels
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(in_channels * top_height * top_width, hidden),
            activation(activation_name),
            nn.Dropout(dropout),
            nn.Linear(hidden, out_features),
        )
        _keep_variance(self, self.head[-1], 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, out_features]."""
        return self.head(self.trunk(x))


class ConvDecoder(nn.Module):
    """The mirror image of `ConvEncoder`: two linear layers, then stride-2 transposed convolutions.

    Each stage doubles height and width and cuts off the row or column that the encoder's rounding up
    had added. The last stage makes the output, without an activation.

    Args:
        in_features: units of the input.
        shape: (C, H, W) of the output.
        channels: the encoder's `channels`, in the encoder's order.
        hidden: units of the linear layer between the input and the maps.
        activation_name: one of `layers.activation.ACTIVATIONS`.

    [B, in_features] -> [B, C, H, W].
    """

    def __init__(
        self,
        in_features: int,
        shape: tuple[int, int, int],
        channels: Sequence[int],
        hidden: int,
        activation_name: str,
    ) -> None:
        super().__init__()
        out_channels, height, width = shape
        self.sizes = stage_sizes((height, width), len(channels))
        top_height, top_width = self.sizes[-1]
        self.head = nn.Sequential(
            nn.Linear(in_features, hidden),
            activation(activation_name),
            nn.Linear(hidden, channels[-1] * top_height * top_width),
            activation(activation_name),
            nn.Unflatten(1, (channels[-1], top_height, top_width)),
        )
        widths = [*reversed(channels), out_channels]
        # Kernel 4 with stride 2 overlaps evenly: kernel 3 would leave a chequerboard.
        self.ups = nn.ModuleList(nn.ConvTranspose2d(w_in, w_out, 4, 2, 1) for w_in, w_out in pairwise(widths))
        self.activations = nn.ModuleList(activation(activation_name) for _ in channels[1:])
        # Near the biases at first, whatever z.
        _keep_variance(self, self.output, 0.1)

    @property
    def output(self) -> nn.ConvTranspose2d:
        """The last layer."""
        layer = self.ups[-1]
        assert isinstance(layer, nn.ConvTranspose2d)
        return layer

    def forward(self, z: Tensor) -> Tensor:
        """z [B, in_features] -> [B, C, H, W]."""
        h = self.head(z)
        for i, up in enumerate(self.ups):
            height, width = self.sizes[-2 - i]
            h = up(h)[:, :, :height, :width]
            if i < len(self.activations):
                h = self.activations[i](h)
        return h

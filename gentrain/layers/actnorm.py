"""Activation normalisation: a scale and a shift per channel that start from one batch.

[1] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.transform import Transform

#: A channel whose standard deviation in the first batch is below this is constant there: it says nothing
#: of its scale, which stays 1. Uniform dequantisation alone gives 0.0011 at 256 levels.
MIN_STD = 1e-4


class DataInitialised(nn.Module, ABC):
    """A layer whose scale and shift per channel give its output mean 0 and variance 1 on one batch.

    Until then it has the scale 1 and the shift 0. The buffer `initialised` is part of `state_dict`, so
    that a loaded layer is not initialised again.

    Args:
        channels: of the output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.initialised: Tensor
        self.register_buffer("initialised", torch.tensor(False))

    @abstractmethod
    def unscaled(self, x: Tensor) -> Tensor:
        """The input x [B, ...] -> what is scaled and shifted, [B, C, ...]."""

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Take scale and shift from the input x [B, ...] of one batch; no effect from the second call on."""
        if self.initialised:
            return
        values = self.unscaled(x).transpose(0, 1).flatten(1)  # [C, B * positions]
        mean, std = values.mean(1), values.std(1, correction=0)
        scale = torch.where(std > MIN_STD, std.reciprocal(), torch.ones_like(std))
        self.log_scale.copy_(scale.log())
        self.shift.copy_(-mean * scale)
        self.initialised.fill_(True)


@contextmanager
def initialising(module: nn.Module) -> Iterator[None]:
    """Context in which a forward pass of `module` initialises its data-initialised layers.

    One after another, so that each sees what the layers before it, initialised by then, make of the batch
    ([1] section 3.1). Layers that are initialised already stay as they are.
    """

    def from_input(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, DataInitialised)
        layer.initialise(inputs[0])

    layers = [layer for layer in module.modules() if isinstance(layer, DataInitialised)]
    hooks = [layer.register_forward_pre_hook(from_input) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class ActNorm(DataInitialised, Transform):
    """y = s * x + b with s and b per channel, s > 0, [1] section 3.1.

    Args:
        channels: C of the input [B, C, ...].
    """

    def unscaled(self, x: Tensor) -> Tensor:
        """x itself."""
        return x

    def _per_channel(self, x: Tensor, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (x.ndim - 2))

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> (y, log |det| [B]): sum log s for each position."""
        scale = self._per_channel(x, self.log_scale.exp())
        y = torch.addcmul(self._per_channel(x, self.shift), x, scale)
        return y, (self.log_scale.sum() * math.prod(x.shape[2:])).expand(len(x))

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, C, ...] -> x = (y - b) / s."""
        scale = self._per_channel(y, (-self.log_scale).exp())
        return (y - self._per_channel(y, self.shift)) * scale


class ActNormConv2d(DataInitialised):
    """A convolution with ActNorm on its output, as inside the coupling networks of [1]'s code.

    Scale and shift are part of the kernel and the bias, which costs nothing per position. Height and
    width stay.

    Args:
        channels_in: of the input.
        channels_out: of the output.
        kernel_size: side of the kernel, odd.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_size: int) -> None:
        super().__init__(channels_out)
        self.padding = kernel_size // 2
        weight = torch.empty(channels_out, channels_in, kernel_size, kernel_size)
        self.weight = nn.Parameter(nn.init.kaiming_normal_(weight, nonlinearity="relu"))

    def unscaled(self, x: Tensor) -> Tensor:
        """The convolution of x [B, C_in, H, W] alone, [B, C_out, H, W]."""
        return F.conv2d(x, self.weight, padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C_in, H, W] -> [B, C_out, H, W]."""
        scale = self.log_scale.exp()
        return F.conv2d(x, self.weight * scale.view(-1, 1, 1, 1), self.shift, padding=self.padding)

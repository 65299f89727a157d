"""Coupling layers, and the convolutional network that Glow puts into them.

[1] Dinh, Krueger & Bengio 2015, "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
[2] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[3] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039,
    and its code, github.com/openai/glow.
[4] Ho et al. 2019, "Flow++: Improving Flow-Based Generative Models with Variational Dequantization and
    Architecture Design", arXiv:1902.00275.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.actnorm import ActNormConv2d
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.transform import Transform

#: Smallest scale of an affine coupling: its inverse enlarges an error at most 1 / MIN_SCALE times.
MIN_SCALE = 1e-3


class ZeroConv2d(nn.Module):
    """A 3x3 convolution whose output is zero at first, with a learnt gain per channel ([3], its code).

    The gain exp(3 l) lets the optimiser reach large outputs in few steps, whatever its learning rate.

    Args:
        channels_in: of the input.
        channels_out: of the output.
    """

    #: Steps of l are this much larger in log gain ([3], `logscale_factor`).
    LOG_GAIN = 3.0

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.log_gain = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C_in, H, W] -> [B, C_out, H, W]."""
        gain = (self.LOG_GAIN * self.log_gain).exp()
        return F.conv2d(x, self.weight * gain.view(-1, 1, 1, 1), self.bias * gain, padding=1)


class CouplingNet(nn.Sequential):
    """3x3 convolution, ReLU, 1x1 convolution, ReLU, 3x3 convolution that starts at zero ([3] section 5).

    [B, channels_in, H, W] -> [B, channels_out, H, W].

    Args:
        channels_in: of the input.
        hidden: channels between the convolutions.
        channels_out: of the output.
        dropout: probability with which an input of the last convolution is zeroed in training, as in [4].
    """

    def __init__(self, channels_in: int, hidden: int, channels_out: int, dropout: float) -> None:
        super().__init__(
            ActNormConv2d(channels_in, hidden, 3),
            nn.ReLU(),
            ActNormConv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            ZeroConv2d(hidden, channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, channels_in, H, W] -> [B, channels_out, H, W]."""
        # Convolutions at few positions are quicker with the channels of a position together.
        return super().forward(x.to(memory_format=torch.channels_last))


class Coupling(Transform):
    """One part of the channels is changed, as a function of the other, which stays ([1] section 3.2).

    With x = (x_a, x_b), of floor(C / 2) and ceil(C / 2) channels: y_a = s(x_b) * x_a + t(x_b), y_b = x_b
    ([3] table 1).

    Args:
        channels: C of the input [B, C, ...].
        parameters: of each changed value, P.
        make_net: (channels of x_b, P * channels of x_a) -> the network that computes s and t.

    Raises:
        ValueError: fewer than two channels, of which none could depend on another.
    """

    def __init__(self, channels: int, parameters: int, make_net: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs at least 2 channels, found {channels}")
        self.sizes = [channels // 2, channels - channels // 2]  # of x_a and x_b
        self.net = make_net(self.sizes[1], parameters * self.sizes[0])


class AdditiveCoupling(Coupling):
    """s = 1: the determinant is 1 ([1] section 3.2).

    Args:
        channels: C of the input [B, C, ...].
        make_net: (channels of x_b, channels of x_a) -> the network t.
    """

    def __init__(self, channels: int, make_net: Callable[[int, int], nn.Module]) -> None:
        super().__init__(channels, 1, make_net)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> (y, zeros [B])."""
        a, b = x.split(self.sizes, dim=1)
        return torch.cat([a + self.net(b), b], dim=1), x.new_zeros(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """y [B, C, ...] -> x."""
        a, b = y.split(self.sizes, dim=1)
        return torch.cat([a - self.net(b), b], dim=1)


class AffineCoupling(Coupling):
    """s = sigmoid(h + 2), raised to `MIN_SCALE` at least, with h and t from one network ([2], [3]'s code).

    Args:
        channels: C of the input [B, C, ...].
        make_net: (channels of x_b, 2 * channels of x_a) -> the network; its first half is t.
    """

    def __init__(self, channels: int, make_net: Callable[[int, int], nn.Module]) -> None:
        super().__init__(channels, 2, make_net)

    def _shift_and_scale(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """x_b -> t and s, both like x_a."""
        t, h = at_least_float32(self.net(b)).chunk(2, dim=1)
        return t, MIN_SCALE + (1 - MIN_SCALE) * torch.sigmoid(h + 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> (y, sum log s [B])."""
        a, b = x.split(self.sizes, dim=1)
        t, s = self._shift_and_scale(b)
        return torch.cat([torch.addcmul(t, a, s), b], dim=1), s.log().flatten(1).sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        """y [B, C, ...] -> x."""
        a, b = y.split(self.sizes, dim=1)
        t, s = self._shift_and_scale(b)
        return torch.cat([(a - t) / s, b], dim=1)

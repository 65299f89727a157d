"""Coupling layers, and the convolutional network that Glow puts into them.

[1] Dinh, Krueger & Bengio 2015, "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
[2] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[3] Kingma & Dhariwal 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039,
    and its code, github.com/openai/glow.
[4] Ho et al. 2019, "Flow++: Improving Flow-Based Generative Models with Variational Dequantization and
    Architecture Design", arXiv:1902.00275.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.actnorm import ActNormConv2d
from gentrain.layers.condition import BiasOf
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
        known: numbers that are known of each image; their bias is added to the first convolution.
    """

    def __init__(
        self, channels_in: int, hidden: int, channels_out: int, dropout: float, known: int = 0
    ) -> None:
        super().__init__(
            ActNormConv2d(channels_in, hidden, 3),
            nn.ReLU(),
            ActNormConv2d(hidden, hidden, 1),
            nn.ReLU(),
            nn.Dropout(dropout),
            ZeroConv2d(hidden, channels_out),
        )
        self.bias_of = BiasOf(known, hidden) if known else None

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        """x [B, channels_in, H, W], what is known [B, known] -> [B, channels_out, H, W]."""
        # Convolutions at few positions are quicker with the channels of a position together.
        x = self[0](x.to(memory_format=torch.channels_last))
        if self.bias_of is not None:
            x = x + self.bias_of(*given)[:, :, None, None]
        for layer in list(self)[1:6]:
            x = layer(x)
        return x


class Mask(nn.Module, ABC):
    """Which values of x [B, C, ...] a coupling changes, and which it is given ([2] section 3.4)."""

    @abstractmethod
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (what is changed, what is given to the network)."""

    @abstractmethod
    def merge(self, changed: Tensor, given: Tensor) -> Tensor:
        """What `split` took apart -> x."""

    def of_changed(self, values: Tensor) -> Tensor:
        """Values like the first of `split`, with zeros at what is not changed."""
        return values

    @abstractmethod
    def parts(self, channels: int) -> tuple[int, int]:
        """C -> channels of what is changed, and of what is given.

        Raises:
            ValueError: fewer channels than it takes to change some and keep others.
        """


class ChannelMask(Mask):
    """The first floor(C / 2) channels are changed, the others given; with `second` the other way round.

    Args:
        second: change the second part of the channels.
    """

    def __init__(self, second: bool = False) -> None:
        super().__init__()
        self.second = second

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> both parts of the channels."""
        first, second = x.split([x.shape[1] // 2, x.shape[1] - x.shape[1] // 2], dim=1)
        return (second, first) if self.second else (first, second)

    def merge(self, changed: Tensor, given: Tensor) -> Tensor:
        """Both parts of the channels -> x."""
        return torch.cat([given, changed] if self.second else [changed, given], dim=1)

    def parts(self, channels: int) -> tuple[int, int]:
        """(floor(C / 2), the others), or the other way round."""
        if channels < 2:
            raise ValueError(f"a coupling needs at least 2 channels, found {channels}")
        half = channels // 2
        return (channels - half, half) if self.second else (half, channels - half)


class CheckerboardMask(Mask):
    """Every other position is changed, as the squares of one colour; all channels of it ([2] figure 3, left).

    Both parts keep their positions, with zeros where the other part is.

    Args:
        odd: change the positions where row + column is odd, else those where it is even.
    """

    def __init__(self, odd: bool = False) -> None:
        super().__init__()
        self.odd = odd

    def _changes(self, x: Tensor) -> Tensor:
        """bool [H, W]."""
        rows, columns = (torch.arange(size, device=x.device) for size in x.shape[-2:])
        return (rows[:, None] + columns) % 2 == int(self.odd)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> both colours, [B, C, H, W] each."""
        changes = self._changes(x)
        return x * changes, x * ~changes

    def merge(self, changed: Tensor, given: Tensor) -> Tensor:
        """Both colours -> x; what the first has at positions of the second does not count."""
        return torch.where(self._changes(changed), changed, given)

    def of_changed(self, values: Tensor) -> Tensor:
        """The values of one colour, [B, C, H, W]."""
        return values * self._changes(values)

    def parts(self, channels: int) -> tuple[int, int]:
        """All channels, twice."""
        return channels, channels


class Elementwise(nn.Module, ABC):
    """How a coupling changes its values, each by numbers that the network computes for it.

    P numbers for each value: the network's output is P groups of channels.
    """

    #: P.
    numbers: int

    @abstractmethod
    def forward(self, a: Tensor, params: Tensor) -> tuple[Tensor, Tensor | None]:
        """a [B, C, ...], params [B, P * C, ...] -> (a', log |da' / da| like a; None where it is 0)."""

    @abstractmethod
    def inverse(self, a: Tensor, params: Tensor) -> Tensor:
        """a' -> a."""


class Additive(Elementwise):
    """a' = a + t: the determinant is 1 ([1] section 3.2)."""

    numbers = 1

    def forward(self, a: Tensor, params: Tensor) -> tuple[Tensor, None]:
        """a + t."""
        return a + params, None

    def inverse(self, a: Tensor, params: Tensor) -> Tensor:
        """a' - t."""
        return a - params


class SigmoidScale(Elementwise):
    """a' = s a + t, s = sigmoid(h + 2), raised to `MIN_SCALE` at least ([3]'s code); t is the first half."""

    numbers = 2

    def _shift_and_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        t, h = at_least_float32(params).chunk(2, dim=1)
        return t, MIN_SCALE + (1 - MIN_SCALE) * torch.sigmoid(h + 2)

    def forward(self, a: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """s a + t and log s."""
        t, s = self._shift_and_scale(params)
        return torch.addcmul(t, a, s), s.log()

    def inverse(self, a: Tensor, params: Tensor) -> Tensor:
        """(a' - t) / s."""
        t, s = self._shift_and_scale(params)
        return (a - t) / s


class TanhScale(Elementwise):
    """a' = exp(l) a + t, l = g tanh(h) with a learnt g for each channel ([2] section 3.3 and appendix A).

    Args:
        channels: C of what is changed.
    """

    numbers = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels))

    def _shift_and_log_scale(self, params: Tensor) -> tuple[Tensor, Tensor]:
        t, h = at_least_float32(params).chunk(2, dim=1)
        return t, self.gain.view(-1, *[1] * (h.ndim - 2)) * torch.tanh(h)

    def forward(self, a: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """exp(l) a + t and l."""
        t, log_s = self._shift_and_log_scale(params)
        return torch.addcmul(t, a, log_s.exp()), log_s

    def inverse(self, a: Tensor, params: Tensor) -> Tensor:
        """(a' - t) exp(-l)."""
        t, log_s = self._shift_and_log_scale(params)
        return (a - t) * (-log_s).exp()


class Coupling(Transform):
    """One part of the values is changed, as a function of the other, which stays ([1] section 3.2).

    Args:
        channels: C of the input [B, C, ...].
        make_net: (channels that are given, P * channels that are changed) -> the network.
        change: how a value is changed; a function of the number of changed channels where it learns.
        mask: which values are changed; None: the first half of the channels.

    Raises:
        ValueError: channels of which none could depend on another.
    """

    def __init__(
        self,
        channels: int,
        make_net: Callable[[int, int], nn.Module],
        change: Elementwise | Callable[[int], Elementwise],
        mask: Mask | None = None,
    ) -> None:
        super().__init__()
        self.mask = mask or ChannelMask()
        changed, given = self.mask.parts(channels)
        self.change = change if isinstance(change, Elementwise) else change(changed)
        self.net = make_net(given, self.change.numbers * changed)

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, ...] -> (y, log |det| [B])."""
        a, b = self.mask.split(x)
        a, log_scale = self.change(a, self.net(b, *given))
        if log_scale is None:
            return self.mask.merge(a, b), x.new_zeros(len(x))
        return self.mask.merge(a, b), self.mask.of_changed(log_scale).flatten(1).sum(1)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, C, ...] -> x."""
        a, b = self.mask.split(y)
        return self.mask.merge(self.change.inverse(a, self.net(b, *given)), b)

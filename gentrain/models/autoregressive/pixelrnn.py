"""The PixelRNN: Row LSTM and Diagonal BiLSTM.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.lstm_scan import GATES, diagonals, rows, scan
from gentrain.layers.masked_conv import MaskedConv2d, colour_groups
from gentrain.layers.raster import Canvas, Chain, Incremental, Residual, incremental
from gentrain.layers.settings import check_for_colours, check_odd, check_positive
from gentrain.models.autoregressive.autoregressive import Autoregressive
from gentrain.models.autoregressive.pixelrnn_steps import DiagonalSteps, RowSteps, Steps


class LSTMLayer(nn.Module):
    """[B, in, H, W] -> states [B, h, H, W].

    The states of earlier pixels are seen whole; of the input's features at the pixel itself those of earlier
    colours and the same one, mask B, in all four gates alike.

    Args:
        groups: the colour of each input feature.
        state_groups: the colour of each of the h features of the state.
        kernel: of the convolution from input to state, odd.
        directions: how many states there are, each with weights of its own.
        taps: of the convolution from state to state.
    """

    def __init__(
        self, groups: Sequence[int], state_groups: Sequence[int], kernel: int, directions: int, taps: int
    ) -> None:
        super().__init__()
        self.features, self.state_groups = len(state_groups), tuple(state_groups)
        gates = [*state_groups] * GATES * directions
        self.input = MaskedConv2d(groups, gates, kernel, "B", gain=1, rows=0)
        deviation = (taps * self.features) ** -0.5
        self.state = nn.Parameter(
            deviation * torch.randn(directions, taps, self.features, GATES * self.features)
        )
        with torch.no_grad():  # remember at first (Gers et al. 2000)
            self.input.bias.view(directions, GATES, -1)[:, 1] = 1


class RowLSTM(LSTMLayer):
    """From the top down, a row at a time; the state above at columns j - 1, j, j + 1 ([1] section 3.1).

    So a pixel sees a triangle above it, and of its own row what the convolution of the input sees.
    """

    def __init__(self, groups: Sequence[int], state_groups: Sequence[int]) -> None:
        super().__init__(groups, state_groups, kernel=3, directions=1, taps=3)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, h, H, W]."""
        height, width = x.shape[-2:]
        (states,) = scan(self.input(x), self.state, [rows(height, width)], places=width)
        return cast(Tensor, states)


class DiagonalBiLSTM(LSTMLayer):
    """Along the diagonals, from both sides; the states above and beside ([1] section 3.2).

    The state from the right is that of the row above, moved down, so that it knows nothing of the pixels to
    come: together they see all pixels before, but for the last of the row above, which is seen as far as
    the first kernel reaches.
    """

    def __init__(self, groups: Sequence[int], state_groups: Sequence[int]) -> None:
        super().__init__(groups, state_groups, kernel=1, directions=2, taps=2)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, h, H, W]."""
        height, width = x.shape[-2:]
        ways = [diagonals(height, width, from_right) for from_right in (False, True)]
        from_left, from_right = scan(self.input(x), self.state, ways, places=height)
        return cast(Tensor, from_left) + F.pad(from_right, (0, 0, 1, -1))


class PixelRNN(Autoregressive):
    """A convolution with mask A, residual LSTM layers, two 1x1 convolutions ([1] table 1).

    A pixel value of two levels is Bernoulli, of more levels categorical. For images of any size.

    Args:
        spec: what the images are.
        hidden: h, features of a state; between the layers there are 2 h.
        depth: LSTM layers.
        first_kernel: size of the kernel with mask A, odd.
        head_channels: feature maps of the two 1x1 layers before the logits.

    Raises:
        ValueError: a setting out of its range.
    """

    #: Which LSTM, and its layers position by position.
    lstm: ClassVar[type[RowLSTM | DiagonalBiLSTM]]
    steps: ClassVar[type[Steps]]

    def __init__(
        self, spec: DataSpec, *, hidden: int, depth: int, first_kernel: int, head_channels: int
    ) -> None:
        super().__init__(spec, Pixels.softmax(spec.levels))
        colours = spec.shape[0]
        check_positive("depth", depth)
        for setting, count in (("hidden", hidden), ("head_channels", head_channels)):
            check_for_colours(setting, count, colours)
        check_odd("first_kernel", first_kernel)
        image, state, wide, head = (
            colour_groups(features, colours) for features in (colours, hidden, 2 * hidden, head_channels)
        )
        blocks = [
            Residual(nn.Sequential(self.lstm(wide, state), MaskedConv2d(state, wide, 1, "B", gain=1)))
            for _ in range(depth)
        ]
        self.network = nn.Sequential(
            MaskedConv2d(image, wide, first_kernel, "A"),
            *blocks,
            nn.ReLU(),
            MaskedConv2d(wide, head, 1, "B"),
            nn.ReLU(),
            MaskedConv2d(head, head, 1, "B"),
            nn.ReLU(),
            # Near uniform at first.
            MaskedConv2d(head, image * self.pixels.parameters, 1, "B", 0.1),
        )

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> logits [B, P * C, H, W]."""
        return self.network(x.to(memory_format=torch.channels_last))

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """The network position by position or wave by wave, its layers together."""
        first, *rest = self.network
        blocks = [tuple(part.body.children()) for part in rest if isinstance(part, Residual)]
        layers = cast(list[tuple[LSTMLayer, MaskedConv2d]], blocks)
        head = nn.Sequential(*rest[len(layers) :])
        return Chain([incremental(first, canvas), self.steps(layers, canvas), incremental(head, canvas)])


class RowPixelRNN(PixelRNN):
    """PixelRNN of `RowLSTM` layers. Settings as of `PixelRNN`."""

    lstm, steps = RowLSTM, RowSteps

    @property
    def stagger(self) -> int:  # type: ignore[override]
        """A row up the first kernel reaches so many columns to the right, and a state one."""
        return 1 + max(cast(MaskedConv2d, self.network[0]).reach, 1)


class DiagonalPixelRNN(PixelRNN):
    """PixelRNN of `DiagonalBiLSTM` layers. Settings as of `PixelRNN`."""

    lstm, steps = DiagonalBiLSTM, DiagonalSteps

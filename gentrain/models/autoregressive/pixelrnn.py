"""The PixelRNN: Row LSTM and Diagonal BiLSTM.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.lstm_scan import GATES, cell, diagonals, rows, scan
from gentrain.layers.masked_conv import IncrementalConv, MaskedConv2d, colour_groups
from gentrain.layers.raster import Canvas, Incremental, IncrementalModule, Residual, incremental
from gentrain.layers.settings import check_for_colours, check_odd, check_positive
from gentrain.models.autoregressive.autoregressive import Autoregressive


class LSTMLayer(IncrementalModule):
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
        self.features = len(state_groups)
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
        return scan(self.input(x), self.state[0], rows(height, width), places=width)

    def incremental(self, canvas: Canvas) -> Incremental:
        """A row's state from the one above when it begins, then position by position."""
        return _RowSteps(self, canvas)


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
        from_left, from_right = (
            scan(pre, state, diagonals(height, width, side), places=height)
            for pre, state, side in zip(self.input(x).chunk(2, 1), self.state, (False, True), strict=True)
        )
        return from_left + F.pad(from_right, (0, 0, 1, -1))

    def incremental(self, canvas: Canvas) -> Incremental:
        """From the left position by position; from the right over a row that is finished."""
        return _DiagonalSteps(self, canvas)


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

    #: Which LSTM.
    lstm: ClassVar[type[RowLSTM | DiagonalBiLSTM]]

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
        """The network position by position."""
        return incremental(self.network, canvas)


class RowPixelRNN(PixelRNN):
    """PixelRNN of `RowLSTM` layers. Settings as of `PixelRNN`."""

    lstm = RowLSTM


class DiagonalPixelRNN(PixelRNN):
    """PixelRNN of `DiagonalBiLSTM` layers. Settings as of `PixelRNN`."""

    lstm = DiagonalBiLSTM


class _StateSteps(Incremental):
    """What both LSTMs need position by position: which features belong to which colour."""

    def __init__(self, layer: LSTMLayer, canvas: Canvas) -> None:
        groups = torch.tensor(layer.input.out_groups[: layer.features])
        self.n, self.width, self.like = canvas.n, canvas.width, canvas.like
        self.features = layer.features
        ends = [int(groups.lt(g).sum()) for g in range(canvas.channels + 1)]
        self.slices = [slice(a, b) for a, b in pairwise(ends)]
        self.gates = [
            torch.cat([torch.arange(part.start, part.stop) + i * layer.features for i in range(GATES)]).to(
                canvas.like.device
            )
            for part in self.slices
        ]
        self.input = IncrementalConv(layer.input, canvas)
        self.state = layer.state.detach()  # [directions, taps, h, 4 h]

    def zeros(self, *shape: int) -> Tensor:
        """Of what is drawn."""
        return self.like.new_zeros(*shape)


class _RowSteps(_StateSteps):
    def __init__(self, layer: RowLSTM, canvas: Canvas) -> None:
        super().__init__(layer, canvas)
        self.bias = layer.input.bias.detach()
        # h with a zero column at either end, and c, of the row above and of this one.
        shape = (self.width, self.n, self.features)
        self.h, self.c = self.zeros(self.width + 2, self.n, self.features), self.zeros(*shape)
        self.h_here, self.c_here = torch.zeros_like(self.h), torch.zeros_like(self.c)

    def begin_row(self) -> None:
        self.h, self.h_here = self.h_here, self.h
        self.c, self.c_here = self.c_here, self.c
        taps = self.state[0]
        self.input.start_from(self.bias + sum(self.h[k : k + self.width] @ taps[k] for k in range(3)))

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        mine = self.slices[group]
        h, c = cell(self.input.at(column, group, x), self.c[column, :, mine])
        self.h_here[column + 1, :, mine] = h
        self.c_here[column, :, mine] = c
        return h


class _DiagonalSteps(_StateSteps):
    def __init__(self, layer: DiagonalBiLSTM, canvas: Canvas) -> None:
        super().__init__(layer, canvas)
        shape = (self.width, self.n, self.features)
        self.h = self.zeros(*shape)  # from the left, of this row as far as it is drawn
        self.right = self.zeros(*shape)  # from the right, of the row above
        # What the input gives to the gates from the right, and the states above to those from the left.
        self.from_input = self.zeros(self.width, self.n, GATES * self.features)
        self.from_above = torch.zeros_like(self.from_input)
        # c of the pixel to the left, and of this one: all its colours see the former.
        self.c, self.next_c = self.zeros(self.n, self.features), self.zeros(self.n, self.features)
        self.before = self.zeros(self.n, self.features)  # h of the pixel to the left, or none
        self.in_first_row = True
        self.beside = [self.state[0, 1][:, gates].contiguous() for gates in self.gates]

    def begin_row(self) -> None:
        if not self.in_first_row:
            base = self.from_input + self.right @ self.state[1, 0]
            h = c = self.zeros(self.n, self.features)
            beside = self.state[1, 1]
            right = torch.empty_like(self.right)
            for column in reversed(range(self.width)):
                h, c = cell(torch.addmm(base[column], h, beside), c)
                right[column] = h
            self.right = right
            self.from_above = self.h @ self.state[0, 0]
        self.in_first_row = False
        self.before, self.c = torch.zeros_like(self.before), torch.zeros_like(self.c)

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        mine, gates = self.slices[group], self.gates[group]
        from_left, from_right = self.input.at(column, group, x).chunk(2, 1)
        self.from_input[column, :, gates] = from_right
        left = torch.addmm(self.from_above[column, :, gates] + from_left, self.before, self.beside[group])
        h, c = cell(left, self.c[:, mine])
        self.h[column, :, mine] = h
        self.next_c[:, mine] = c
        if group + 1 == len(self.slices):
            self.c, self.next_c = self.next_c, self.c
            self.before = self.h[column]
        return h + self.right[column, :, mine]

"""The PixelRNN pixel by pixel, with every state computed once, for all layers at once as far as may be.

The Row LSTM knows the row above as far as one column to the right, so that rows follow one another in waves.
The Diagonal BiLSTM knows all of it: a row has to end, and then the states from the right are computed for the
whole of it.

Tensors are [L, features, n], L layers and n images, or the images of all positions of a wave: a gate of all
images lies together. Gates are sorted by colour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gentrain.layers.lstm_scan import GATES, cell
from gentrain.layers.masked_conv import MaskedConv2d
from gentrain.layers.raster import Canvas, Incremental, Wave

if TYPE_CHECKING:
    from gentrain.models.autoregressive.pixelrnn import LSTMLayer


class Place(NamedTuple):
    """What one colour of one layer reads and writes at a position: views, and its weights.

    Args:
        x: the layer's input, of this colour, [2 h of the colour, n].
        seen: what its gates are made from, all of its input first, [S, n].
        base: what they are made from besides, [4 h of the colour, n].
        to_gates: from `seen`.
        c: of the position before, then of this one: a feature is of use to its own gates alone.
        h: the state here, of this colour, [h of the colour, n].
        states: of all colours, [h, n].
        added: what is added to the input besides, [2 h of the colour, n] or [2 h of the colour, 1].
        to_wide: from `states`.
    """

    x: Tensor
    seen: Tensor
    base: Tensor
    to_gates: Tensor
    c: Tensor
    h: Tensor
    states: Tensor
    added: Tensor
    to_wide: Tensor


def by_layer(*views: Tensor) -> list[Place]:
    """The fields of `Place` of all layers, [L, ...] each."""
    return [*map(Place, *(view.unbind() for view in views))]


def through(layers: Iterable[Place], x: Tensor) -> Tensor:
    """One colour of x [2 h, n] through all layers, x + conv(lstm(x)) each; `cell` in place."""
    for layer in layers:
        layer.x.copy_(x)
        gates = torch.addmm(layer.base, layer.to_gates, layer.seen)
        i, f, o, written = gates.chunk(GATES)
        gates[: -len(written)].sigmoid_()
        layer.c.mul_(f).addcmul_(i, written.tanh_())
        torch.tanh(layer.c, out=layer.h).mul_(o)
        x = torch.addmm(layer.added, layer.to_wide, layer.states).add_(x)
    return x


def product(weight: Tensor, x: Tensor) -> Tensor:
    """Of each layer's own weights, [L, out, in], and x [W, L, in, n] -> [W, L, out, n]."""
    return torch.einsum("loi,wlin->wlon", weight, x)


class Steps(Incremental):
    """What the layers of both have: each an LSTM and a 1x1 convolution."""

    def __init__(self, layers: Sequence[tuple[LSTMLayer, MaskedConv2d]], canvas: Canvas) -> None:
        lstm, conv = layers[0]
        self.depth, self.h, self.wide = len(layers), lstm.features, len(conv.out_groups)
        self.n, self.like = canvas.n, canvas.like
        # Of each colour: its features of the state, of a layer's input, and its gates in their order here.
        self.of_state, self.of_wide = (
            [slice(a, b) for a, b in pairwise(sum(i < g for i in groups) for g in range(canvas.channels + 1))]
            for groups in (lstm.state_groups, conv.out_groups)
        )
        self.of_gates = [slice(GATES * mine.start, GATES * mine.stop) for mine in self.of_state]
        self.order = [
            k * self.h + i for mine in self.of_state for k in range(GATES) for i in range(self.h)[mine]
        ]

        def stacked(tensors: Iterable[Tensor]) -> Tensor:
            return torch.stack(list(tensors)).detach()

        # Of each direction [L, 4 h, 2 h, columns], [L, 4 h, 1], [L, taps, 4 h, h]; [L, 2 h, h], [L, 2 h, 1].
        weight = stacked((m.input.weight * m.input.mask)[:, :, 0] for m, _ in layers)
        self.from_input = weight.tensor_split(len(lstm.state), 1)
        self.bias = stacked(m.input.bias[:, None] for m, _ in layers).tensor_split(len(lstm.state), 1)
        self.from_states = stacked(m.state for m, _ in layers).transpose(-1, -2).unbind(1)
        self.out = stacked((conv.weight * conv.mask)[:, :, 0, 0] for _, conv in layers)
        self.out_bias = stacked(conv.bias[:, None] for _, conv in layers)

    def zeros(self, *shape: int) -> Tensor:
        """Of what is drawn."""
        return self.like.new_zeros(*shape)


class RowSteps(Steps):
    """Of `RowLSTM`s. Keeps all states, zeros above and to either side, and the last input in each row."""

    def __init__(self, layers: Sequence[tuple[LSTMLayer, MaskedConv2d]], canvas: Canvas) -> None:
        super().__init__(layers, canvas)
        shape = (self.depth, canvas.n, canvas.height + 1, canvas.width + 2, self.h)
        self.states, self.cells = self.zeros(*shape), self.zeros(*shape)
        self.x = self.zeros(self.depth, canvas.height, canvas.n, self.wide)
        # From the input to the left and the three states above; from the input here.
        left, here = self.from_input[0][:, self.order].unbind(-1)
        above = self.from_states[0][:, :, self.order].unbind(1)
        self.from_known, self.known_bias = torch.cat([left, *above], 2), self.bias[0][:, self.order]
        self.from_here = [here[:, gates].contiguous() for gates in self.of_gates]
        self.to_wide = [self.out[:, wide].contiguous() for wide in self.of_wide]

    def at(self, column: Wave, group: int, x: Tensor) -> Tensor:
        if group == 0:
            self._begin(column)
        mine, wide, gates = self.of_state[group], self.of_wide[group], self.of_gates[group]
        layers = by_layer(
            *(self.x_now[:, wide], self.x_now, self.base[:, gates], self.from_here[group]),
            *(
                self.c_now[:, mine],
                self.h_now[:, mine],
                self.h_now,
                self.out_bias[:, wide],
                self.to_wide[group],
            ),
        )
        x = through(layers, x.t())
        if group + 1 == len(self.of_state):
            self._end(column)
        return x.t()

    def _begin(self, wave: Wave) -> None:
        """What all layers know before: the inputs to the left and the states above."""
        above = wave.window(self.states, (0, 0), 1, 3)[:, :, :, 0]  # [L, length, n, 3 h]
        known = torch.cat([self.x[:, wave.rows], above], 3).flatten(1, 2)
        self.base = torch.baddbmm(self.known_bias, self.from_known, known.transpose(1, 2))
        c_above = wave.window(self.cells, (0, 1), 1, 1)[:, :, :, 0].flatten(1, 2)
        self.c_now = c_above.transpose(1, 2).contiguous()  # [L, h, length * n]
        self.h_now = torch.zeros_like(self.c_now)
        self.x_now = self.zeros(self.depth, self.wide, self.c_now.shape[2])

    def _end(self, wave: Wave) -> None:
        """What has been computed is kept."""
        for kept, now in (
            (wave.window(self.states, (1, 1), 1, 1)[:, :, :, 0], self.h_now),
            (wave.window(self.cells, (1, 1), 1, 1)[:, :, :, 0], self.c_now),
            (self.x[:, wave.rows], self.x_now),
        ):
            kept.copy_(now.transpose(1, 2).unflatten(1, kept.shape[1:3]))


class DiagonalSteps(Steps):
    """Of `DiagonalBiLSTM`s, a row's tensors [W, L, features, n]."""

    def __init__(self, layers: Sequence[tuple[LSTMLayer, MaskedConv2d]], canvas: Canvas) -> None:
        super().__init__(layers, canvas)
        width, depth, n, h = canvas.width, self.depth, canvas.n, self.h
        # What gates see: at each column a layer's input, and the state to the left, none at first.
        seen = self.zeros(width + 1, depth, self.wide + h, n)
        self.x, self.states, self.first = (
            seen[:-1, :, : self.wide],
            seen[1:, :, self.wide :],
            seen[0, :, self.wide :],
        )
        self.right = self.zeros(width, depth, h, n)  # states from the right of the row above
        self.c = self.zeros(depth, h, n)
        self.base = self.zeros(width, depth, GATES * h, n)
        self.added = self.zeros(width, depth, self.wide, n)
        self.from_above, beside = self.from_states[0][:, :, self.order].unbind(1)
        from_seen = torch.cat([self.from_input[0][:, self.order, :, 0], beside], 2)
        self.above_bias = self.bias[0][:, self.order]
        self.places = [
            [
                by_layer(
                    *(seen[j, :, wide], seen[j], self.base[j, :, gates], from_seen[:, gates]),
                    *(self.c[:, mine], self.states[j, :, mine], self.states[j], self.added[j, :, wide]),
                    self.out[:, wide],
                )
                for j in range(width)
            ]
            for mine, wide, gates in zip(self.of_state, self.of_wide, self.of_gates, strict=True)
        ]
        self.begun = False

    def begin_row(self) -> None:
        if self.begun:
            self._from_right()
        self.begun = True
        torch.add(product(self.from_above, self.states), self.above_bias, out=self.base)
        torch.add(product(self.out, self.right), self.out_bias, out=self.added)
        self.first.zero_()
        self.c.zero_()

    def _from_right(self) -> None:
        """The states from the right of the row that has ended."""
        above, beside = self.from_states[1].unbind(1)
        base = product(self.from_input[1][..., 0], self.x) + product(above, self.right) + self.bias[1]
        h = c = torch.zeros_like(self.c)
        for column in reversed(range(len(base))):
            h, c = cell(torch.baddbmm(base[column], beside, h), c, 1)
            self.right[column] = h

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        return through(self.places[group][column], x.t()).t()

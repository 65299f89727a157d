"""The PixelRNN pixel by pixel, with every state computed once.

The Row LSTM knows the row above as far as one column to the right, so that rows follow one another in waves.
The Diagonal BiLSTM knows all of it: a row has to end, and then the states from the right are computed for the
whole of it, in all layers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from gentrain.layers.lstm_scan import GATES, cell
from gentrain.layers.masked_conv import MaskedConv2d
from gentrain.layers.raster import Canvas, Incremental, Wave

if TYPE_CHECKING:
    from gentrain.models.autoregressive.pixelrnn import DiagonalBiLSTM, RowLSTM


def slices(groups: Sequence[int], colours: int) -> list[slice]:
    """Which features belong to each colour; `groups`, the colour of each, does not fall."""
    ends = [sum(group < g for group in groups) for g in range(colours + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def gates_of(mine: slice, features: int) -> list[int]:
    """Of one colour's features of the state, their gates among all 4 h."""
    return [gate * features + i for gate in range(GATES) for i in range(mine.start, mine.stop)]


def product(weight: Tensor, x: Tensor) -> Tensor:
    """Of each layer's own weights, [L, out, in], and x [W, L, in, n] -> [W, L, out, n]."""
    return torch.einsum("loi,wlin->wlon", weight, x)


class RowSteps(Incremental):
    """A `RowLSTM`. Keeps the states of the whole image, with zeros above and to either side."""

    def __init__(self, layer: RowLSTM, canvas: Canvas) -> None:
        self.input = layer.input.incremental(canvas)
        self.slices = slices(layer.state_groups, canvas.channels)
        shape = (canvas.n, canvas.height + 1, canvas.width + 2, layer.features)
        self.h, self.c = canvas.like.new_zeros(shape), canvas.like.new_zeros(shape)
        taps = layer.state[0].detach().flatten(0, 1)  # [3 h, 4 h]
        self.taps = [taps[:, gates_of(mine, layer.features)].contiguous() for mine in self.slices]

    def at(self, column: Wave, group: int, x: Tensor) -> Tensor:
        mine = self.slices[group]
        above = column.window(self.h, (0, 0), 1, 3).flatten(0, 2)  # [length * n, 3 h]
        c_above = column.window(self.c, (0, 1), 1, 1)[..., mine].flatten(0, 2)
        h, c = cell(self.input.at(column, group, x).addmm_(above, self.taps[group]), c_above)
        for states, now in ((self.h, h), (self.c, c)):
            here = column.window(states, (1, 1), 1, 1)[..., mine]
            here.copy_(now.view_as(here))
        return h


class Place(NamedTuple):
    """What one colour of one layer reads and writes at one column: views, and its weights.

    Args:
        x: the layer's input, of this colour, [2 h of the colour, n].
        seen: all of its input and the state to the left, [3 h, n].
        base: what rows above give to the gates from the left, [4 h of the colour, n].
        to_gates: from `seen`.
        c: of the pixel to the left, then of this one: a feature is of use to its own gates alone.
        h: the state here, of this colour, [h of the colour, n].
        states: of all colours, [h, n].
        added: what the state from the right adds to the input, [2 h of the colour, n].
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


class DiagonalSteps(Incremental):
    """The layers, each a `DiagonalBiLSTM` and a 1x1 convolution: x -> x + conv(lstm(x)).

    Tensors are [W, L, features, n], L layers, so that a gate of all images lies together.
    """

    def __init__(self, layers: Sequence[tuple[DiagonalBiLSTM, MaskedConv2d]], canvas: Canvas) -> None:
        lstm, conv = layers[0]
        depth, h, self.wide = len(layers), lstm.features, len(conv.out_groups)
        stacked = lambda tensors: torch.stack(list(tensors)).detach()  # noqa: E731
        made = lambda rows, columns=canvas.width: canvas.like.new_zeros(columns, depth, rows, canvas.n)  # noqa: E731
        # [L, 4 h, 2 h] and [L, 4 h, 1], from the left and from the right; [L, 2, 2, 4 h, h]; [L, 2 h, h].
        left, self.from_input = stacked((m.input.weight * m.input.mask)[:, :, 0, 0] for m, _ in layers).chunk(
            2, 1
        )
        left_bias, self.bias = stacked(m.input.bias[:, None] for m, _ in layers).chunk(2, 1)
        states = stacked(m.state for m, _ in layers).transpose(-1, -2)
        out = stacked((conv.weight * conv.mask)[:, :, 0, 0] for _, conv in layers)
        out_bias = stacked(conv.bias[:, None] for _, conv in layers)
        self.from_above, self.from_beside = states[:, 1].unbind(1)  # to the gates from the right

        # What gates see: at each column a layer's input, and the state to the left, none at first.
        self.seen = made(self.wide + h, canvas.width + 1)
        self.right = made(h)  # states from the right of the row above
        self.c = made(h, 1)[0]
        self.begun = False
        # Of each colour, what a row begins with: (weight, bias, result), of states above and from the right.
        self.above: list[tuple[Tensor, Tensor, Tensor]] = []
        self.across: list[tuple[Tensor, Tensor, Tensor]] = []
        self.places: list[list[list[Place]]] = []  # [colour][column][layer]
        of_state, of_wide = (
            slices(groups, canvas.channels) for groups in (lstm.state_groups, conv.out_groups)
        )
        for mine, within in zip(of_state, of_wide, strict=True):
            gates = gates_of(mine, h)
            to_gates = torch.cat([left, states[:, 0, 1]], 2)[:, gates]
            to_wide, base, added = out[:, within], made(len(gates)), made(within.stop - within.start)
            self.above.append((states[:, 0, 0, gates], left_bias[:, gates], base))
            self.across.append((to_wide, out_bias[:, within], added))
            self.places.append(
                [
                    [
                        Place(
                            x=self.seen[j, k, within],
                            seen=self.seen[j, k],
                            base=base[j, k],
                            to_gates=to_gates[k],
                            c=self.c[k, mine],
                            h=self.seen[j + 1, k, self.wide :][mine],
                            states=self.seen[j + 1, k, self.wide :],
                            added=added[j, k],
                            to_wide=to_wide[k],
                        )
                        for k in range(depth)
                    ]
                    for j in range(canvas.width)
                ]
            )

    def begin_row(self) -> None:
        if self.begun:
            self._from_right()
        self.begun = True
        h_above = self.seen[1:, :, self.wide :]
        for weight, bias, base in self.above:
            torch.add(product(weight, h_above), bias, out=base)
        for weight, bias, added in self.across:
            torch.add(product(weight, self.right), bias, out=added)
        self.seen[0, :, self.wide :] = 0
        self.c.zero_()

    def _from_right(self) -> None:
        """The states from the right of the row that has ended, all layers at once."""
        x = self.seen[:-1, :, : self.wide]
        pre = product(self.from_input, x) + product(self.from_above, self.right) + self.bias  # [W, L, 4 h, n]
        h = c = torch.zeros_like(self.c)
        for column in reversed(range(len(pre))):
            h, c = cell(torch.baddbmm(pre[column], self.from_beside, h), c, 1)
            self.right[column] = h

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        x = x.t()
        for place in self.places[group][column]:
            place.x.copy_(x)
            h, c = cell(torch.addmm(place.base, place.to_gates, place.seen), place.c, 0)
            place.h.copy_(h)
            place.c.copy_(c)
            x = torch.addmm(place.added, place.to_wide, place.states).add_(x)
        return x.t()

"""Convolutions that see only what comes before a pixel in raster order.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.layers.raster import Canvas, Incremental, IncrementalModule, Wave


def colour_groups(features: int, channels: int) -> list[int]:
    """The colour channel that each of `features` feature maps belongs to, in order ([1] section 3.4).

    Map i belongs to channel floor(i * channels / features): the first third to R, the next to G, the last
    to B.
    """
    return [i * channels // features for i in range(features)]


class MaskedConv2d(IncrementalModule):
    """A convolution of odd size whose kernel ends with its centre, in raster order ([1] section 3.4).

    An output of colour group g sees all inputs above and to the left of its position; at the position
    itself those of the groups before g (mask A), or of those and g (mask B). Rows below the centre are
    not stored, so that nothing is computed for them.

    Args:
        in_groups: the colour group of each input feature, not falling.
        out_groups: the colour group of each output feature, in any order.
        kernel_size: k, of the full kernel; odd.
        mask: "A" or "B".
        rows: how many rows above the kernel sees, k // 2 where None; 0 for one that sees its own row alone.
        gain: standard deviation of an output at first, over the root mean square of the inputs; sqrt(2), as
            in He et al. 2015, equation 10, keeps it through ReLUs. Biases start at zero.

    `weight` is [out, in, rows + 1, k], the kernel down to its centre row; without rows above it ends with its
    centre, [out, in, 1, (k + 1) / 2].

    [B, in, H, W] -> [B, out, H, W].

    Raises:
        ValueError: an even or non-positive kernel size, an unknown mask, rows below 0, or falling in_groups.
    """

    mask: Tensor

    def __init__(
        self,
        in_groups: Sequence[int],
        out_groups: Sequence[int],
        kernel_size: int,
        mask: Literal["A", "B"],
        gain: float = math.sqrt(2),
        rows: int | None = None,
    ) -> None:
        super().__init__()
        if rows is not None and rows < 0:
            raise ValueError(f"rows must be at least 0, found {rows}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 1, found {kernel_size}")
        if mask not in ("A", "B"):
            raise ValueError(f"mask must be A or B, found {mask!r}")
        if list(in_groups) != sorted(in_groups):
            raise ValueError(f"in_groups must not fall, found {list(in_groups)}")
        self.in_groups, self.out_groups, self.kind = tuple(in_groups), tuple(out_groups), mask
        self.reach = kernel_size // 2  # columns to either side
        self.rows = self.reach if rows is None else rows
        columns = kernel_size if self.rows else self.reach + 1
        shape = (len(out_groups), len(in_groups), self.rows + 1, columns)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(len(out_groups)))
        seen = torch.ones(shape, dtype=torch.bool)
        source, target = torch.tensor(self.in_groups), torch.tensor(self.out_groups)[:, None]
        seen[:, :, -1, self.reach] = source < target if mask == "A" else source <= target
        seen[:, :, -1, self.reach + 1 :] = False
        self.register_buffer("mask", seen, persistent=False)
        # At least one, for the first group of a mask A of size 1, which sees nothing.
        fan_in = seen.flatten(1).sum(1).clamp_min(1)  # [out]
        with torch.no_grad():
            self.weight.normal_().mul_(gain / fan_in.sqrt()[:, None, None, None]).mul_(seen)

    def extra_repr(self) -> str:
        """What `print(model)` shows."""
        size = 2 * self.reach + 1
        rows = "" if self.rows == self.reach else f", {self.rows} rows above"
        return f"{len(self.in_groups)}, {len(self.out_groups)}, {size}x{size}{rows}, mask {self.kind}"

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, out, H, W]."""
        weight = self.weight * self.mask
        if not self.rows:
            x = F.pad(x, (self.reach, 0)) if self.reach else x
            return F.conv2d(x, weight, self.bias)
        # conv2d would pad below as above. To cut those rows off its output costs more than this copy of x:
        # the gradient would have to be padded again.
        x = F.pad(x, (0, 0, self.rows, 0))
        return F.conv2d(x, weight, self.bias, padding=(0, self.reach))

    def incremental(self, canvas: Canvas) -> Incremental:
        """This convolution position by position, with the weights that it has now."""
        if canvas.stagger is not None and (self.reach or canvas.channels > 1):
            return WaveConv(self, canvas)
        if self.reach == 0 and self.kind == "B" and canvas.channels == 1:
            return _IncrementalLinear(self)
        return IncrementalConv(self, canvas)


class IncrementalConv(Incremental):
    """Keeps the rows of the input that the kernel still needs.

    What the finished rows contribute to a row is one ordinary convolution when the row begins; at a position
    the taps of its own row remain, one product [n, taps * in] @ [taps * in, out].
    """

    def __init__(self, conv: MaskedConv2d, canvas: Canvas) -> None:
        n, width, like = canvas.n, canvas.width, canvas.like
        features, reach = len(conv.in_groups), conv.reach
        self.sees_image = conv.kind == "A"
        weight = (conv.weight * conv.mask).detach()
        self.bias = conv.bias.detach()
        self.above_weight = weight[:, :, :-1]  # [out, in, reach, k]
        row_weight = weight[:, :, -1, : reach + 1].permute(2, 1, 0).flatten(0, 1)  # [taps * in, out]
        # Rows of the input with `reach` zeros at either side: those above, the newest last, and this one.
        self.above = like.new_zeros(n, conv.rows, width + 2 * reach, features)
        self.row = like.new_zeros(n, width + 2 * reach, features)
        flat = self.row.flatten(1)
        centres = [(j + reach) * features for j in range(width)]
        in_group, out_group = torch.tensor(conv.in_groups), torch.tensor(conv.out_groups)
        self.outputs = [out_group.eq(g).nonzero()[:, 0].to(like.device) for g in range(canvas.channels)]
        # Of each group: its weights; at each column where its input goes, and what its output is made from.
        self.weights: list[Tensor] = []
        self.places: list[list[Tensor]] = []
        self.windows: list[list[Tensor]] = []
        for g, outputs in enumerate(self.outputs):
            first, end = int(in_group.lt(g).sum()), int(in_group.le(g).sum())
            # Of the position itself, the features before this one are seen.
            seen = first if conv.kind == "A" else end
            self.weights.append(row_weight[: reach * features + seen, outputs].contiguous())
            self.places.append([flat[:, c + first : c + end] for c in centres])
            self.windows.append([flat[:, c - reach * features : c + seen] for c in centres])
        # At each column what bias and rows above contribute, [n, out of the group] or [out of the group].
        self.base: list[Sequence[Tensor]] = [[self.bias[outputs]] * width for outputs in self.outputs]
        self.in_first_row = True

    def begin_row(self) -> None:
        if not self.in_first_row and self.above.shape[1]:
            self.above = torch.cat([self.above[:, 1:], self.row[:, None]], 1)
            y = F.conv2d(self.above.permute(0, 3, 1, 2), self.above_weight, self.bias)  # [n, out, 1, width]
            self.start_from(y[:, :, 0].permute(2, 0, 1))
        self.in_first_row = False

    def start_from(self, base: Tensor) -> None:
        """What the row's outputs have before this row's own inputs are added, [width, n, out]."""
        self.base = [base.index_select(2, outputs).unbind(0) for outputs in self.outputs]

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        if not self.sees_image:
            self.places[group][column].copy_(x)
        return torch.addmm(self.base[group][column], self.windows[group][column], self.weights[group])

    def observe(self, column: int, group: int, pixel: Tensor) -> None:
        self.places[group][column].copy_(pixel[:, None])


class _IncrementalLinear(Incremental):
    """A 1x1 convolution with one group: it sees nothing but its argument, and keeps nothing."""

    def __init__(self, conv: MaskedConv2d) -> None:
        self.weight = conv.weight[:, :, 0, 0].detach().t().contiguous()  # [in, out]
        self.bias = conv.bias.detach()

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class WaveConv(Incremental):
    """At all positions of a wave: keeps the whole input, and copies what each position sees out of it."""

    def __init__(self, conv: MaskedConv2d, canvas: Canvas) -> None:
        n, reach, features = canvas.n, conv.reach, len(conv.in_groups)
        self.n, self.rows, self.reach, self.sees_image = n, conv.rows, reach, conv.kind == "A"
        # Zeros above and to either side: position (i, j) sees rows from i and columns from j.
        shape = (n, canvas.height + conv.rows, canvas.width + 2 * reach, features)
        self.input = canvas.like.new_zeros(shape)
        weight = (conv.weight * conv.mask).detach().permute(2, 3, 1, 0)  # [rows + 1, k, in, out]
        taps = [weight[:-1].flatten(0, 2), weight[-1, : reach + 1].flatten(0, 1)]
        in_group, out_group = torch.tensor(conv.in_groups), torch.tensor(conv.out_groups)
        self.ends = [int(in_group.lt(g).sum()) for g in range(canvas.channels + 1)]
        self.above, self.weights, self.biases = len(taps[0]), [], []
        for g in range(canvas.channels):
            outputs = out_group.eq(g).nonzero()[:, 0].to(canvas.like.device)
            self.weights.append(torch.cat(taps)[:, outputs].contiguous())
            self.biases.append(conv.bias.detach()[outputs])
        most = -(-canvas.width // (canvas.stagger or canvas.width))  # positions of a wave
        self.seen = canvas.like.new_zeros(most, n, len(self.weights[0]))

    def at(self, column: Wave, group: int, x: Tensor) -> Tensor:
        if not self.sees_image:
            self._put(column, group, x)
        seen = self.seen[: column.length]
        if self.rows and group == 0:
            above = column.window(self.input, (0, 0), self.rows, 2 * self.reach + 1)
            seen[:, :, : self.above].unflatten(2, above.shape[2:]).copy_(above)
        seen[:, :, self.above :] = column.window(self.input, (self.rows, 0), 1, self.reach + 1)[:, :, 0]
        return torch.addmm(self.biases[group], seen.flatten(0, 1), self.weights[group])

    def observe(self, column: Wave, group: int, pixel: Tensor) -> None:
        self._put(column, group, pixel[:, None])

    def _put(self, wave: Wave, group: int, x: Tensor) -> None:
        here = wave.window(self.input, (self.rows, self.reach), 1, 1)[:, :, 0]
        here[:, :, self.ends[group] : self.ends[group + 1]] = x.view(wave.length, self.n, -1)

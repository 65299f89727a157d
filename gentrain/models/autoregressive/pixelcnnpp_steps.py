"""PixelCNN++ pixel by pixel, with every activation computed once.

The stream of the rows above is computed a row at a time, the other a pixel at a time; at 1 / 2^s of the
resolution only in rows and columns that 2^s divides (Ramachandran et al. 2017, arXiv:1704.06001).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.layers.raster import Canvas, Incremental
from gentrain.layers.shifted_conv import ShiftedConv2d, Upsample2d, concat_elu

if TYPE_CHECKING:
    from gentrain.models.autoregressive.pixelcnnpp import GatedResNet, PixelCNNpp, Pyramid


def by_column(row: Tensor) -> Tensor:
    """[n, F, 1, W] -> [W, F, n]."""
    return row[:, :, 0].permute(2, 1, 0).contiguous()


def and_negative(x: Tensor) -> Tensor:
    """[F, ...] -> [2 F, ...]: x and -x, as `concat_elu` takes them."""
    return torch.cat([x, -x])


def each(weight: Tensor, x: Tensor, added: Tensor, to: Tensor | None = None) -> Tensor:
    """weight [out, F] x [W, F, n] + `added`, which broadcasts with it -> [W, out, n], into `to`."""
    added, weight = added.expand(len(x), *added.shape[-2:]), weight.expand(len(x), -1, -1)
    return torch.baddbmm(added, weight, x, out=to)


class RowConv:
    """A convolution of way "down": keeps the rows that its kernel still needs, with zeros to either side."""

    def __init__(self, conv: ShiftedConv2d, n: int, width: int, like: Tensor) -> None:
        self.stride, self.bias = conv.stride, conv.bias.detach()
        self.weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        beside = conv.padding[0]
        rows = like.new_zeros(n, self.weight.shape[1], conv.kernel[0], width + 2 * beside)
        self.rows = rows.contiguous(memory_format=torch.channels_last)
        self.newest = self.rows[:, :, -1:, beside : beside + width]

    def put(self, row: Tensor) -> None:
        """The next row [n, F, 1, W]."""
        self.rows[:, :, :-1] = self.rows[:, :, 1:]  # kernels have two rows at most
        self.newest.copy_(row)

    def put_elu(self, row: Tensor) -> None:
        """The next row is `concat_elu` of [n, F / 2, 1, W]."""
        self.rows[:, :, :-1] = self.rows[:, :, 1:]
        positive, negative = self.newest.chunk(2, 1)
        positive.copy_(row)
        torch.neg(row, out=negative)
        F.elu_(self.newest)

    def out(self) -> Tensor:
        """At the newest row, [n, out, 1, W / stride]."""
        return F.conv2d(self.rows, self.weight, self.bias, stride=self.stride)


class PixelConv:
    """A convolution of way "right" with two rows: what the row above gives is computed when a row begins.

    Features come before images, so that what a column sees lies together, and so do the halves of an output.

    Args:
        signs: 2 for an output and its negative.
        shift: added to the output, [out, n].
    """

    def __init__(
        self,
        conv: ShiftedConv2d,
        n: int,
        width: int,
        like: Tensor,
        signs: int = 1,
        shift: Tensor | None = None,
    ) -> None:
        _, features, _, columns = conv.v.shape
        taps = conv.weight.detach().permute(0, 2, 3, 1).flatten(2)  # [out, 2, columns * F]
        bias = conv.bias.detach()[:, None] if shift is None else conv.bias.detach()[:, None] + shift
        if signs == 2:
            taps, bias = and_negative(taps), and_negative(bias)
        self.from_above, self.from_row = (part.contiguous() for part in taps.unbind(1))
        self.bias = bias  # [out, 1], or [out, n]
        # This row, with zeros to the left; the one above as long as this one has not begun.
        row = like.new_zeros((width + columns - 1) * features, n)
        self.here = row.view(-1, features, n)[columns - 1 :].unbind()
        windows = row.unfold(0, columns * features, conv.stride * features)  # [W / stride, n, columns * F]
        self.windows = windows.transpose(1, 2)
        self.seen = self.windows.unbind()
        self.known = like.new_empty(len(self.windows), len(bias), n)
        self.base = self.known.unbind()

    def begin_row(self, more: Tensor | None = None) -> None:
        """The next row begins; `more` [W, out, n] is added to its output."""
        self.base = each(
            self.from_above, self.windows, self.bias if more is None else more + self.bias
        ).unbind()

    def out(self, column: int, to: Tensor | None = None) -> Tensor:
        """At a column of the output, [out, n], written into `to`."""
        return torch.addmm(self.base[column], self.from_row, self.seen[column], out=to)


class RowBlock:
    """A `GatedResNet`, a row at a time."""

    def __init__(self, block: GatedResNet, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        self.first, self.second = (RowConv(conv, n, width, like) for conv in (block.first, block.second))
        self.shortcut = block.shortcut
        self.label = None if block.label is None or y is None else block.label(y)[:, :, None, None]

    def of(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The next row [n, F, 1, W] -> [n, F, 1, W]."""
        self.first.put_elu(x)
        h = self.first.out()
        if beside is not None and self.shortcut is not None:
            h = h + self.shortcut(concat_elu(beside))
        self.second.put_elu(h)
        h = self.second.out()
        if self.label is not None:
            h = h + self.label
        a, b = h.chunk(2, 1)
        return x + a * b.sigmoid()


class PixelBlock:
    """A `GatedResNet`, a pixel at a time; its short cut is known for a whole row but for what was kept."""

    def __init__(self, block: GatedResNet, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        assert block.shortcut is not None
        label = None if block.label is None or y is None else block.label(y).t()
        self.first = PixelConv(block.first, n, width, like, signs=2)
        self.second = PixelConv(block.second, n, width, like, shift=label)
        features = len(block.first.bias)
        self.halves = [here.chunk(2) for here in self.first.here]
        self.gated = like.new_empty(2 * features, n)
        self.a, self.b = self.gated.chunk(2)
        # Of the stream of the rows above and, on the way up, of what was kept on the way down: [F, 2 F] each.
        weight = block.shortcut.weight[:, :, 0, 0].detach().unflatten(1, (2, -1, features))
        of_above, *of_kept = (and_negative(part.flatten(1)) for part in weight.unbind(2))
        self.of_above, self.of_above_bias = of_above, and_negative(block.shortcut.bias.detach()[:, None])
        self.of_kept = of_kept[0] if of_kept else None

    def begin_row(self, above: Tensor) -> None:
        """The next row begins, [n, F, 1, W] what the other stream gives."""
        self.first.begin_row(each(self.of_above, concat_elu(by_column(above)), self.of_above_bias))
        self.second.begin_row()

    def at(self, column: int, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """x [F, n], what was kept, as `concat_elu` gives it, [2 F, n] -> [F, n]."""
        as_it_is, negative = self.halves[column]
        as_it_is.copy_(x)
        torch.neg(x, out=negative)
        F.elu_(self.first.here[column])
        h = self.first.out(column, self.second.here[column])
        if kept is not None and self.of_kept is not None:
            h.addmm_(self.of_kept, kept)
        F.elu_(h)
        self.second.out(column, self.gated)
        return torch.addcmul(x, self.a, self.b.sigmoid_())


class Scale:
    """One resolution: its blocks, the way down to the next one and the way up from it."""

    def __init__(self, pyramid: Pyramid, s: int, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        blocks = lambda pair: (  # noqa: E731
            RowBlock(pair.above, n, width, like, y),
            PixelBlock(pair.beside, n, width, like, y),
        )
        self.blocks_down, self.blocks_up = ([*map(blocks, pyramid.pairs(s, up))] for up in (False, True))
        self.is_last = s == len(pyramid.smaller)
        if not self.is_last:
            smaller, larger = pyramid.between(s, up=False), pyramid.between(s, up=True)
            assert isinstance(smaller.above, ShiftedConv2d)
            assert isinstance(smaller.beside, ShiftedConv2d)
            assert isinstance(larger.above, Upsample2d)
            assert isinstance(larger.beside, Upsample2d)
            self.smaller_rows = RowConv(smaller.above, n, width, like)
            self.smaller_pixels = PixelConv(smaller.beside, n, width, like)
            self.larger_rows = larger.above.weight.detach(), larger.above.bias.detach()
            # [2, 2, F, F]: of even and odd rows and columns.
            self.larger_pixels = larger.beside.weight.detach().permute(2, 3, 1, 0).contiguous()
            self.larger_bias = larger.beside.bias.detach()[:, None]
        self.width, self.row = width, -1
        features = like.new_zeros(0)
        # What the row stream ends with, a row, and what it leaves for the way up.
        self.row_out = features
        self.skips: list[Tensor] = []
        # What the pixel stream ends with on the way up, by column; and on the way down.
        self.pixel_out: list[Tensor] = [features] * width
        self.lowest = features

    def begin_row(self, x: Tensor) -> Tensor:
        """The row stream on its way down: [n, F, 1, W] -> [n, F, 1, W]."""
        self.row += 1
        self.skips = [x]
        for rows, pixels in self.blocks_down:
            x = rows.of(x)
            pixels.begin_row(x)
            self.skips.append(x)
        if not self.is_last:
            self.smaller_rows.put(x)
            if self.row % 2 == 0:
                self.smaller_pixels.begin_row()
        return x

    def end_row(self, below: Scale | None) -> None:
        """The row stream on its way up, from the scale below."""
        if below is None:
            x = self.skips.pop()
        else:
            weight, bias = self.larger_rows
            parity = self.row % 2
            x = F.conv_transpose2d(below.row_out, weight[:, :, parity : parity + 1], bias, stride=(1, 2))[
                ..., 1 : 1 + self.width
            ]
        for rows, pixels in self.blocks_up:
            x = rows.of(x, self.skips.pop())
            pixels.begin_row(x)
        self.row_out = x

    def down(self, column: int, x: Tensor) -> None:
        """The pixel stream on its way down from x [F, n]."""
        for _, block in self.blocks_down:
            x = block.at(column, x)
        if not self.is_last:
            self.smaller_pixels.here[column].copy_(x)
        self.lowest = x

    def up(self, column: int, below: Scale | None) -> Tensor:
        """The pixel stream on its way up, from the scale below -> [F, n]."""
        kept = [block.first.here[column] for _, block in self.blocks_down]
        x = self.lowest
        if below is not None:
            kept.append(concat_elu(x, 0))
            weight = self.larger_pixels[self.row % 2, column % 2]
            x = torch.addmm(self.larger_bias, weight, below.pixel_out[column // 2])
        for _, block in self.blocks_up:
            x = block.at(column, x, kept.pop())
        self.pixel_out[column] = x
        return x


class Steps(Incremental):
    """`PixelCNNpp` in raster order; all colours of a pixel from one evaluation."""

    sees_image = True

    def __init__(self, model: PixelCNNpp, canvas: Canvas, y: Tensor | None = None) -> None:
        n, width, like = canvas.n, canvas.width, canvas.like
        self.model, self.channels = model, canvas.channels
        self.scales = [
            Scale(model.pyramid, s, n, -(-width // 2**s), like, y) for s in range(len(model.pyramid.down))
        ]
        self.above = RowConv(model.above, n, width, like)
        self.row_above = RowConv(model.row_above, n, width, like)
        self.to_the_left = PixelConv(model.to_the_left, n, width, like)
        self.head = model.head.weight[:, :, 0, 0].detach()
        self.head_bias = model.head.bias.detach()[:, None]
        # This row of the image and one more of ones.
        self.image_row = torch.cat(
            [like.new_zeros(n, canvas.channels, 1, width), like.new_ones(n, 1, 1, width)], 1
        )
        self.row = -1
        self.nothing = like.new_zeros(n, self.head.shape[1], 1, width)
        self.start_of_row = by_column(self.nothing).unbind()
        self.due: list[Scale] = []

    def begin_row(self) -> None:
        self.row += 1
        self.to_the_left.begin_row()
        x = self.nothing
        if self.row:  # both are moved down by a row, zeros above
            self.above.put(self.image_row)
            self.row_above.put(self.image_row)
            x, self.start_of_row = self.above.out(), by_column(self.row_above.out()).unbind()
        self.due = [scale for s, scale in enumerate(self.scales) if self.row % 2**s == 0]
        for s, scale in enumerate(self.due):
            x = scale.begin_row(x if s == 0 else self.due[s - 1].smaller_rows.out())
        for s in reversed(range(len(self.due))):
            self.due[s].end_row(self._below(s))

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        if group == 0:
            self.colours = self.model.colours_of(self._pixel(column).t())
        return self.colours.params()

    def _pixel(self, column: int) -> Tensor:
        """[M, n]."""
        x = self.start_of_row[column]
        if column:  # moved right by a column, zeros to the left
            x = x + self.to_the_left.out(column - 1)
        due = [scale for s, scale in enumerate(self.due) if column % 2**s == 0]
        for s, scale in enumerate(due):
            scale.down(column >> s, x if s == 0 else due[s - 1].smaller_pixels.out(column >> s))
        for s in reversed(range(len(due))):
            x = due[s].up(column >> s, self._below(s))
        return torch.addmm(self.head_bias, self.head, F.elu(x))

    def _below(self, s: int) -> Scale | None:
        return self.scales[s + 1] if s + 1 < len(self.scales) else None

    def observe(self, column: int, group: int, pixel: Tensor) -> None:
        self.image_row[:, group, 0, column] = pixel
        here = self.to_the_left.here[column]  # [C + 1, n]
        here[group] = pixel
        if group + 1 < self.channels:
            self.colours.observe(pixel)
        else:
            here[-1] = 1

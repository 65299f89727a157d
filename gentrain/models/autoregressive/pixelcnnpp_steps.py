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
    """[n, F, 1, W] -> [W, n, F]."""
    return row[:, :, 0].permute(2, 0, 1).contiguous()


class RowConv:
    """A convolution of way "down": keeps the rows that its kernel still needs."""

    def __init__(self, conv: ShiftedConv2d, n: int, width: int, like: Tensor) -> None:
        self.conv, self.weight, self.bias = conv, conv.weight.detach(), conv.bias.detach()
        features = self.weight.shape[1]
        self.rows = like.new_zeros(n, features, conv.kernel[0], width)

    def put(self, row: Tensor) -> None:
        """The next row [n, F, 1, W]."""
        self.rows = torch.cat([self.rows[:, :, 1:], row], 2)

    def out(self) -> Tensor:
        """At the newest row, [n, out, 1, W / stride]."""
        beside = self.conv.padding[:2]
        return F.conv2d(F.pad(self.rows, beside), self.weight, self.bias, stride=self.conv.stride)


class PixelConv:
    """A convolution of way "right" with two rows: what the row above gives is computed when a row begins."""

    def __init__(self, conv: ShiftedConv2d, n: int, width: int, like: Tensor) -> None:
        weight = conv.weight.detach()  # [out, F, 2, columns]
        self.above, self.bias, self.stride = weight[:, :, :1], conv.bias.detach(), conv.stride
        self.columns, self.features = weight.shape[3], weight.shape[1]
        self.weight = weight[:, :, 1].permute(2, 1, 0).flatten(0, 1).contiguous()  # [columns * F, out]
        # Of this row, with zeros to the left: [n, (W + columns - 1) * F].
        self.row = like.new_zeros(n, (width + self.columns - 1) * self.features)
        self.base = self.bias.expand(-(-width // self.stride), 1, -1)
        self.begun = False

    def begin_row(self) -> None:
        """The next row begins."""
        if self.begun:
            row = self.row.unflatten(1, (-1, self.features)).permute(0, 2, 1)[:, :, None]
            self.base = by_column(F.conv2d(row, self.above, self.bias, stride=self.stride))
        self.begun = True

    def put(self, column: int, x: Tensor) -> None:
        """The input [n, F] at a column."""
        place = column + self.columns - 1
        self.row[:, place * self.features : (place + 1) * self.features] = x

    def out(self, column: int) -> Tensor:
        """At a column of the output, [n, out]."""
        first = self.stride * column * self.features
        return torch.addmm(self.base[column], self.row[:, first : first + len(self.weight)], self.weight)


class Block:
    """A `GatedResNet` of either stream."""

    def __init__(self, block: GatedResNet, y: Tensor | None) -> None:
        self.label = None if block.label is None or y is None else block.label(y)  # [n, 2 F]
        self.shortcut = block.shortcut
        if block.shortcut is not None:
            self.mixed = block.shortcut.weight[:, :, 0, 0].detach().t().contiguous()  # [2 S, F]
            self.mixed_bias = block.shortcut.bias.detach()


class RowBlock(Block):
    """A row at a time."""

    def __init__(self, block: GatedResNet, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        super().__init__(block, y)
        self.first, self.second = (RowConv(conv, n, width, like) for conv in (block.first, block.second))

    def of(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """The next row [n, F, 1, W] -> [n, F, 1, W]."""
        self.first.put(concat_elu(x))
        h = self.first.out()
        if beside is not None and self.shortcut is not None:
            h = h + self.shortcut(concat_elu(beside))
        self.second.put(concat_elu(h))
        h = self.second.out()
        if self.label is not None:
            h = h + self.label[:, :, None, None]
        a, b = h.chunk(2, 1)
        return x + a * b.sigmoid()


class PixelBlock(Block):
    """A pixel at a time; the short cut of `beside`."""

    def __init__(self, block: GatedResNet, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        super().__init__(block, y)
        self.first, self.second = (PixelConv(conv, n, width, like) for conv in (block.first, block.second))

    def begin_row(self) -> None:
        """The next row begins."""
        self.first.begin_row()
        self.second.begin_row()

    def at(self, column: int, x: Tensor, beside: Tensor) -> Tensor:
        """x [n, F], beside [n, S] -> [n, F]."""
        self.first.put(column, concat_elu(x))
        h = self.first.out(column) + torch.addmm(self.mixed_bias, concat_elu(beside), self.mixed)
        self.second.put(column, concat_elu(h))
        h = self.second.out(column)
        if self.label is not None:
            h = h + self.label
        a, b = h.chunk(2, 1)
        return x + a * b.sigmoid()


class Scale:
    """One resolution: its blocks, the way down to the next one and the way up from it."""

    def __init__(self, pyramid: Pyramid, s: int, n: int, width: int, like: Tensor, y: Tensor | None) -> None:
        rows = lambda pair: RowBlock(pair.above, n, width, like, y)  # noqa: E731
        pixels = lambda pair: PixelBlock(pair.beside, n, width, like, y)  # noqa: E731
        down, up = pyramid.pairs(s, up=False), pyramid.pairs(s, up=True)
        self.down_rows, self.down_pixels = [*map(rows, down)], [*map(pixels, down)]
        self.up_rows, self.up_pixels = [*map(rows, up)], [*map(pixels, up)]
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
            self.larger_pixels = larger.beside.weight.detach().permute(2, 3, 0, 1).contiguous()
            self.larger_bias = larger.beside.bias.detach()
        self.width, self.row = width, -1
        features = like.new_zeros(0)
        # What the row stream gives: on the way down and up, by column; and at the end, a row.
        self.down_out: list[Tensor] = []
        self.up_out: list[Tensor] = []
        self.row_out = features
        self.skips: list[Tensor] = []
        # What the pixel stream ends with, by column.
        self.pixel_out: list[Tensor] = [features] * width

    def begin_row(self, x: Tensor) -> Tensor:
        """The row stream on its way down: [n, F, 1, W] -> [n, F, 1, W]."""
        self.row += 1
        self.skips, self.down_out = [x], []
        for block in self.down_rows:
            x = block.of(x)
            self.skips.append(x)
            self.down_out.append(by_column(x))
        for pixels in (*self.down_pixels, *self.up_pixels):
            pixels.begin_row()
        if not self.is_last:
            self.smaller_rows.put(x)
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
        self.up_out = []
        for block in self.up_rows:
            x = block.of(x, self.skips.pop())
            self.up_out.append(by_column(x))
        self.row_out = x

    def down(self, column: int, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The pixel stream on its way down: [n, F] -> [n, F], and what is kept for the way up."""
        kept = [x]
        for block, above in zip(self.down_pixels, self.down_out, strict=True):
            x = block.at(column, x, above[column])
            kept.append(x)
        if not self.is_last:
            self.smaller_pixels.put(column, x)
        return x, kept

    def up(self, column: int, kept: list[Tensor], below: Scale | None) -> Tensor:
        """The pixel stream on its way up, from the scale below -> [n, F]."""
        if below is None:
            x = kept.pop()
        else:
            weight = self.larger_pixels[self.row % 2, column % 2]
            x = torch.addmm(self.larger_bias, below.pixel_out[column // 2], weight)
        for block, above in zip(self.up_pixels, self.up_out, strict=True):
            x = block.at(column, x, torch.cat([above[column], kept.pop()], 1))
        self.pixel_out[column] = x
        return x


class Steps(Incremental):
    """`PixelCNNpp` in raster order; all colours of a pixel from one evaluation."""

    sees_image = True

    def __init__(self, model: PixelCNNpp, canvas: Canvas, y: Tensor | None = None) -> None:
        n, self.width, like = canvas.n, canvas.width, canvas.like
        self.model, self.channels = model, canvas.channels
        self.scales = [
            Scale(model.pyramid, s, n, -(-canvas.width // 2**s), like, y)
            for s in range(len(model.pyramid.down))
        ]
        self.above = RowConv(model.above, n, canvas.width, like)
        self.row_above = RowConv(model.row_above, n, canvas.width, like)
        self.to_the_left = PixelConv(model.to_the_left, n, canvas.width, like)
        self.head = model.head.weight[:, :, 0, 0].detach().t().contiguous()
        self.head_bias = model.head.bias.detach()
        # This row of the image and one more of ones, and the colours of this pixel that are drawn.
        self.image_row = torch.cat(
            [like.new_zeros(n, canvas.channels, 1, canvas.width), like.new_ones(n, 1, 1, canvas.width)], 1
        )
        self.pixel = like.new_zeros(n, canvas.channels)
        self.one = like.new_ones(n, 1)
        self.row = -1
        self.nothing = like.new_zeros(n, len(model.head.weight[0]))
        self.start_of_row = by_column(self.nothing[:, :, None, None].expand(-1, -1, 1, canvas.width))
        self.out = self.nothing

    def begin_row(self) -> None:
        self.row += 1
        self.to_the_left.begin_row()
        x = self.nothing[:, :, None, None].expand(-1, -1, 1, self.width)
        if self.row:  # both are moved down by a row, zeros above
            self.above.put(self.image_row)
            self.row_above.put(self.image_row)
            x, self.start_of_row = self.above.out(), by_column(self.row_above.out())
        due = [s for s in range(len(self.scales)) if self.row % 2**s == 0]
        for s in due:
            x = self.scales[s].begin_row(x)
            if s + 1 in due:
                x = self.scales[s].smaller_rows.out()
        for s in reversed(due):
            self.scales[s].end_row(self._below(s))

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        if group == 0:
            self.out = self._pixel(column)
        return self.model._value(self.out, self.pixel[:, :group])

    def _pixel(self, column: int) -> Tensor:
        """[n, M]."""
        x = self.start_of_row[column]
        if column:  # moved right by a column, zeros to the left
            x = x + self.to_the_left.out(column - 1)
        due = [s for s in range(len(self.scales)) if self.row % 2**s == column % 2**s == 0]
        kept = []
        for s in due:
            x, skips = self.scales[s].down(column >> s, x)
            kept.append(skips)
            if s + 1 in due:
                x = self.scales[s].smaller_pixels.out(column >> (s + 1))
        for s in reversed(due):
            x = self.scales[s].up(column >> s, kept[s], self._below(s))
        return torch.addmm(self.head_bias, F.elu(x), self.head)

    def _below(self, s: int) -> Scale | None:
        return self.scales[s + 1] if s + 1 < len(self.scales) else None

    def observe(self, column: int, group: int, pixel: Tensor) -> None:
        self.pixel[:, group] = pixel
        self.image_row[:, group, 0, column] = pixel
        if group + 1 == self.channels:
            self.to_the_left.put(column, torch.cat([self.pixel, self.one], 1))

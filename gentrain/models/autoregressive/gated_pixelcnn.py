"""The Gated PixelCNN.

[1] van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves & Kavukcuoglu 2016, "Conditional Image Generation
    with PixelCNN Decoders", arXiv:1606.05328.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.gate import gate
from gentrain.layers.masked_conv import IncrementalConv, MaskedConv2d, colour_groups
from gentrain.layers.raster import Canvas, Incremental, incremental
from gentrain.layers.settings import check_for_colours, check_odd, check_positive
from gentrain.models.autoregressive.autoregressive import Autoregressive
from gentrain.models.label_by import LabelByBias


class AboveConv2d(nn.Module):
    """A convolution over the rows above: all of their columns within reach, on both sides.

    Args:
        features: in, out.
        kernel_size: k, odd; k // 2 columns to either side.
        rows: how many rows it sees.
        inclusive: the last of them is the row itself: of features that know the rows above it alone.

    [B, in, H, W] -> [B, out, H, W].
    """

    def __init__(self, features: tuple[int, int], kernel_size: int, rows: int, inclusive: bool) -> None:
        super().__init__()
        self.reach, self.rows, self.inclusive = kernel_size // 2, rows, inclusive
        fan_in = features[0] * rows * kernel_size
        self.weight = nn.Parameter(torch.randn(features[1], features[0], rows, kernel_size) / fan_in**0.5)
        self.bias = nn.Parameter(torch.zeros(features[1]))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, in, H, W] -> [B, out, H, W]."""
        # Shifted down by one row where the row itself is not to be seen.
        x = F.pad(x, (0, 0, self.rows - 1, 0) if self.inclusive else (0, 0, self.rows, -1))
        return F.conv2d(x, self.weight, self.bias, padding=(0, self.reach))


class GatedLayer(nn.Module):
    """Both stacks, one layer higher ([1] figure 2).

    v -> gate(V v), V over rows above; h -> h + R gate(M h + L V v), M over the pixels to the left, mask B;
    and what h gives to the head.

    Args:
        groups: the colour of each feature map of h.
        kernel: size of the kernels, odd.
        classes: how long the vector of a condition is; 0: there is none.
        last: nothing lies above it, so that h ends here.
    """

    def __init__(self, groups: Sequence[int], kernel: int, classes: int, last: bool) -> None:
        super().__init__()
        features = len(groups)
        gates = [*groups, *groups]
        self.vertical = AboveConv2d((features, 2 * features), kernel, kernel // 2 + 1, inclusive=True)
        self.link = nn.Conv2d(2 * features, 2 * features, 1)
        self.horizontal = MaskedConv2d(groups, gates, kernel, "B", gain=1, rows=0)
        # What is added to h, and what the head is given.
        self.out = MaskedConv2d(groups, list(groups) if last else gates, 1, "B", gain=1)
        self.label = nn.Linear(classes, 4 * features, bias=False) if classes else None
        self.last = last

    def forward(self, v: Tensor, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """v, h [B, F, H, W], y [B, Y] -> v, h and what the head is given, [B, F, H, W] each."""
        above = self.vertical(v)
        beside = self.horizontal(h) + self.link(above)
        if self.label is not None and y is not None:
            for_above, for_beside = self.label(y)[:, :, None, None].chunk(2, 1)
            above, beside = above + for_above, beside + for_beside
        out = self.out(gate(beside))
        if self.last:
            return v, h, out
        added, skip = out.chunk(2, 1)
        return gate(above), h + added, skip


class GatedPixelCNN(Autoregressive, LabelByBias):
    """PixelCNN in two stacks, of all rows above and of the row's own past: no blind spot ([1] section 2.2).

    A pixel value of two levels is Bernoulli, of more levels categorical. For images of any size.

    Args:
        spec: what the images are.
        channels: feature maps of each stack.
        depth: layers.
        first_kernel: size of the first kernels, odd and at least 3.
        kernel: size of the kernels of a layer, odd and at least 3.
        head_channels: feature maps of the 1x1 layer before the logits.
        label_by: "none", a model of p(x), or "bias": what is known of an image is added before each gate
            ([1] equation 4).

    Raises:
        ValueError: a setting out of its range, or images without labels that are to be given.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        depth: int,
        first_kernel: int,
        kernel: int,
        head_channels: int,
        label_by: str,
    ) -> None:
        super().__init__(spec, Pixels.softmax(spec.levels))
        check_positive("depth", depth)
        colours = spec.shape[0]
        for setting, count in (("channels", channels), ("head_channels", head_channels)):
            check_for_colours(setting, count, colours)
        for setting, size in (("first_kernel", first_kernel), ("kernel", kernel)):
            check_odd(setting, size, least=3)
        classes = self.known_of(spec, label_by)
        self.tell(classes)
        image, groups, head = (colour_groups(count, colours) for count in (colours, channels, head_channels))
        self.above = AboveConv2d((colours, channels), first_kernel, first_kernel // 2, inclusive=False)
        self.beside = MaskedConv2d(image, groups, first_kernel, "A", gain=1, rows=0)
        self.layers = nn.ModuleList(
            GatedLayer(groups, kernel, classes, last=i + 1 == depth) for i in range(depth)
        )
        # The head reads a sum of `depth`; its logits are near uniform at first.
        self.head = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(groups, head, 1, "B", math.sqrt(2 / depth)),
            nn.ReLU(),
            MaskedConv2d(head, image * self.pixels.parameters, 1, "B", 0.1),
        )

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1], y the condition where there is one -> logits [B, P * C, H, W]."""
        x = x.to(memory_format=torch.channels_last)
        known = next(iter(self.as_numbers(*y)), None)
        v, h = self.above(x), self.beside(x)
        skips = []
        for layer in self.layers:
            v, h, skip = layer(v, h, known)
            skips.append(skip)
        return self.head(torch.stack(skips).sum(0) if len(skips) > 1 else skips[0])

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """The vertical stack row by row, the other position by position."""
        return _Steps(self, canvas, next(iter(self.as_numbers(*y)), None))


class _Rows:
    """An `AboveConv2d` row by row: keeps the rows that it still needs."""

    def __init__(self, conv: AboveConv2d, canvas: Canvas, features: int) -> None:
        self.conv = conv
        shape = (canvas.n, features, conv.rows, canvas.width)
        self.rows = canvas.like.new_zeros(shape).to(memory_format=torch.channels_last)

    def of(self, row: Tensor) -> Tensor:
        """The next row [n, in, 1, W] -> [n, out, 1, W]: of that row where inclusive, else of the next."""
        self.rows = torch.cat([self.rows[:, :, 1:], row], 2)
        return F.conv2d(self.rows, self.conv.weight, self.conv.bias, padding=(0, self.conv.reach))


class _Steps(Incremental):
    sees_image = True

    def __init__(self, model: GatedPixelCNN, canvas: Canvas, known: Tensor | None) -> None:
        self.n, self.channels, self.width = canvas.n, canvas.channels, canvas.width
        features = len(model.beside.out_groups)
        self.layers = [layer for layer in model.layers if isinstance(layer, GatedLayer)]
        self.above = _Rows(model.above, canvas, canvas.channels)
        self.verticals = [_Rows(layer.vertical, canvas, features) for layer in self.layers]
        self.beside = incremental(model.beside, canvas)
        self.horizontals = [IncrementalConv(layer.horizontal, canvas) for layer in self.layers]
        self.outs = [incremental(layer.out, canvas) for layer in self.layers]
        self.head = incremental(model.head, canvas)
        self.labels = [
            None if layer.label is None or known is None else layer.label(known)[:, :, None, None].chunk(2, 1)
            for layer in self.layers
        ]
        # This row of the image, scaled, and before the first row what lies above it.
        self.row = canvas.like.new_zeros(canvas.n, canvas.channels, 1, canvas.width)

    def begin_row(self) -> None:
        v = self.above.of(self.row)  # [n, F, 1, W]
        for layer, vertical, horizontal, label in zip(
            self.layers, self.verticals, self.horizontals, self.labels, strict=True
        ):
            above = vertical.of(v)
            base = layer.link(above) + layer.horizontal.bias[:, None, None]
            if label is not None:
                above, base = above + label[0], base + label[1]
            horizontal.start_from(base[:, :, 0].permute(2, 0, 1).contiguous())
            v = gate(above)

    def at(self, column: int, group: int, x: Tensor) -> Tensor:
        h = self.beside.at(column, group, x)
        total: Tensor | None = None
        for layer, horizontal, out in zip(self.layers, self.horizontals, self.outs, strict=True):
            skip = out.at(column, group, gate(horizontal.at(column, group, h)))
            if not layer.last:
                added, skip = skip.chunk(2, 1)
                h = h + added
            total = skip if total is None else total + skip
        assert total is not None
        return self.head.at(column, group, total)

    def observe(self, column: int, group: int, pixel: Tensor) -> None:
        self.row[:, group, 0, column] = pixel
        self.beside.observe(column, group, pixel)

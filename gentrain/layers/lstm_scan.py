"""A convolutional LSTM that goes over an image, a line of pixels at a time, and back through time.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Input, forget and output gate, and what is written: F features each, in this order.
GATES = 4


class Line(NamedTuple):
    """The pixels that one step computes at once; pixel row * W + column has this number.

    Args:
        first: place of the first one in the state, 0 .. places-1.
        length: how many there are, at `first`, `first` + 1, ...
        start: number of the first pixel.
        stride: from one pixel's number to the next one's.
    """

    first: int
    length: int
    start: int
    stride: int

    def of(self, x: Tensor) -> Tensor:
        """A view of these pixels of x [B, H * W, F], F together: [length, B, F]."""
        (images, _, features), (image, pixel, _) = x.shape, x.stride()
        size, strides = (self.length, images, features), (self.stride * pixel, image, 1)
        return x.as_strided(size, strides, x.storage_offset() + self.start * pixel)


def rows(height: int, width: int) -> list[Line]:
    """Row by row from the top; a place in the state is a column."""
    return [Line(0, width, i * width, 1) for i in range(height)]


def diagonals(height: int, width: int, from_right: bool = False) -> list[Line]:
    """Diagonal by diagonal from the top left, or right; a place in the state is a row ([1] section 3.2).

    [1] skews the image for this, so that diagonals are columns.
    """
    lines = []
    for t in range(height + width - 1):
        first, last = max(0, t - width + 1), min(t, height - 1)
        column = width - 1 - (t - first) if from_right else t - first
        stride = width + 1 if from_right else width - 1
        lines.append(Line(first, last - first + 1, first * width + column, stride))
    return lines


def cell(pre: Tensor, c: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    """One step of the LSTM ([1] equation 3): pre [..., 4 F, ...], c [..., F, ...] -> h, c [..., F, ...].

    `dim` is that of the features.
    """
    features = c.shape[dim]
    i, f, o = pre.narrow(dim, 0, 3 * features).sigmoid().chunk(3, dim)
    c = f * c + i * pre.narrow(dim, 3 * features, features).tanh()
    return o * c.tanh(), c


@torch.compiler.disable
def scan(pre: Tensor, weight: Tensor, ways: Sequence[Sequence[Line]], places: int) -> Tensor:
    """The states of convolutional LSTMs that go D ways over an image at once, from zero, in float32 at least.

    The state at place l is computed from what the input gives there and from the last states at the places
    l - 1, l, ..., l + K - 2, as many as the kernel has taps.

    Args:
        pre: what the input gives to the gates, [B, D * 4 F, H, W].
        weight: [D, K, F, 4 F], K = 2 or 3.
        ways: the steps of each, every pixel in one of them; in step t all have the same places.
        places: how many there are in the state.

    Returns:
        h, [D, B, F, H, W].
    """
    height, width = pre.shape[-2:]
    with torch.autocast(pre.device.type, enabled=False):
        dtype = torch.promote_types(pre.dtype, torch.float32)
        flat = pre.permute(0, 2, 3, 1).flatten(1, 2)  # [B, H * W, D * 4 F], a view where those lie together
        flat = flat if flat.stride(2) == 1 else flat.contiguous()
        states: Tensor = _Scan.apply(flat, weight.to(dtype), [*zip(*ways, strict=True)], places)
    return states.unflatten(2, (height, width)).movedim(-1, 2)


class _Scan(torch.autograd.Function):
    """All ways in one step: of two, half as many operations, twice as large."""

    @staticmethod
    def forward(
        ctx: Any, pre: Tensor, weight: Tensor, steps: Sequence[Sequence[Line]], places: int
    ) -> Tensor:
        """pre [B, H * W, D * 4 F], weight [D, K, F, 4 F] -> [D, B, H * W, F]."""
        images, pixels, _ = pre.shape
        ways, taps, features, gates = weight.shape
        pres = pre.split(gates, -1)
        states = weight.new_empty(ways, images, pixels, features)
        # With zeros before the first place and, for a third tap, behind the last.
        h = weight.new_zeros(ways, places + taps - 1, images, features)
        c = weight.new_zeros(ways, places, images, features)
        kept: list[Tensor] = []
        for lines in steps:
            first, length = lines[0].first, lines[0].length
            before = h[:, first : first + length + taps - 1].clone()
            a = weight.new_empty(ways, length, images, gates)
            for way, line in enumerate(lines):
                a[way].copy_(line.of(pres[way]))
                flat = a[way].view(-1, gates)
                for k in range(taps):
                    flat.addmm_(before[way, k : k + length].view(-1, features), weight[way, k])
            a[..., : 3 * features].sigmoid_()
            a[..., 3 * features :].tanh_()
            i, f, o, g = a.chunk(GATES, -1)
            here = c[:, first : first + length]
            c_before = here.clone()
            torch.mul(f, c_before, out=here).addcmul_(i, g)
            shown = here.tanh()
            h_here = torch.mul(o, shown, out=h[:, first + 1 : first + 1 + length])
            for way, line in enumerate(lines):
                line.of(states[way]).copy_(h_here[way])
            kept += [a, before, c_before, shown]
        ctx.save_for_backward(weight, *kept)
        ctx.steps, ctx.places, ctx.dtype = steps, places, pre.dtype
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """grad [D, B, H * W, F] -> those of pre and weight."""
        weight, *kept = ctx.saved_tensors
        ways, taps, features, gates = weight.shape
        grad = grad.contiguous()
        _, images, pixels, _ = grad.shape
        back = weight.transpose(2, 3).contiguous()  # [D, K, 4 F, F]
        d_pre = grad.new_empty(images, pixels, ways * gates, dtype=ctx.dtype)
        d_pres = d_pre.split(gates, -1)
        d_weight = torch.zeros_like(weight)
        d_h = grad.new_zeros(ways, ctx.places + taps - 1, images, features)
        d_c = grad.new_zeros(ways, ctx.places, images, features)
        for lines in reversed(ctx.steps):
            shown, c_before, before, a = (kept.pop() for _ in range(4))
            first, length = lines[0].first, lines[0].length
            i, f, o, g = a.chunk(GATES, -1)
            d = d_h[:, first + 1 : first + 1 + length].clone()
            d_h[:, first + 1 : first + 1 + length] = 0  # a state is its own line's
            for way, line in enumerate(lines):
                d[way] += line.of(grad[way])
            d_a = torch.empty_like(a)
            d_i, d_f, d_o, d_g = d_a.chunk(GATES, -1)
            torch.mul(d, shown, out=d_o)
            d_here = d_c[:, first : first + length]
            d_here += torch.ops.aten.tanh_backward(d * o, shown)
            torch.mul(d_here, g, out=d_i)
            torch.mul(d_here, c_before, out=d_f)
            torch.mul(d_here, i, out=d_g)
            d_here *= f
            opened = a[..., : 3 * features]
            d_a[..., : 3 * features] *= opened - opened * opened
            d_g *= 1 - g * g
            for way, line in enumerate(lines):
                line.of(d_pres[way]).copy_(d_a[way])
                flat = d_a[way].view(-1, gates)
                for k in range(taps):
                    seen = before[way, k : k + length].view(-1, features)
                    d_weight[way, k].addmm_(seen.t(), flat)
                    d_h[way, first + k : first + k + length].view(-1, features).addmm_(flat, back[way, k])
        return d_pre, d_weight, None, None

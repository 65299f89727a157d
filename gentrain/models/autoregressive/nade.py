"""The neural autoregressive distribution estimator.

[1] Larochelle & Murray 2011, "The Neural Autoregressive Distribution Estimator", AISTATS.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gentrain.contracts import DataSpec
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.ordering import Steps
from gentrain.layers.settings import check_choice, check_positive
from gentrain.models.autoregressive.vector import OverVectors

#: Where the running sum is kept for the way back, in values: between them it is computed again, so far ahead
#: that it stays in a processor's cache.
KEPT_EVERY = 8


class NADE(OverVectors):
    """h_i = f(c + sum_(j<i) W_j v_j), p(v_i | v_<i) from b_i + V_i h_i ([1] equations 7 and 8).

    The weights W of all hidden layers are the same, so the sum goes on from one value to the next ([1]
    algorithm 1). f was the sigmoid in [1]; rectified units reach more.

    Args:
        spec: what the images are.
        hidden: H, units of each hidden layer.
        activation: "relu" or "sigmoid".
        order: "raster" or "random".
        order_seed: which random order.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(self, spec: DataSpec, *, hidden: int, activation: str, order: str, order_seed: int) -> None:
        check_positive("hidden", hidden)
        check_choice("activation", activation, ("relu", "sigmoid"))
        super().__init__(spec, order, order_seed)
        self.rectified = activation == "relu"
        dims, count = spec.dims, self.pixels.parameters
        # He et al. 2015, equation 10.
        self.encoder = nn.Parameter(math.sqrt(2 / dims) * torch.randn(dims, hidden))  # W
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))  # c
        self.decoder = nn.Parameter(math.sqrt(2 / hidden) * torch.randn(dims, count, hidden))  # V
        self.bias = nn.Parameter(torch.zeros(dims, count))  # b

    @torch.compiler.disable
    def outputs(self, v: Tensor) -> Tensor:
        """v [B, D] -> [B, D, P]."""
        with torch.autocast(v.device.type, enabled=False):
            v = at_least_float32(v)
            out: Tensor = _ValueByValue.apply(
                v, self.encoder, self.hidden_bias, self.decoder, self.bias, self.rectified
            )
        return out

    def steps(self, n: int, which: int = 0) -> Steps:
        """The sum goes on with each value."""
        return _Steps(self, n)


def _f(a: Tensor, rectified: bool, out: Tensor) -> Tensor:
    """The hidden units of a, written into `out`."""
    return torch.clamp_min(a, 0, out=out) if rectified else torch.sigmoid(a, out=out)


class _ValueByValue(torch.autograd.Function):
    """The parameters of all values, [B, D, P], with memory for one hidden layer and not for D.

    autograd would keep a hidden layer for each value, [B, D, H]. Here the way back has a copy of the sum from
    every `KEPT_EVERY` values, and goes on from it once more.
    """

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, encoder: Tensor, c: Tensor, decoder: Tensor, b: Tensor, rectified: bool
    ) -> Tensor:
        """v [B, D], encoder [D, H], c [H], decoder [D, P, H], b [D, P]."""
        (n, dims), hidden = v.shape, len(c)
        values = v.t().contiguous()  # [D, B]
        a = c.expand(n, hidden).clone()
        h = torch.empty_like(a)
        out = v.new_empty(dims, n, b.shape[1])
        kept = []
        for i in range(dims):
            if i % KEPT_EVERY == 0:
                kept.append(a.clone())
            torch.addmm(b[i], _f(a, rectified, h), decoder[i].t(), out=out[i])
            a.addcmul_(values[i, :, None], encoder[i])
        ctx.save_for_backward(values, encoder, decoder, *kept)
        ctx.rectified = rectified
        return out.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        """grad [B, D, P] -> those of encoder, c, decoder and b, and of v where it is asked for."""
        values, encoder, decoder, *kept = ctx.saved_tensors
        grad = grad.transpose(0, 1).contiguous()  # [D, B, P]
        dims = len(values)
        d_encoder, d_decoder = torch.zeros_like(encoder), torch.zeros_like(decoder)
        d_values = torch.zeros_like(values) if ctx.needs_input_grad[0] else None
        d_a = torch.zeros_like(kept[0])  # of the sum, by the values after this one
        h, d_h = torch.empty_like(d_a), torch.empty_like(d_a)
        sums: list[Tensor] = []
        for i in reversed(range(dims)):
            if not sums:
                sums.append(kept.pop())
                for j in range(i // KEPT_EVERY * KEPT_EVERY, i):
                    sums.append(sums[-1].addcmul(values[j, :, None], encoder[j]))
            torch.mv(d_a.t(), values[i], out=d_encoder[i])
            if d_values is not None:
                torch.mv(d_a, encoder[i], out=d_values[i])
            _f(sums.pop(), ctx.rectified, h)
            torch.mm(grad[i].t(), h, out=d_decoder[i])
            torch.mm(grad[i], decoder[i], out=d_h)
            d_a += (
                torch.ops.aten.threshold_backward(d_h, h, 0)
                if ctx.rectified
                else torch.ops.aten.sigmoid_backward(d_h, h)
            )
        d_v = None if d_values is None else d_values.t()
        return d_v, d_encoder, d_a.sum(0), d_decoder, grad.sum(1), None


class _Steps(Steps):
    def __init__(self, model: NADE, n: int) -> None:
        self.encoder, self.decoder = model.encoder.detach(), model.decoder.detach()
        self.bias, self.rectified = model.bias.detach(), model.rectified
        self.a = model.hidden_bias.detach().expand(n, -1).clone()  # [n, H]
        self.h = torch.empty_like(self.a)

    def at(self, i: int) -> Tensor:
        return torch.addmm(self.bias[i], _f(self.a, self.rectified, self.h), self.decoder[i].t())

    def observe(self, i: int, value: Tensor) -> None:
        self.a.addcmul_(value[:, None], self.encoder[i])

"""WaveNet.

[1] van den Oord, Dieleman, Zen, Simonyan, Vinyals, Graves, Kalchbrenner, Senior & Kavukcuoglu 2016,
    "WaveNet: A Generative Model for Raw Audio", arXiv:1609.03499.
[2] Le Paine et al. 2016, "Fast WaveNet Generation Algorithm", arXiv:1611.09482.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.gate import gate
from gentrain.layers.raster import Canvas, Incremental
from gentrain.layers.settings import check_positive
from gentrain.models.autoregressive.autoregressive import Autoregressive
from gentrain.models.label_by import LabelByBias


class DilatedLayer(nn.Module):
    """A gated unit over two samples, `dilation` apart ([1] section 2.3 and figure 4).

    g = tanh(W_f * h + V_f y) sigmoid(W_g * h + V_g y), and h + W_r g goes to the next layer.

    Args:
        channels: features of h: R.
        dilation: in samples.
        known: how long the vector of a condition is; 0: there is none.
        last: nothing lies above it, so that h ends here.
    """

    def __init__(self, channels: int, dilation: int, known: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(channels, 2 * channels, 2, dilation=dilation)
        self.residual = None if last else nn.Conv1d(channels, channels, 1)
        self.label = nn.Linear(known, 2 * channels, bias=False) if known else None

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """h [B, T, R], y [B, Y] -> h and g, [B, T, R] each."""
        past = F.pad(h[:, : max(h.shape[1] - self.dilation, 0)], (0, 0, min(self.dilation, h.shape[1]), 0))
        # A convolution of two taps is one product, features side by side in memory: 0.6 of the time in bf16.
        weight = self.conv.weight.permute(0, 2, 1).flatten(1)  # [2 R, 2 R], the past first
        units = F.linear(torch.cat((past, h), -1), weight, self.conv.bias)  # [B, T, 2 R]
        if self.label is not None and y is not None:
            units = units + self.label(y)[:, None]
        g = gate(units, dim=-1)
        return (h if self.residual is None else h + _linear(self.residual, g)), g


class WaveNet(Autoregressive, LabelByBias):
    """Dilated causal convolutions over samples, gated, with residual and skip connections ([1] section 2).

    A sample is categorical over its levels: of sound, 256 of the mu-law ([1] section 2.2). It is given to the
    network as a number, not one-hot: the first layer sees `first_kernel` of them at once. An image is a
    sequence too, in reading order, colours in turn. Sounds are drawn of any length.

    Args:
        spec: what the images or sounds are.
        channels: features of each layer: R.
        skip: features of the sum of skips, and of the layer after it: S.
        layers: of a stack; dilations 1, 2, 4, ..., 2^(layers - 1).
        stacks: how often that comes again.
        first_kernel: samples that the first layer sees.
        label_by: "none", a model of p(x), or "bias": what is known of a sound is added in each gate ([1]
            section 2.5).

    Raises:
        ValueError: a setting below 1, images without labels that are to be given, or a field of view that is
            longer than the context which the spec gives to each sound.
    """

    any_length = True

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        skip: int,
        layers: int,
        stacks: int,
        first_kernel: int,
        label_by: str,
    ) -> None:
        super().__init__(spec, Pixels.softmax(spec.levels))
        sizes = {"channels": channels, "skip": skip, "layers": layers, "stacks": stacks}
        for name, size in {**sizes, "first_kernel": first_kernel}.items():
            check_positive(name, size)
        self.field = first_kernel + stacks * (2**layers - 1)
        if spec.context and self.field > spec.context:
            raise ValueError(
                f"the field of view is {self.field:,} samples, of which dataset.context={spec.context} gives "
                f"fewer; set dataset.context={self.field}, or fewer layers or stacks"
            )
        known = self.known_of(spec, label_by)
        self.tell(known)
        self.first = nn.Conv1d(1, channels, first_kernel)
        dilations = [2**i for i in range(layers)] * stacks
        self.layers = nn.ModuleList(
            DilatedLayer(channels, dilation, known, last=i + 1 == len(dilations))
            for i, dilation in enumerate(dilations)
        )
        # The sum of what each layer's g gives to the head, W_s g, as one product of all g.
        self.skip = nn.Conv1d(channels * len(dilations), skip, 1)
        self.head = nn.Sequential(
            nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, self.pixels.parameters, 1)
        )

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1], y the condition where there is one -> logits [B, P * C, H, W]."""
        return self.params_after(0, x, *y)

    def params_after(self, context: int, x: Tensor, *y: Tensor) -> Tensor:
        """The same of the columns from `context` on, [B, P * C, H, W - context]; of one row, if not all."""
        channels, height, width = x.shape[1:]
        sequence = x.permute(0, 2, 3, 1).flatten(1)  # [B, T], T = H W C
        known = next(iter(self.as_numbers(*y)), None)
        # Each sample sees those before it: the sequence, one later.
        size = self.first.kernel_size[0]
        seen = F.pad(sequence[:, :-1], (size, 0)).unfold(1, size, 1)  # [B, T, K]
        h = F.linear(seen, self.first.weight[:, 0], self.first.bias)  # [B, T, R]
        gates = []
        for layer in self.layers:
            h, g = layer(h, known)
            gates.append(g[:, context * channels :])
        logits = _linear(self.skip, torch.cat(gates, -1))
        for part in self.head:
            logits = _linear(part, logits) if isinstance(part, nn.Conv1d) else part(logits)
        logits = logits.unflatten(1, (height, width - context, channels))  # [B, H, W, C, P]
        return logits.permute(0, 4, 3, 1, 2).flatten(1, 2)

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """One sample after the other: each layer keeps what it will need again ([2])."""
        return _Steps(self, canvas, next(iter(self.as_numbers(*y)), None))


class _Layer:
    """A `DilatedLayer` sample by sample; its queue holds h of the last `dilation` samples."""

    def __init__(self, layer: DilatedLayer, n: int, known: Tensor | None) -> None:
        weight = layer.conv.weight  # [2 R, R, 2]
        self.past, self.now = weight[..., 0].t().contiguous(), weight[..., 1].t().contiguous()
        bias = cast("Tensor", layer.conv.bias)
        self.bias = bias if layer.label is None or known is None else bias + layer.label(known)  # [2 R]
        self.residual = None if layer.residual is None else _product(layer.residual)
        self.length = layer.dilation
        self.queue = list(weight.new_zeros(self.length, n, weight.shape[1]))

    def at(self, t: int, h: Tensor) -> tuple[Tensor, Tensor]:
        """h [n, R] of sample t -> h and g, [n, R] each."""
        place = t % self.length
        units = torch.addmm(torch.addmm(self.bias, self.queue[place], self.past), h, self.now)
        self.queue[place] = h
        g = gate(units)
        if self.residual is not None:
            weight, bias = self.residual
            h = torch.addmm(h, g, weight).add_(bias)
        return h, g


class _Steps(Incremental):
    sees_image = True

    def __init__(self, model: WaveNet, canvas: Canvas, known: Tensor | None) -> None:
        self.first, self.first_bias = model.first.weight[:, 0].contiguous(), model.first.bias
        self.size = self.first.shape[1]  # K
        layers = [layer for layer in model.layers if isinstance(layer, DilatedLayer)]
        self.layers = [_Layer(layer, canvas.n, known) for layer in layers]
        self.skip, self.skip_bias = _product(model.skip)
        self.head = [_product(part) for part in model.head if isinstance(part, nn.Conv1d)]
        # The last K samples, twice, so that they lie in a row wherever they begin.
        self.past = canvas.like.new_zeros(canvas.n, 2 * self.size)
        self.t = 0

    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        begin = self.t % self.size
        h = F.linear(self.past[:, begin : begin + self.size], self.first, self.first_bias)
        gates = []
        for layer in self.layers:
            h, g = layer.at(self.t, h)
            gates.append(g)
        total = torch.addmm(self.skip_bias, torch.cat(gates, 1), self.skip)
        for weight, bias in self.head:
            total = torch.addmm(bias, total.relu_(), weight)
        return total

    def observe(self, column: Any, group: int, pixel: Tensor) -> None:
        place = self.t % self.size
        self.past[:, place] = pixel
        self.past[:, place + self.size] = pixel
        self.t += 1


def _linear(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of size 1 over x [B, T, in] -> [B, T, out]."""
    return F.linear(x, conv.weight[..., 0], conv.bias)


def _product(conv: nn.Conv1d) -> tuple[Tensor, Tensor]:
    """A convolution of size 1 as a product: its weight [in, out] and its bias [out]."""
    return conv.weight[..., 0].t().contiguous(), cast("Tensor", conv.bias)

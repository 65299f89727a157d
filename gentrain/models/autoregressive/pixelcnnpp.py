"""PixelCNN++.

[1] Salimans, Karpathy, Chen & Kingma 2017, "PixelCNN++: Improving the PixelCNN with Discretized Logistic
    Mixture Likelihood and Other Modifications", arXiv:1701.05517, and its code.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec
from gentrain.distributions import MIN_LOG_SCALE, DiscretizedLogisticMixture, Pixels
from gentrain.layers.raster import Canvas, Incremental
from gentrain.layers.settings import check_positive
from gentrain.layers.shifted_conv import (
    ShiftedConv2d,
    Upsample2d,
    Way,
    concat_elu,
    down_shift,
    right_shift,
)
from gentrain.models.autoregressive.autoregressive import Autoregressive
from gentrain.models.autoregressive.pixelcnnpp_steps import Steps
from gentrain.models.label_by import LabelByBias


class GatedResNet(nn.Module):
    """x -> x + a sigmoid(b), (a, b) from two convolutions of x, a short cut between them, dropout ([1] 2.4).

    Args:
        features: F, of input and output.
        way: what the convolutions see: "down", kernel 2x3, or "right", kernel 2x2.
        shortcut: features of what comes from elsewhere; 0: nothing does.
        dropout: probability that a feature is dropped ([1] section 2.5).
        classes: length of the condition's vector; 0: there is none.
    """

    def __init__(self, features: int, way: Way, shortcut: int, dropout: float, classes: int) -> None:
        super().__init__()
        kernel = (2, 3) if way == "down" else (2, 2)
        self.first = ShiftedConv2d((2 * features, features), kernel, way)
        self.shortcut = ShiftedConv2d((2 * shortcut, features), (1, 1), way) if shortcut else None
        self.dropout = nn.Dropout(dropout)
        self.second = ShiftedConv2d((2 * features, 2 * features), kernel, way, scale=0.1)
        self.label = nn.Linear(classes, 2 * features, bias=False) if classes else None

    def forward(self, x: Tensor, beside: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x [B, F, H, W], `beside` [B, shortcut, H, W], y [B, Y] -> [B, F, H, W]."""
        h = self.first(concat_elu(x))
        if self.shortcut is not None and beside is not None:
            h = h + self.shortcut(concat_elu(beside))
        h = self.second(self.dropout(concat_elu(h)))
        if self.label is not None and y is not None:
            h = h + self.label(y)[:, :, None, None]
        a, b = h.chunk(2, 1)
        return x + a * b.sigmoid()


class Pair(nn.Module):
    """A gated ResNet of each stream: of the rows above, and of the own row, which sees the other."""

    def __init__(self, features: int, up: bool, dropout: float, classes: int) -> None:
        super().__init__()
        self.above = GatedResNet(features, "down", features if up else 0, dropout, classes)
        self.beside = GatedResNet(features, "right", 2 * features if up else features, dropout, classes)


class Resample(nn.Module):
    """Half, or twice, the resolution of each stream."""

    def __init__(self, features: int, up: bool) -> None:
        super().__init__()
        self.above: nn.Module
        self.beside: nn.Module
        if up:
            self.above, self.beside = Upsample2d(features, "down"), Upsample2d(features, "right")
        else:
            self.above = ShiftedConv2d((features, features), (2, 3), "down", stride=2)
            self.beside = ShiftedConv2d((features, features), (2, 2), "right", stride=2)


class Pyramid(nn.Module):
    """Down to 1 / 2^(scales - 1) of the resolution and up again, short cuts across ([1] figure 2).

    Args:
        features: F, feature maps everywhere.
        depth: gated ResNets of a stream at each resolution on the way down; one more on the way up.
        scales: resolutions.
        dropout, classes: as in `GatedResNet`.
    """

    def __init__(self, features: int, depth: int, scales: int, dropout: float, classes: int) -> None:
        super().__init__()
        pairs = lambda count, up: nn.ModuleList(  # noqa: E731
            Pair(features, up, dropout, classes) for _ in range(count)
        )
        self.down = nn.ModuleList(pairs(depth, False) for _ in range(scales))
        self.smaller = nn.ModuleList(Resample(features, up=False) for _ in range(scales - 1))
        self.up = nn.ModuleList(pairs(depth + (s < scales - 1), True) for s in range(scales))
        self.larger = nn.ModuleList(Resample(features, up=True) for _ in range(scales - 1))

    def pairs(self, s: int, up: bool) -> list[Pair]:
        """The blocks at 1 / 2^s of the resolution."""
        modules = (self.up if up else self.down)[s]
        return [pair for pair in modules.children() if isinstance(pair, Pair)]

    def between(self, s: int, up: bool) -> Resample:
        """The way from resolution s to s + 1, or up from there."""
        return cast(Resample, (self.larger if up else self.smaller)[s])

    def forward(self, above: Tensor, beside: Tensor, y: Tensor | None) -> Tensor:
        """Both streams [B, F, H, W] -> the second, [B, F, H, W]."""
        aboves, besides = [above], [beside]
        for s in range(len(self.down)):
            for pair in self.pairs(s, up=False):
                aboves.append(pair.above(aboves[-1], y=y))
                besides.append(pair.beside(besides[-1], aboves[-1], y))
            if s < len(self.smaller):
                smaller = self.between(s, up=False)
                aboves.append(smaller.above(aboves[-1]))
                besides.append(smaller.beside(besides[-1]))
        above, beside = aboves.pop(), besides.pop()
        for s in reversed(range(len(self.up))):
            if s < len(self.larger):
                size = tuple(aboves[-1].shape[-2:])
                larger = self.between(s, up=True)
                above, beside = larger.above(above, size), larger.beside(beside, size)
            for pair in self.pairs(s, up=True):
                above = pair.above(above, aboves.pop(), y)
                beside = pair.beside(beside, torch.cat([above, besides.pop()], 1), y)
        return beside


class Colours:
    """The colours of a pixel in turn, by the chain rule of [1] equation 3: P(g | r) is a mixture too.

    A component's weight is multiplied with the probability that it gave to the colours before, a logistic
    each; they move its mean.

    Args:
        out: what the network makes of a pixel, [..., M]: for K components, their weights; C means and C log
            scales of each; and by how much each colour moves the means of later ones, C (C - 1) / 2.
        colours: C.
        start_means: added to the means, [K].
        levels: of a colour.
    """

    def __init__(self, out: Tensor, colours: int, start_means: Tensor, levels: int) -> None:
        out = out.float() if out.dtype in (torch.float16, torch.bfloat16) else out
        parts = out.unflatten(-1, (-1, len(start_means)))  # [..., M / K, K]
        weights, means, log_scales, moves = parts.split(
            [1, colours, colours, parts.shape[-2] - 1 - 2 * colours], -2
        )
        self.weights = weights.squeeze(-2).log_softmax(-1)
        self.means, self.log_scales = (means + start_means).unbind(-2), log_scales.unbind(-2)
        self.moves = iter(moves.tanh().unbind(-2))
        self.levels = levels
        self.earlier: list[Tensor] = []
        self.mean = self.means[0]

    def params(self) -> Tensor:
        """Of this colour: log weights, means, log scales, [..., 3 K]."""
        return torch.cat([self.weights, self.mean, self.log_scales[len(self.earlier)]], -1)

    def observe(self, value: Tensor) -> None:
        """This colour is `value` [...], scaled; the next one follows."""
        log_scale = self.log_scales[len(self.earlier)].clamp_min(MIN_LOG_SCALE)
        here = DiscretizedLogisticMixture(
            self.weights, self.mean, log_scale, self.levels, validate_args=False
        )
        self.weights = here.log_joint(((value + 1) / 2 * (self.levels - 1)).round())
        self.earlier.append(value[..., None])
        self.mean = self.means[len(self.earlier)]
        for before, move in zip(self.earlier, self.moves, strict=False):
            self.mean = self.mean + move * before


class PixelCNNpp(Autoregressive, LabelByBias):
    """A pixel's colours are a mixture of logistics together, each mean moved by those before ([1] 2.2).

    For images of any size and number of levels; weights are started from the data ([1] code).

    Args:
        spec: what the images are.
        channels: F, feature maps everywhere; 160 in [1].
        depth: gated ResNets at each resolution on the way down; 5 in [1].
        scales: resolutions, each half of the one before; 3 in [1].
        mixtures: K, components of the mixture; 10 in [1].
        dropout: probability that a feature is dropped; 0.5 in [1].
        label_by: "none", a model of p(x), or "bias": what is known of an image is added in every block.

    Raises:
        ValueError: a setting out of its range, or images without labels that are to be given.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        depth: int,
        scales: int,
        mixtures: int,
        dropout: float,
        label_by: str,
    ) -> None:
        super().__init__(spec, Pixels.of("logistic_mixture", spec.levels, mixtures))
        for setting, value in (("channels", channels), ("depth", depth), ("scales", scales)):
            check_positive(setting, value)
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must be at least 0 and below 1, found {dropout}")
        colours = spec.shape[0]
        self.mixtures, classes = mixtures, self.known_of(spec, label_by)
        self.tell(classes)
        # One more than the colours: ones, so that the network sees where the image ends.
        seen = (colours + 1, channels)
        self.above = ShiftedConv2d(seen, (2, 3), "down")
        self.row_above = ShiftedConv2d(seen, (1, 3), "down")
        self.to_the_left = ShiftedConv2d(seen, (2, 1), "right")
        self.pyramid = Pyramid(channels, depth, scales, dropout, classes)
        # Of each component: its weight; of each colour mean and log scale; what earlier colours move it by.
        count = 1 + 2 * colours + colours * (colours - 1) // 2
        self.head = ShiftedConv2d((channels, count * mixtures), (1, 1), "right")
        # Distinct components: equal ones would get equal gradients.
        spread = (torch.arange(mixtures) + 0.5) * (2 / mixtures) - 1
        self.register_buffer("start_means", spread, persistent=False)

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> [B, 3 K * C, H, W]: weights given earlier colours, means, log scales.

        The chain rule over the colours of [1] equation 3: P(g | r) is a mixture too, whose weights are the
        components' weights given r.
        """
        colours = self.colours_of(self._network(x, *self.as_numbers(*y)).movedim(1, -1))  # [B, H, W, M]
        values = [colours.params()]
        for value in x.unbind(1)[:-1]:
            colours.observe(value)
            values.append(colours.params())
        return torch.stack(values, 1).movedim(-1, 1).flatten(1, 2)  # [B, C, H, W, 3 K] first

    def _network(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """x [B, C, H, W] -> what all colours of a pixel are made from, [B, M, H, W]."""
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1).contiguous(memory_format=torch.channels_last)
        above = down_shift(self.above(x))
        beside = down_shift(self.row_above(x)) + right_shift(self.to_the_left(x))
        out: Tensor = self.head(F.elu(self.pyramid(above, beside, y)))
        return out

    def colours_of(self, out: Tensor) -> Colours:
        """out [..., M] -> the distribution of a pixel's colours."""
        return Colours(out, self.spec.shape[0], self.get_buffer("start_means"), self.spec.levels)

    def data_dependent_init(self, batch: Batch) -> None:
        """Outputs of convolutions have mean 0 and deviation 1 on this batch, of a block's second one 0.1."""
        layers = [layer for layer in self.modules() if isinstance(layer, ShiftedConv2d | Upsample2d)]
        training = self.training
        self.eval()  # without dropout
        for layer in layers:
            layer.starting = True
        with torch.no_grad():
            self._network(self.scaled(batch.x), *self.as_numbers(*self.given(batch)))
        for layer in layers:
            layer.starting = False
        self.train(training)

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """The stream of the rows above row by row, the other pixel by pixel."""
        return Steps(self, canvas, *self.as_numbers(*y))

"""The masked autoencoder for distribution estimation.

[1] Germain, Gregor, Murray & Larochelle 2015, "MADE: Masked Autoencoder for Distribution Estimation",
    arXiv:1502.03509.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.layers.activation import activation as activation_named
from gentrain.layers.ordering import Steps
from gentrain.layers.settings import check_positive
from gentrain.models.autoregressive.vector import OverVectors


class MADE(OverVectors):
    """An autoencoder whose weights are masked so that output d sees inputs before d alone ([1] section 3).

    Every hidden unit has a degree m(k), how many of the first inputs it may see: from one layer to the next
    m must not fall ([1] equation 13), and output d sees units with m(k) < d (equation 14). With `masks` > 1
    there are so many draws of all degrees, and of the order where it is random: they take turns from one
    update to the next ([1] sections 4.1 and 4.2), and p(x) is the mean of their probabilities.

    Args:
        spec: what the images are.
        hidden: units of each hidden layer.
        activation: one of `layers.activation.ACTIVATIONS`.
        masks: how many sets of masks.
        order: "raster" or "random".
        order_seed: which random order, and which degrees.

    Raises:
        ValueError: a setting out of its range.
    """

    #: m(k) of the hidden units of all layers one after the other, [masks, units].
    degrees: Tensor
    #: How many updates there were: whose turn it is.
    turn: Tensor
    activation: nn.Module

    def __init__(
        self,
        spec: DataSpec,
        *,
        hidden: Sequence[int],
        activation: str,
        masks: int,
        order: str,
        order_seed: int,
    ) -> None:
        check_positive("hidden", *hidden)
        check_positive("masks", masks)
        super().__init__(spec, order, order_seed, masks)
        self.hidden, self.masks = tuple(hidden), masks
        sizes = [spec.dims, *hidden, spec.dims * self.pixels.parameters]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.activation = activation_named(activation)
        generator = torch.Generator().manual_seed(order_seed)
        drawn = []
        for _ in range(masks):
            lowest = 1
            for units in hidden:
                drawn.append(torch.randint(lowest, max(spec.dims, 2), (units,), generator=generator))
                lowest = int(drawn[-1].min())  # no unit without an input ([1] section 4.2)
        self.register_buffer("degrees", torch.cat(drawn).view(masks, -1))
        self.register_buffer("turn", torch.zeros((), dtype=torch.int64))

    @property
    def layers(self) -> list[nn.Linear]:
        """The linear layers, the first first."""
        return [layer for layer in self.linears if isinstance(layer, nn.Linear)]

    # Likelihood

    def _log_prob(self, x: Tensor, *y: Tensor) -> Tensor:
        """In training of the masks whose turn it is, else log p(x) = log (1/M) sum_m p_m(x)."""
        if self.masks == 1:
            return super()._log_prob(x)
        if self.training:
            with torch.no_grad():
                self.turn.add_(1)
            return self._log_prob_of(x, self.turn % self.masks)
        every = [self._log_prob_of(x, torch.tensor(m, device=x.device)) for m in range(self.masks)]
        return torch.stack(every).logsumexp(0) - math.log(self.masks)

    def _log_prob_of(self, x: Tensor, which: Tensor, known: Tensor | None = None) -> Tensor:
        """log p_m(x) of one set of masks; of what is `known` alone where that is given."""
        pixels = self.pixels.distribution(self._params_of(self.scaled(x), which))
        if known is None:
            return pixels.log_prob(x)
        return (pixels.base_dist.log_prob(x) * known).flatten(1).sum(1)

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> [B, P * C, H, W], of the first masks."""
        return self._params_of(x, torch.zeros((), dtype=torch.int64, device=x.device))

    def _params_of(self, x: Tensor, which: Tensor) -> Tensor:
        """`params` of the masks `which`, a number as a tensor, so that nothing waits for the device."""
        h = (x.flatten(1) + 1) / 2  # [B, D]
        *inner, last = zip(self.layers, self._masks(which), strict=True)
        for linear, mask in inner:
            h = self.activation(F.linear(h, linear.weight * mask, linear.bias))
        linear, mask = last
        weight = linear.weight.unflatten(0, (self.spec.dims, -1)) * mask[:, None]
        h = F.linear(h, weight.flatten(0, 1), linear.bias).unflatten(1, (*self.spec.shape, -1))
        return h.movedim(-1, 1).flatten(1, 2)

    def _masks(self, which: Tensor) -> list[Tensor]:
        """bool [units, units below] of each layer but the last, then [D, units] ([1] equations 13, 14)."""
        places = self.ordering.places.index_select(0, which.view(1))[0].argsort()  # of each position
        channels = self.spec.shape[0]
        colours = torch.arange(channels, device=places.device)
        inputs = (places * channels + colours[:, None]).flatten() + 1  # d of each value, [D]
        degrees = [inputs, *self.degrees.index_select(0, which.view(1))[0].split(self.hidden)]
        seen = [above[:, None] >= below for below, above in pairwise(degrees)]
        return [*seen, inputs[:, None] > degrees[-1]]

    # Drawing

    def _sample(self, n: int, temperature: float, *y: Tensor, length: int | None = None) -> Tensor:
        if self.masks == 1:
            return super()._sample(n, temperature)
        u, noise = self._noise_and_one_more(n)
        return self._drawn_by((u * self.masks).long(), noise, temperature)

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        if self.masks == 1:
            return super()._complete(x, known)
        u, noise = self._noise_and_one_more(len(x))
        # p(m | known): masks count as much as they expected what is known.
        x = torch.where(known, x, 0)
        log_p = [self._log_prob_of(x, torch.tensor(m, device=x.device), known) for m in range(self.masks)]
        reached = torch.stack(log_p, 1).softmax(1).cumsum(1)[:, :-1]  # [n, M - 1]
        return self._drawn_by((reached <= u[:, None]).sum(1), noise, 1.0, x, known)

    def _noise_and_one_more(self, n: int) -> tuple[Tensor, Tensor]:
        """Uniform on [0, 1): [n] to choose masks by, and [n, C, H, W]."""
        like = self._like
        u = torch.rand(n, 1 + self.spec.dims, dtype=like.dtype, device=like.device)
        return u[:, 0], u[:, 1:].unflatten(1, self.spec.shape)

    def _drawn_by(
        self,
        which: Tensor,
        noise: Tensor,
        temperature: float,
        given: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Images, each by the masks `which` [n]."""
        images = torch.empty(noise.shape, dtype=torch.uint8, device=noise.device)
        for m in which.unique().tolist():
            mine = which == m
            old, keep = (None if x is None else x[mine] for x in (given, known))
            images[mine] = self._drawn_in(m, noise[mine], temperature, old, keep)
        return images

    def note(self, known: Tensor) -> str | None:
        """As in `Autoregressive`; of several orders none is followed by all that is known."""
        if self.masks > 1 and not self.ordering.in_reading_order and bool((known & ~known.all()).any()):
            return (
                f"each of the {self.masks} masks has an order of its own: what is known after a pixel in it "
                "cannot inform it"
            )
        return super().note(known)

    def steps(self, n: int, which: int = 0) -> Steps:
        """Each hidden unit once, as soon as all that it sees is there."""
        return _Steps(self, n, which)


class _Steps(Steps):
    """Units in the order of their degrees: those that value i completes lie beside one another."""

    def __init__(self, model: MADE, n: int, which: int) -> None:
        values = model.ordering.values(which)
        below = values
        dims = len(values)
        self.weights: list[Tensor] = []
        self.biases: list[Tensor] = []
        self.ends: list[list[int]] = []  # of each layer, how many units have a degree <= i
        like = model._like
        # The vector, and what each layer made of it: [n, units].
        self.features = [like.new_zeros(n, dims)]
        masks = model._masks(torch.tensor(which, device=values.device))
        for linear, degrees, mask in zip(
            model.layers, model.degrees[which].split(model.hidden), masks, strict=False
        ):
            order = degrees.argsort(stable=True)
            weight = linear.weight.detach() * mask
            self.weights.append(weight[order][:, below])
            self.biases.append(linear.bias.detach()[order])
            self.ends.append(
                torch.searchsorted(
                    degrees[order], torch.arange(dims + 1, device=order.device), right=True
                ).tolist()
            )
            self.features.append(like.new_zeros(n, len(order)))
            below = order
        last = model.layers[-1]
        self.out = last.weight.detach().unflatten(0, (dims, -1))[values][:, :, below]  # [D, P, units]
        self.out_bias = last.bias.detach().unflatten(0, (dims, -1))[values]
        self.activation = model.activation

    def at(self, i: int) -> Tensor:
        end = self.ends[-1][i]
        return torch.addmm(self.out_bias[i], self.features[-1][:, :end], self.out[i, :, :end].t())

    def observe(self, i: int, value: Tensor) -> None:
        self.features[0][:, i] = value
        seen = i + 1
        for weight, bias, ends, (below, mine) in zip(
            self.weights, self.biases, self.ends, pairwise(self.features), strict=True
        ):
            first, end = ends[i], ends[i + 1]
            if end > first:
                made = torch.addmm(bias[first:end], below[:, :seen], weight[first:end, :seen].t())
                mine[:, first:end] = self.activation(made)
            seen = end

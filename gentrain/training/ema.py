"""Exponential moving average of the weights (Polyak & Juditsky 1992; as used since Salimans et al. 2016)."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class EMA:
    """A copy of the model whose parameters follow `average += (1 - decay) * (weight - average)`.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that a short run does not remember its
    initial weights. Buffers (BatchNorm statistics) are copied. Made after data-dependent initialisation.

    Args:
        model: whose weights are averaged.
        decay: per update, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        parameters = zip(model.parameters(), self.model.parameters(), strict=True)
        self._average: dict[int, Tensor] = {id(p): average for p, average in parameters}
        self._twin = {id(m): t for m, t in zip(model.modules(), self.model.modules(), strict=True)}

    def rate(self, updates: int) -> float:
        """1 - decay of a turn that has moved `updates` times before."""
        return 1 - min(self.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(
        self, parameters: Sequence[Tensor], nets: Sequence[nn.Module], rate: float | Tensor, moved: Tensor
    ) -> None:
        """Move towards the parameters that a turn has just moved.

        Args:
            parameters: the turn's parameters.
            nets: the turn's modules, for their buffers.
            rate: of `rate`, or a float scalar on the device that holds it.
            moved: scalar 0 or 1 on the device; 0 where the update was masked.
        """
        average = [self._average[id(p)] for p in parameters]
        now, weight = [p.detach() for p in parameters], moved * rate
        if weight.device.type == "cpu":  # one pass over memory instead of three
            torch._foreach_lerp_(average, now, [weight] * len(average))
        else:  # three launches, where the line above makes one for each parameter
            change = torch._foreach_sub(now, average)
            torch._foreach_mul_(change, weight)
            torch._foreach_add_(average, change)
        for module in dict.fromkeys(module for net in nets for module in net.modules()):
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    self._twin[id(module)].get_buffer(name).copy_(buffer)

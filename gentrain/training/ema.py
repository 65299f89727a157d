"""Exponential moving average of the weights (Polyak & Juditsky 1992; as used since Salimans et al. 2016)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from gentrain.buffers import batch_norms, momentum
from gentrain.contracts import Batch, GenerativeModel

#: Steps from one look of the average at a batch to the next.
LOOK_EVERY = 8


class EMA:
    """A copy of the model whose parameters follow `average += (1 - decay) * (weight - average)`.

    The decay of update n is min(decay, (1 + n) / (10 + n)), so that a short run does not remember its
    initial weights. Made after data-dependent initialisation.

    Buffers are copied, but for BatchNorm's statistics: what the average makes of a batch is spread otherwise
    than what the weights of one step make of it, the more so the more these move about. It looks at a batch
    now and then (`look`) and keeps its own.

    Args:
        model: whose weights are averaged; a `GenerativeModel` where it has BatchNorm.
        decay: per update, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        parameters = zip(model.parameters(), self.model.parameters(), strict=True)
        self._average: dict[int, Tensor] = {id(p): average for p, average in parameters}
        self._norms, its_own = batch_norms(self.model), set(map(id, batch_norms(model)))
        twins = zip(model.modules(), self.model.modules(), strict=True)
        self._twin = {id(module): twin for module, twin in twins if id(module) not in its_own}

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
                if buffer is not None and id(module) in self._twin:
                    self._twin[id(module)].get_buffer(name).copy_(buffer)

    @property
    def statistics(self) -> list[Tensor]:
        """Of BatchNorm; empty where the model has none."""
        return [buffer for norm in self._norms for buffer in norm.buffers()]

    def look(self, batch: Batch, step: int, autocast: AbstractContextManager[object]) -> None:
        """Play every turn of the average on a batch, which moves the statistics of its BatchNorm alone.

        The first looks count alike, so that what the first weights made of images is soon forgotten; later
        ones as much as a batch of training does. Random numbers of the run are as they were.

        Args:
            batch: this step's.
            step: 0-based; a multiple of `LOOK_EVERY`.
            autocast: context of a forward pass.
        """
        assert isinstance(self.model, GenerativeModel)
        looks = step // LOOK_EVERY
        devices = {buffer.device for buffer in self.statistics if buffer.device.type == "cuda"}
        self.model.train()
        with (
            torch.random.fork_rng(sorted(devices, key=str)),
            momentum(self._norms, lambda later: max(later or 0.0, 1 / (looks + 1))),
            autocast,
        ):
            for turn in self.model.turns():
                if turn.shares is None:
                    with torch.set_grad_enabled(turn.double_backward):
                        turn.loss(batch, step)
        self.model.eval()

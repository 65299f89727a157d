"""Learning rates from update to update: a warm-up before a cosine, a constant before a line, and sequences.

torch's schedules have no warm-up. Those here are functions of the number of updates alone, so that they may
be part of a sequence and go on exactly after a resume.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, SequentialLR


class Schedule(LRScheduler, ABC):
    """From the optimiser's rate to `final` after `total` updates, and constant from there on.

    Args:
        optimizer: its rates are those to begin from.
        first: updates in the first of two parts.
        total: updates in both.
        final: the rate after them.

    Raises:
        ValueError: a negative number, or a first part that is not shorter than `total`.
    """

    def __init__(self, optimizer: Optimizer, first: int, total: int, final: float) -> None:
        self.first, self.total, self.final = first, total, final
        super().__init__(optimizer)

    @abstractmethod
    def rate(self, base: float, n: int) -> float:
        """The rate of update `n` (0-based, below `total`) where the optimiser's is `base`."""

    def get_lr(self) -> list[float | Tensor]:
        """The rate of each parameter group for the next update."""
        return self._get_closed_form_lr()

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        n = self.last_epoch
        return [self.final if n >= self.total else self.rate(float(base), n) for base in self.base_lrs]


class WarmupCosine(Schedule):
    """A line up to the optimiser's rate, then half a cosine down.

    The warm-up is that of Goyal et al. 2017 (arXiv:1706.02677), section 2.2: update n has the share
    (n + 1) / (warmup + 1) of the rate. The cosine is that of Loshchilov & Hutter 2017 (arXiv:1608.03983),
    equation 5, without restarts.

    Args:
        optimizer: its rate is the highest.
        warmup: updates before the rate is the highest.
        total: updates until the rate is `final`, those of the warm-up among them.
        final: learning rate after `total` updates.

    Raises:
        ValueError: a negative number, or a warm-up that is not shorter than `total`.
    """

    def __init__(self, optimizer: Optimizer, warmup: int, total: int, final: float = 0.0) -> None:
        _check("warmup", warmup, total, final)
        super().__init__(optimizer, warmup, total, final)

    def rate(self, base: float, n: int) -> float:
        if n < self.first:
            return base * (n + 1) / (self.first + 1)
        part = (n - self.first) / (self.total - self.first)
        return self.final + (base - self.final) * (1 + math.cos(math.pi * part)) / 2


class ConstantThenLinear(Schedule):
    """The optimiser's rate, then a line down: Zhu et al. 2017 (arXiv:1703.10593), appendix 7.1.

    Args:
        optimizer: its rate is the first.
        constant: updates with the optimiser's rate; below 1: the part of `total` that these are.
        total: updates until the rate is `final`, the constant ones among them.
        final: learning rate after `total` updates.

    Raises:
        ValueError: a negative number, or a constant part that is not shorter than `total`.
    """

    def __init__(self, optimizer: Optimizer, constant: int | float, total: int, final: float = 0.0) -> None:
        constant = round(constant * total) if 0 < constant < 1 else int(constant)
        _check("constant", constant, total, final)
        super().__init__(optimizer, constant, total, final)

    def rate(self, base: float, n: int) -> float:
        part = max(0, n - self.first) / (self.total - self.first)
        return base + (self.final - base) * part


#: What `schedule.<turn>._target_` takes besides the name of a class.
NAMED: dict[str, type[Schedule]] = {"warmup_cosine": WarmupCosine, "constant_then_linear": ConstantThenLinear}


def _check(first: str, updates: int, total: int, final: float) -> None:
    if updates < 0:
        raise ValueError(f"{first} must be at least 0 updates, found {updates}")
    if total <= updates:
        raise ValueError(f"total must be above {first}={updates}, found {total}")
    if final < 0:
        raise ValueError(f"final must be a learning rate of at least 0, found {final}")


def in_sequence(optimizer: Optimizer, parts: Sequence[LRScheduler], updates: Sequence[int]) -> LRScheduler:
    """`parts`, which were made for `optimizer`, one after the other.

    Args:
        optimizer: each part begins with its rate.
        parts: at least one.
        updates: how many each but the last takes.

    Raises:
        ValueError: a part that sets the rates themselves anew, or one that takes no update.
    """
    for part in parts:
        if isinstance(part, (OneCycleLR, CyclicLR)) and len(parts) > 1:
            name = type(part).__name__
            raise ValueError(
                f"{name} sets the optimiser's own rate and momentum: it cannot be one of several"
            )
    for count in updates:
        if count < 1:
            raise ValueError(f"updates must be at least 1, found {count}")
    ends = [sum(updates[: i + 1]) for i in range(len(updates))]
    return SequentialLR(optimizer, list(parts), ends)

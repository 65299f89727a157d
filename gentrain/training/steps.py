"""A step on the device: the update of every turn that is due, then the averages.

It is run operation by operation, or captured and replayed (`cuda_graph.py`). Both are the same code and give
the same numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor

from gentrain.contracts import Batch, GenerativeModel
from gentrain.training.cuda_graph import Capture, UnreadStep, rates_of, reading
from gentrain.training.distributed import World
from gentrain.training.ema import EMA, LOOK_EVERY
from gentrain.training.in_place import WrittenInPlace
from gentrain.training.update import TurnUpdate

#: Steps of each kind that are run before it is captured: libraries make their workspaces in them and
#: optimisers their state. They are steps of the run like any other.
WARM_UP = 3


class Steps:
    """Runs steps operation by operation.

    Args:
        model: on its device, initialised.
        updates: one per turn, in the model's order.
        ema: the average of the model's weights, or None.
        world: the ranks.
    """

    def __init__(
        self, model: GenerativeModel, updates: Sequence[TurnUpdate], ema: EMA | None, world: World
    ) -> None:
        self.model, self.updates, self.ema, self.world = model, list(updates), ema, world
        self.device = self.updates[0].device
        self._buffers = WrittenInPlace(model)
        self._shared = self._buffers.shared
        #: bool scalar on the device: a loss or gradient was not finite and the run must stop.
        self.latch = torch.zeros((), dtype=torch.bool, device=self.device)

    def __call__(self, batch: Batch, step: int) -> None:
        """All turns that are due in step `step` (0-based), on this rank's part of its batch."""
        due = [update for update in self.updates if update.turn.due(step)]
        averaging = [self.ema.rate(update.updates) for update in due] if self.ema else []
        self._move(due, batch, [step] * len(due), step, averaging)
        self._look(batch, step)
        for update in due:
            update.advance()

    def _look(self, batch: Batch, step: int) -> None:
        """The average's statistics of BatchNorm follow it, not the weights of one step."""
        if self.ema is None or step % LOOK_EVERY or not self.ema.statistics:
            return
        first, *_ = self.updates
        self.ema.look(first.micro_batches(batch)[0], step, first.autocast())
        self.world.broadcast(self.ema.statistics)

    def _move(
        self,
        due: Sequence[TurnUpdate],
        batch: Batch,
        steps: Sequence[Any],
        number: int | Tensor,
        averaging: Sequence[float | Tensor],
    ) -> None:
        """What a step does on the device.

        Args:
            due: what moves.
            batch: this rank's part of the step's batch.
            steps: the step, for the loss of each of `due`.
            number: the step, for what went wrong.
            averaging: the averages' rate for each of `due`; empty without an average.
        """
        moved = [
            update.move(batch, step, number, self.latch) for update, step in zip(due, steps, strict=True)
        ]
        self._buffers.check()
        self.world.broadcast(self._shared)  # BatchNorm's statistics, chains: rank 0's, everywhere
        if self.ema:
            for update, has_moved, rate in zip(due, moved, averaging, strict=True):
                self.ema.update(update.parameters, update.turn.nets, rate, has_moved)


class CapturedSteps(Steps):
    """Captures a step for each set of turns that are due together, and again where a loss changes.

    What differs from step to step is put where the captured operations read it: the batch, the step's
    number, learning rates and averaging rates. Counting and schedules stay on the host.

    Args:
        capture: how to record and replay; the others as for `Steps`.
    """

    def __init__(
        self,
        model: GenerativeModel,
        updates: Sequence[TurnUpdate],
        ema: EMA | None,
        world: World,
        capture: Capture,
    ) -> None:
        super().__init__(model, updates, ema, world)
        device = self.device
        self._capture = capture
        self._batch: Batch | None = None
        self._number = torch.zeros((), dtype=torch.int64, device=device)
        self._learning = [rates_of(update.optimizer, device) for update in updates]
        self._averaging = [torch.zeros((), device=device) for _ in updates]
        self._written: dict[int, float] = {}  # of each rate: what it holds
        self._warm: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
        #: By the turns that are due: the forms of their losses, and what replays them.
        self._replays: dict[tuple[int, ...], tuple[tuple[int, ...], Callable[[], None]]] = {}

    def __call__(self, batch: Batch, step: int) -> None:
        """As `Steps`; nothing here waits for the device but a capture."""
        due = tuple(i for i, update in enumerate(self.updates) if update.turn.due(step))
        forms = tuple(self.updates[i].turn.form(step) for i in due)
        self._put(due, batch, step)
        captured, replay = self._replays.get(due, (None, None))
        if replay is not None and captured == forms:
            replay()
        elif self._warm[due, forms] < WARM_UP:
            self._warm[due, forms] += 1
            self._capture.warm_up(partial(self._move_captured, due, step, capturing=False))
        else:
            replay = self._capture.capture(partial(self._move_captured, due, step, capturing=True))
            self._replays[due] = (forms, replay)
            replay()
        self._look(batch, step)
        for i in due:
            self.updates[i].advance()

    def _put(self, due: Sequence[int], batch: Batch, step: int) -> None:
        """Put what this step has of its own where the captured operations read it."""
        if self._batch is None:
            self._batch = batch.map(torch.empty_like)
        for place, part in zip(self._batch, batch, strict=True):
            if place is not None and part is not None:
                place.copy_(part, non_blocking=True)
        self._number.fill_(step)
        for i in due:
            update = self.updates[i]
            for rate, group in zip(self._learning[i], update.optimizer.param_groups, strict=True):
                self._write(rate, group["lr"])
            if self.ema:
                self._write(self._averaging[i], self.ema.rate(update.updates))

    def _write(self, rate: Tensor, value: float) -> None:
        """Most rates stay for long: a launch only where one changes."""
        if self._written.get(id(rate)) != value:
            rate.fill_(value)
            self._written[id(rate)] = value

    def _move_captured(self, due: Sequence[int], step: int, capturing: bool) -> None:
        assert self._batch is not None
        updates = [self.updates[i] for i in due]
        # Warming up, too, a loss that reads what it should not is refused: before it has moved anything.
        steps = [UnreadStep(u.turn.name) if u.turn.changes is None else step for u in updates]
        with ExitStack() as stack:
            for i in due:
                stack.enter_context(reading(self.updates[i].optimizer, self._learning[i], capturing))
            averaging = [self._averaging[i] for i in due] if self.ema else []
            self._move(updates, self._batch, steps, self._number, averaging)

"""One turn's update: forward, backward, agreement between ranks, unscale, clip, step, schedule.

A non-finite loss or gradient never reaches the weights, and no step waits for the device to find out:
the optimiser's step is masked on the device by `skip`, and what went wrong is kept in tensors that
are read with the next log line. Those tensors stay where they are from the first update on and are
written in place, so that a step can be captured and replayed (`steps.py`).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gentrain.contracts import Batch, Turn
from gentrain.training.distributed import World
from gentrain.training.precision import Precision

#: DistributedDataParallel's name for "broadcast buffers before each forward"; torch 2.15 renamed it.
_NAMES = inspect.signature(DistributedDataParallel).parameters
BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


#: What torch's schedules set in a parameter group.
_SCHEDULED = ("lr", "momentum", "betas")


class TurnModule(nn.Module):
    """A turn as a module whose `forward` is the turn's loss: what DistributedDataParallel wraps.

    So the synchronised method is the one that runs; calling a method of `ddp.module` would let the
    ranks diverge silently.
    """

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self.nets = nn.ModuleList(turn.nets)
        self._loss = turn.loss

    def forward(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """(batch, step) -> (scalar loss, {name: detached scalar})."""
        loss, terms = self._loss(batch, step)
        return loss, {name: term.detach() for name, term in terms.items()}


def only_these_require_grad(parameters: Sequence[nn.Parameter], others: Sequence[nn.Parameter]) -> Any:
    """Context in which of a model's trainable parameters only the turn's require grad."""

    @contextmanager
    def switch() -> Iterator[None]:
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    return switch() if others else nullcontext()


class TurnUpdate:
    """A turn with its optimiser, schedule, gradient scaler and running means.

    Args:
        turn: the turn.
        others: the model's parameters that this turn does not move.
        optimizer: over `turn.parameters()`.
        schedule: counts this turn's updates, or None.
        precision: of the forward pass.
        world: the ranks.
        accumulate: micro-batches per update.
        clip: largest 2-norm of the gradient, or None.
        max_skips: under fp16, skipped updates in a row that stop the run.
        compile: compile the loss (not where it differentiates twice).
    """

    def __init__(
        self,
        turn: Turn,
        others: Sequence[nn.Parameter],
        optimizer: Optimizer,
        schedule: LRScheduler | None,
        precision: Precision,
        world: World,
        accumulate: int,
        clip: float | None,
        max_skips: int,
        compile: bool,
    ) -> None:
        self.turn, self.optimizer, self.schedule = turn, optimizer, schedule
        self.parameters = turn.parameters()
        self.device = self.parameters[0].device
        self._others = [p for p in others if p.requires_grad]  # frozen ones stay frozen
        self._precision, self._world = precision, world
        self._accumulate, self._clip = accumulate, clip
        self.scaler = precision.scaler()
        self._limit = max_skips if self.scaler.is_enabled() else 1
        self.updates = 0  # how often this turn has moved, masked updates included
        module: nn.Module = TurnModule(turn)
        if compile and not turn.double_backward:
            # torch's own random numbers: those of an uncompiled run, and on a CPU several times as fast as
            # the compiler's.
            module.compile(options={"fallback_random": True})
        if world.size > 1:
            # A loss need not use every parameter in every step; buffers are shared by the trainer.
            options: dict[str, Any] = {BUFFERS: False, "find_unused_parameters": True}
            device_ids = [self.device] if self.device.type == "cuda" else None
            module = DistributedDataParallel(module, device_ids=device_ids, **options)
        self._module = module
        self.names: list[str] = []  # of the running means: loss, its terms, grad_norm
        self._sums = self._count = torch.zeros((), device=self.device)
        self._skips_in_a_row = torch.zeros((), device=self.device)
        self._bad_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._bad_values = self._sums

    def __call__(self, batch: Batch, step: int, latch: Tensor) -> Tensor:
        """Move once: `move` and `advance`."""
        moved = self.move(batch, step, step, latch)
        self.advance()
        return moved

    def move(self, batch: Batch, step: int, number: int | Tensor, latch: Tensor) -> Tensor:
        """What an update does on the device.

        Args:
            batch: this rank's part of the step's batch.
            step: 0-based, for the loss.
            number: `step`, or an int64 scalar on the device that holds it; for what went wrong.
            latch: bool scalar on the device, set in place once the run must stop.

        Returns:
            float scalar on the device: 1 where the parameters moved, 0 where the update was masked.
        """
        micro_batches = self.micro_batches(batch)
        self.optimizer.zero_grad(set_to_none=True)
        values: Tensor | None = None
        with only_these_require_grad(self.parameters, self._others):
            for i, micro_batch in enumerate(micro_batches):
                last = i + 1 == len(micro_batches)
                with nullcontext() if last or self._world.size == 1 else self._module.no_sync():  # type: ignore[operator]
                    with self._precision.autocast():
                        loss, terms = self._module(micro_batch, step)
                    self.scaler.scale(loss / self._accumulate).backward()
                scalars = [loss.detach(), *terms.values()]
                row = torch.stack([scalar.to(self.device, torch.float32) for scalar in scalars])
                values = row if values is None else values + row
        assert values is not None
        if not self.names:
            self._name_terms(["loss", *terms, "grad_norm"])
        self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self._clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self._clip, norm)
        row = torch.cat([values / self._accumulate, norm.to(values.dtype).reshape(1)])

        bad = (~torch.isfinite(row[0] + row[-1])).float()
        bad = self._world.max(bad)  # the ranks' losses differ, what they do must not
        self._skips_in_a_row.add_(bad).mul_(bad)
        stop = self._skips_in_a_row >= self._limit
        newly = stop & ~latch
        self._bad_step.copy_(torch.where(newly, number, self._bad_step))
        self._bad_values.copy_(torch.where(newly, row, self._bad_values))
        latch |= stop
        skip = torch.maximum(bad, latch.float())
        step_unless(self.optimizer, skip, first=self.updates == 0)
        self.scaler.update()
        moved = 1 - skip
        self._sums.add_(torch.where(skip > 0, 0.0, row))
        self._count.add_(torch.stack([moved, skip]))
        return moved

    def micro_batches(self, batch: Batch) -> Sequence[Batch]:
        """The parts of a step's batch whose gradients are summed."""
        return batch.split(self._accumulate)

    def autocast(self) -> AbstractContextManager[object]:
        """Context of the forward pass."""
        return self._precision.autocast()

    def advance(self) -> None:
        """What an update does on the host, after `move`: count, and set the next learning rate."""
        if self.schedule is not None:
            self.schedule.step()
        self.updates += 1

    def _name_terms(self, names: list[str]) -> None:
        self.names = names
        if self._sums.ndim == 0:  # else restored from a checkpoint
            self._sums = torch.zeros(len(names), device=self.device)
            self._bad_values = torch.zeros(len(names), device=self.device)
            self._count = torch.zeros(2, device=self.device)

    def read(self) -> dict[str, float]:
        """The running means over ranks since the last call, and reset; waits for the device."""
        if not self.names:
            return {}
        totals = self._world.sum(torch.cat([self._sums, self._count])).tolist()
        *sums, moved, skipped = totals
        self._sums.zero_()
        self._count.zero_()
        means = {name: total / moved if moved else float("nan") for name, total in zip(self.names, sums)}  # noqa: B905
        if self.scaler.is_enabled():
            means["loss_scale"] = self.scaler.get_scale()
            means["skipped"] = skipped / self._world.size
        return means

    def what_went_wrong(self) -> str | None:
        """Which step and term were not finite, once the latch is set by this turn."""
        step = int(self._bad_step)
        if step < 0:
            return None
        values = dict(zip(self.names, self._bad_values.tolist(), strict=True))
        terms = [name for name, value in values.items() if not abs(value) < float("inf")]
        found = ", ".join(f"{name} = {values[name]}" for name in terms) or "another rank's loss"
        repeated = f" ({self._limit} skipped updates in a row)" if self._limit > 1 else ""
        return f"step {step + 1}, turn {self.turn.name}: {found}{repeated}"

    def learning_rate(self) -> float:
        """Of the first parameter group."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, strings and tensors: all that the next update depends on."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict(),
            "updates": self.updates,
            "names": list(self.names),
            "sums": self._sums.clone(),
            "count": self._count.clone(),
            "skips_in_a_row": self._skips_in_a_row.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`; a schedule of which `state` has None is run from its beginning."""
        anew = self.schedule is not None and state["schedule"] is None
        rates = self._rates_after(state["updates"]) if anew else []
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, rates, strict=anew):
            group.update(values)
        if self.schedule is not None and not anew:
            self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.updates, self.names = state["updates"], list(state["names"])
        self._sums = state["sums"].to(self.device, copy=True)
        self._count = state["count"].to(self.device, copy=True)
        self._skips_in_a_row = state["skips_in_a_row"].to(self.device, copy=True)
        self._bad_values = torch.zeros_like(self._sums)

    def _rates_after(self, updates: int) -> list[dict[str, Any]]:
        """What the fresh schedule has set in each parameter group after so many updates."""
        assert self.schedule is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the optimiser has not stepped
            for _ in range(updates):
                self.schedule.step()
        return [{k: group[k] for k in _SCHEDULED if k in group} for group in self.optimizer.param_groups]


@torch.no_grad()
def step_unless(optimizer: Optimizer, skip: Tensor, first: bool = False) -> None:
    """`optimizer.step()`, masked on the device where `skip` (float scalar) is not 0.

    torch's fused optimisers take the mask themselves (the one GradScaler gives them); for any other
    the state before is kept and put back where the step was to be skipped. The `first` step, which makes
    the optimiser's state, is not taken at all where it is to be skipped; that alone waits for the device.
    """
    if first and bool(skip):
        return
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.found_inf, optimizer.grad_scale = skip, None  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf, optimizer.grad_scale  # type: ignore[attr-defined]
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def tensors() -> list[Tensor]:
        state = [t for p in parameters for t in optimizer.state.get(p, {}).values()]
        return [*parameters, *(t for t in state if isinstance(t, Tensor))]

    before = [t.detach().clone() for t in tensors()]
    optimizer.step()
    for now, then in zip(tensors(), before, strict=False):
        now.copy_(torch.where(skip.to(now.device) > 0, then, now))

"""Capturing a step: once recorded, it is replayed as it was, by one launch instead of hundreds.

A replayed step runs the same operations on the same memory with the same plain numbers; only what lies in
tensors can differ from one replay to the next (`steps.py` puts it there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from gentrain.errors import UserError
from gentrain.faults import out_of_memory
from gentrain.training.update import TurnUpdate

_OFF = "set train.cuda_graph=false"


class Capture(Protocol):
    """How the operations of a step are recorded on one kind of device."""

    def warm_up(self, run: Callable[[], None]) -> None:
        """Run a step that is to be captured later, where it will be captured."""

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """What replays `run`. Nothing that `run` changes has changed when this returns."""


class CUDAGraphs:
    """CUDA graphs. Each has memory of its own; the device's default generator goes on within it.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # One for both, so that a captured step finds the workspaces of the libraries as an ordinary one did.
        self._stream = torch.cuda.Stream(device)

    def warm_up(self, run: Callable[[], None]) -> None:
        """Run on the stream of captures."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            run()
        current.wait_stream(self._stream)

    def capture(self, run: Callable[[], None]) -> Callable[[], None]:
        """Record; nothing runs on the device meanwhile.

        Raises:
            UserError: an operation that cannot be recorded, e.g. one that waits for the device.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._device), torch.cuda.graph(graph, stream=self._stream):
                run()
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            raise UserError(
                f"train.cuda_graph=true: this step cannot be captured ({error}); {_OFF}"
            ) from error
        return graph.replay


#: The kinds of device on which steps can be captured.
CAPTURES: dict[str, Callable[[torch.device], Capture]] = {"cuda": CUDAGraphs}


# What can be captured


def check_run(device: torch.device, precision: str, ranks: int, compiled: bool) -> None:
    """Refuse to capture the steps of a run that cannot be captured.

    Raises:
        UserError: one line with the key to change.
    """
    if device.type not in CAPTURES:
        raise UserError(f"train.cuda_graph=true needs device=cuda, found {device.type}; or {_OFF}")
    if ranks > 1:
        raise UserError(f"train.cuda_graph=true needs a single process, found {ranks}; or {_OFF}")
    if precision == "fp16":  # its scaler keeps book on the host
        raise UserError("train.cuda_graph=true needs precision=fp32 or bf16, found fp16")
    if compiled:
        raise UserError("train.cuda_graph=true and train.compile=true exclude each other; set one to false")


def check_updates(updates: Sequence[TurnUpdate]) -> None:
    """Refuse turns that cannot be captured.

    Raises:
        UserError: one line with the key to change.
    """
    for update in updates:
        name, optimizer = update.turn.name, update.optimizer
        if update.turn.double_backward:
            raise UserError(
                f"train.cuda_graph=true: turn {name} differentiates twice, which is untried; {_OFF}"
            )
        # These take learning rate and mask as tensors, and keep all of their state on the device.
        if not (isinstance(optimizer, (Adam, SGD)) and optimizer.defaults["fused"]):
            raise UserError(
                f"train.cuda_graph=true needs Adam, AdamW or SGD with optim.{name}.fused=true, "
                f"found {type(optimizer).__name__} with fused={optimizer.defaults.get('fused')}"
            )
        if update.schedule is not None and _moves_momentum(update.schedule):
            raise UserError(
                f"train.cuda_graph=true: schedule.{name} changes the momentum from update to update, which a "
                f"captured step does not; set schedule.{name}.cycle_momentum=false"
            )


def _moves_momentum(schedule: LRScheduler) -> bool:
    parts = getattr(schedule, "_schedulers", [])
    return bool(getattr(schedule, "cycle_momentum", False)) or any(map(_moves_momentum, parts))


# What a captured step reads


def rates_of(optimizer: Optimizer, device: torch.device) -> list[Tensor]:
    """A scalar on the device for the learning rate of each parameter group."""
    # The fused kernels read a float on a GPU and a double on a CPU.
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    return [torch.zeros((), dtype=dtype, device=device) for _ in optimizer.param_groups]


@contextmanager
def reading(optimizer: Optimizer, rates: Sequence[Tensor], capturing: bool) -> Iterator[None]:
    """Within it the optimiser reads its learning rates from `rates`.

    The groups themselves keep plain numbers: schedules compute in them without loss, and a checkpoint is
    the same with and without capture.
    """
    before = [dict(group) for group in optimizer.param_groups]
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = capturing  # elsewhere torch warns of it
        yield
    finally:
        for group, was in zip(optimizer.param_groups, before, strict=True):
            group.update(was)


class UnreadStep:
    """Stands for the step in the loss of a turn whose `changes` are None: whoever reads it is refused."""

    def __init__(self, turn: str) -> None:
        self._turn = turn

    def _refuse(self, *_: Any) -> Any:
        raise UserError(
            f"train.cuda_graph=true: the loss of turn {self._turn} reads its step without saying when that "
            f"changes it; give its Turn the steps as `changes`, or {_OFF}"
        )


_COMPARE = ("lt", "le", "eq", "ne", "gt", "ge")
_COMPUTE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "lshift", "rshift", "and")
_CONVERT = ("bool", "int", "float", "index", "format", "str", "neg", "hash")
for _name in (*_COMPARE, *_COMPUTE, *(f"r{name}" for name in _COMPUTE), *_CONVERT):
    setattr(UnreadStep, f"__{_name}__", UnreadStep._refuse)

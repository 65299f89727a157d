"""Several processes, one run: what torchrun started, on torch.distributed alone.

Tensors on the CPU travel over gloo, tensors on a GPU over NCCL, in one process group.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gentrain.errors import Fault, UserError


@dataclass(frozen=True)
class World:
    """This process's place among `size` ranks."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def max(self, tensor: Tensor) -> Tensor:
        """The maximum over ranks, in place."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return tensor

    def any(self, flag: int) -> int:
        """The largest `flag` of all ranks."""
        return int(self.max(torch.tensor(flag))) if self.size > 1 else flag

    def gather(self, value: Any) -> list[Any]:
        """Every rank's `value`, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: Any) -> Any:
        """Rank 0's `value`."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Make `tensors` equal to rank 0's, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def broadcast_module(self, module: nn.Module) -> None:
        """Make the parameters and buffers of `module` equal to rank 0's."""
        if self.size > 1:
            with torch.no_grad():
                self.broadcast(t.detach() for t in (*module.parameters(), *module.buffers()))


def _number(name: str, default: int) -> int:
    """What torchrun has set `name` to; `default` where it is not set, or empty.

    Raises:
        UserError: it is no number.
    """
    value = os.environ.get(name) or str(default)
    if not value.isdecimal():
        raise UserError(
            f"the environment's {name}={value}: expected a number, as torchrun sets it; unset {name}"
        )
    return int(value)


def launched_size() -> int:
    """How many processes torchrun started; 1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def launched_rank() -> int:
    """The rank that torchrun gave this process; 0 without torchrun."""
    return _number("RANK", 0)


def local_rank() -> int:
    """The rank on this machine that torchrun gave this process."""
    return _number("LOCAL_RANK", 0)


def launch_id() -> str | None:
    """Names one launch by torchrun or one command of a SLURM job, the same over restarts; None without."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name is None and "SLURM_JOB_ID" in os.environ:
        # A job's script may train several models: each goes on with its own.
        words = hashlib.sha256("\0".join(sys.argv[1:]).encode(errors="surrogateescape")).hexdigest()
        return f"slurm-{os.environ['SLURM_JOB_ID']}-{words}"
    # Without --standalone or --rdzv_id every launch is called "none": then by the launcher's pid.
    return f"none-{os.getppid()}" if name == "none" else name


def restarts() -> int:
    """How often torchrun has started this process, or SLURM its job, again."""
    return _number("TORCHELASTIC_RESTART_COUNT", 0) + _number("SLURM_RESTART_COUNT", 0)


def start(device: torch.device) -> World:
    """Join the other ranks, if there are any.

    Raises:
        Fault: the ranks do not find each other.
    """
    if launched_size() == 1:
        return World()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        try:
            store, rank, size = next(dist.rendezvous("env://"))
            # torchrun may keep one store over its restarts: without a prefix a restarted process would
            # find the addresses of the dead.
            store = dist.PrefixStore(f"restart-{restarts()}", store)
            backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        except (RuntimeError, ValueError) as error:
            raise Fault(f"the {launched_size()} processes did not find each other: {error}") from error
    return World(dist.get_rank(), dist.get_world_size(), local_rank())


def stop() -> None:
    """Leave the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()

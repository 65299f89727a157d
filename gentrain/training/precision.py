"""Device and precision: what was asked for, held against what there is."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.amp.grad_scaler import GradScaler

from gentrain.errors import UserError

_SIDE = 128  # of matrices that are multiplied to see what is slow: some milliseconds at the worst


def product_seconds(device: torch.device, side: int) -> float:
    """Seconds of a product of two square matrices under the autocast of now, the best of five.

    Raises:
        ArithmeticError: it is wrong.
    """
    a = torch.ones(side, side, device=device)
    best = float("inf")
    for _ in range(5):
        start = perf_counter()
        if float((a @ a)[0, 0]) != side:  # reading it waits for the device
            raise ArithmeticError(f"a product of ones is not {side}")
        best = min(best, perf_counter() - start)
    return best


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps` -> a device that exists.

    Under torchrun plain `cuda` and `auto` are each rank's own GPU.

    Raises:
        UserError: an unknown name, or a device that this machine lacks.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank % torch.cuda.device_count())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    numbered = device is not None and device.index is not None
    if device is None or device.type not in ("cpu", "cuda", "mps") or (numbered and device.type != "cuda"):
        raise UserError(f"device: expected auto, cpu, cuda, cuda:N or mps, found {name!r}")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = local_rank if device.index is None else device.index
        if index >= count:
            raise UserError(f"device={name}: this machine has {count} CUDA devices; use device=auto or cpu")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device=mps: this machine has no Metal device; use device=auto or cpu")
    return torch.device(device.type)


@dataclass(frozen=True)
class Precision:
    """The number format of the forward pass: fp32, bf16 or fp16 under autocast."""

    name: str
    device_type: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a turn's loss is computed."""
        if self.name == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(self.device_type, dtype=dtype)

    def slowness(self) -> float:
        """How many times as long as in float32 a product takes in it: many where the CPU has no bf16."""
        device = torch.device(self.device_type)
        plain = product_seconds(device, _SIDE)
        with self.autocast():
            return product_seconds(device, _SIDE) / plain

    def scaler(self) -> GradScaler:
        """A gradient scaler, enabled for fp16 alone: bf16 has float32's range."""
        return GradScaler(self.device_type, enabled=self.name == "fp16")


def pick_precision(name: str, device: torch.device) -> Precision:
    """`auto` is bf16 on a GPU that has it, fp32 elsewhere.

    Raises:
        UserError: bf16 on a GPU that lacks it.
    """
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "auto":
        name = "bf16" if device.type == "cuda" and has_bf16 else "fp32"
    if name == "bf16" and not has_bf16:
        raise UserError("precision=bf16: this GPU lacks it; use precision=fp16 or fp32")
    return Precision(name, device.type)

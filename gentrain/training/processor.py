"""How a process is set up that computes on the CPU."""

from __future__ import annotations

import torch

from gentrain.training.memory import keep_freed


def prepare(device: torch.device) -> None:
    """Where `device` is the CPU: keep freed memory, and take subnormal numbers for zero.

    To be called before torch works with several threads.
    """
    if device.type == "cpu":
        keep_freed()
        flush_subnormals()


def flush_subnormals() -> bool:
    """Let this process take numbers below 1.2e-38 for zero on the CPU, as GPUs and matrix units do.

    Processors handle them in microcode. Probabilities of pixels that are always black become as small, and a
    trained IWAE's step then takes 1.4 times as long as an untrained one's. Threads take the setting from the
    one that starts them.

    Returns:
        Whether it was set: False where the processor cannot.
    """
    return torch.set_flush_denormal(True)

"""How a process is set up that computes on the CPU."""

from __future__ import annotations

import torch

from gentrain.training.memory import keep_freed

#: As many as torch takes by itself, by the processor or OMP_NUM_THREADS.
_USUAL = torch.get_num_threads()


def prepare(device: torch.device, threads: int | None = None) -> None:
    """How many threads compute on the CPU, as many as torch takes by itself where None.

    Where `device` is the CPU, besides: keep freed memory, and take subnormal numbers for zero. To be called
    before torch works with several threads.
    """
    if (threads or _USUAL) != torch.get_num_threads():
        torch.set_num_threads(threads or _USUAL)
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

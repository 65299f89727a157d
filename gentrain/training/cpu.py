"""How a process is set up that computes on the CPU: threads, freed memory, subnormal numbers."""

from __future__ import annotations

import ctypes
import sys

import torch

#: As many as torch takes by itself, by the processor or OMP_NUM_THREADS.
_USUAL = torch.get_num_threads()

# glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
#: Bytes that the heap grows by at least.
_GROWTH = 64 * 2**20


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


def keep_freed() -> bool:
    """Let this process keep the memory of freed tensors, as torch does on a GPU.

    glibc maps every large block afresh and gives it back when it is freed, so that each tensor of each
    step on the CPU is paid for page by page: with 50 importance samples that took 40 % of a step. Numbers
    are not touched.

    Returns:
        Whether it was set: True on Linux with glibc, False elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, _GROWTH))
    done = [mallopt(name, value) for name, value in settings]
    return done == [1, 1, 1]

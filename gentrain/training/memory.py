"""Main memory: what the C library does with the memory of tensors that are freed."""

from __future__ import annotations

import ctypes
import sys

# glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
#: Bytes that the heap grows by at least.
_GROWTH = 64 * 2**20


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

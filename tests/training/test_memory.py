"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Page faults of ten large tensors made and freed, before and after.
PROGRAM = """
import resource, torch
from gentrain.training.cpu import keep_freed
def faults():
    for _ in range(12): torch.ones(12_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10): torch.ones(12_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = faults()
print(keep_freed(), without, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_large_tensors_are_not_mapped_afresh() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    was_set, without, kept = done.stdout.split()
    assert was_set == "True"
    assert int(without) > 1000
    assert int(kept) < int(without) / 20

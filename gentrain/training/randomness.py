"""Random state: seeding, saving it, restoring it, and stepping aside from it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy (which takes 32 bits) and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic() -> None:
    """The same bits on a GPU too, from here to the end of the process."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def snapshot(device: torch.device) -> dict[str, Any]:
    """The random state of this process as plain numbers and tensors."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [str(name), [int(k) for k in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Inverse of `snapshot`. A state of another kind of device restores what both have.

    Raises:
        KeyError, TypeError, ValueError, RuntimeError: the state is incomplete or not one.
    """
    version, words, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    torch.set_rng_state(state["torch"].cpu())
    random.setstate((version, tuple(words), gauss))
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


@contextmanager
def aside(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside, and leave the run's own random state untouched.

    Evaluation and sample grids so see the same noise each time, and training does not notice them.
    """
    before = snapshot(device)
    seed_everything(seed)
    try:
        yield
    finally:
        restore(before, device)

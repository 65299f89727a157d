"""The nearest training image, against a search of all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gentrain.metrics import nearest as module
from gentrain.metrics.nearest import nearest


def test_as_a_search_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, of images with other levels than the samples."""
    monkeypatch.setattr(module, "_CHUNK", 7)
    draws = np.random.default_rng(0)
    images = draws.integers(0, 256, (50, 1, 4, 4), dtype=np.uint8)
    x = draws.integers(0, 2, (9, 1, 4, 4), dtype=np.uint8)
    index, difference = nearest(torch.from_numpy(x), images, 2, 256)
    pairs = ((x[:, None].astype(float) - images[None] / 255.0) ** 2).mean((2, 3, 4))  # [9, 50]
    assert index == pairs.argmin(1).tolist()
    assert difference == pytest.approx(np.sqrt(pairs.min(1)), abs=1e-6)


def test_what_was_learnt_by_heart_has_no_difference() -> None:
    images = np.random.default_rng(1).integers(0, 17, (30, 3, 5, 5), dtype=np.uint8)
    index, difference = nearest(torch.from_numpy(images[[4, 29]]), images, 17, 17)
    assert index == [4, 29]
    assert difference == [0, 0]

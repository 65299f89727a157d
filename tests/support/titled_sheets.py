"""A sheet with words around it, held against the same without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gentrain.titles import WIDE


def around(plain: str | Path, titled: str | Path) -> tuple[np.ndarray, int, int, int]:
    """The titled sheet [height, width], and of the picture in it: first line, first column, height.

    Raises:
        AssertionError: a pixel of the plain picture is not in it, or there is no title.
    """
    small, large = (np.asarray(Image.open(name).convert("L")) for name in (plain, titled))
    factor = -(-WIDE // small.shape[1])
    expected = small.repeat(factor, 0).repeat(factor, 1)
    top, left = large.shape[0] - len(expected) - 20, large.shape[1] - expected.shape[1] - 20
    assert np.array_equal(large[top:-20, left:-20], expected)
    assert (large[:top] < 128).any(), "a title"
    return large, top, left, len(expected)

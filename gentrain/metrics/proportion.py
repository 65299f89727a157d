"""How sure a share of answers is: the score interval of a proportion.

Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22(158).
"""

from __future__ import annotations

import math

#: Quantile of the standard normal for 95 %.
Z95 = 1.959963984540054


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """The interval of a share of `right` in `n` independent answers, in 0..1.

    The shares p for which |right/n - p| <= z sqrt(p (1 - p) / n): unlike the textbook's p +- z s it stays
    within 0..1, and is not empty where all answers are right.

    Raises:
        ValueError: `n` below 1, or `right` not in 0..n.
    """
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"expected 0 <= right <= n and n >= 1, found {right} of {n}")
    share, square = right / n, z * z / n
    centre = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square * square / 4) / (1 + square)
    return max(0.0, centre - half), min(1.0, centre + half)

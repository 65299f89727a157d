"""Wilson's interval of a proportion, against its definition and published values."""

from __future__ import annotations

import math

import pytest

from gentrain.metrics.proportion import Z95, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 20), (20, 20), (13, 20), (500, 1000)])
def test_its_ends_solve_the_equation_that_defines_it(right: int, n: int) -> None:
    """|right/n - p| = z sqrt(p (1 - p) / n) at both ends, but for those that are 0 or 1."""
    for end in wilson(right, n):
        assert 0 <= end <= 1
        assert abs(right / n - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / n), abs=1e-9)


def test_published_values() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@pytest.mark.parametrize(("right", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_what_is_no_share(right: int, n: int) -> None:
    with pytest.raises(ValueError, match="right"):
        wilson(right, n)

"""Slant and thickness of strokes that are drawn by hand."""

from __future__ import annotations

import pytest
import torch

from gentrain.metrics.strokes import ink, shuffled_difference, slant, thickness


def strokes() -> torch.Tensor:
    images = torch.zeros(4, 1, 20, 20, dtype=torch.uint8)
    for row in range(2, 18):
        images[0, 0, row, 10] = 255  # upright
        images[1, 0, row, 18 - row] = 255  # to the right as it rises, one for one
        images[2, 0, row, row] = 255  # to the left
        images[3, 0, row, 8:14] = 255  # thick
    return images


def test_slant_and_thickness_of_strokes() -> None:
    images = strokes()
    assert slant(images).tolist() == pytest.approx([0, 1, -1, 0], abs=1e-6)
    thin, thick = thickness(images)[[0, 3]].tolist()
    assert 2 * thin == pytest.approx(1, rel=0.1)
    assert 2 * thick == pytest.approx(6 * 16 / (16 + 6))


def test_ink_is_what_the_border_is_not() -> None:
    """A negative has the strokes of what it is the negative of; one image does not decide for another."""
    x = strokes().double() / 255
    mixed = torch.cat([x[:2], 1 - x[2:]])
    assert torch.equal(ink(mixed), x)
    assert slant(ink(1 - x)).tolist() == pytest.approx(slant(x).tolist())


def test_shuffled_is_the_mean_over_all_pairs() -> None:
    dice = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, generator=dice, dtype=torch.float64) for n in (7, 9))
    b[:3] = a[:3]  # ties
    expected = (a[:, None] - b).abs().mean()
    assert shuffled_difference(a, b) == pytest.approx(float(expected))

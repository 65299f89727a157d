"""Batch normalisation that is told a class."""

from __future__ import annotations

import torch
from torch import nn

from gentrain.layers.conditional_norm import BatchNorm, ConditionalBatchNorm


def test_every_class_starts_with_gain_one_and_shift_zero() -> None:
    torch.manual_seed(0)
    x, norm = torch.randn(6, 4, 3, 3), ConditionalBatchNorm(4, 3)
    expected = nn.BatchNorm2d(4)(x)
    for label in range(3):
        torch.testing.assert_close(norm(x, torch.eye(3)[label].expand(6, -1)), expected)
    torch.testing.assert_close(BatchNorm(4)(x, None), expected)


def test_gain_and_shift_are_the_classs_own() -> None:
    torch.manual_seed(0)
    x, norm = torch.randn(6, 4, 3, 3), ConditionalBatchNorm(4, 3)
    with torch.no_grad():
        norm.gain.weight.normal_()
        norm.shift.weight.normal_()
    y = torch.arange(6) % 3
    expected = nn.BatchNorm2d(4)(x) * (1 + norm.gain.weight.T[y])[:, :, None, None]
    expected = expected + norm.shift.weight.T[y][:, :, None, None]
    torch.testing.assert_close(norm(x, torch.eye(3)[y]), expected)


def test_with_spectral_norm_gains_lie_around_one() -> None:
    """And not around zero, which a missing `1 +` would make of them."""
    torch.manual_seed(0)
    norm = ConditionalBatchNorm(64, 20, spectral=True)
    c = torch.randn(500, 20)
    gains = 1 + norm.gain(c)
    assert abs(gains.mean() - 1) < 0.1
    torch.testing.assert_close(torch.linalg.matrix_norm(norm.gain.weight, 2), torch.tensor(1.0))
    x = torch.randn(5, 64, 2, 2)
    torch.testing.assert_close(norm(x, torch.zeros(5, 20)), nn.BatchNorm2d(64)(x))

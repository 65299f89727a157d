"""Convolutions joined with resampling equal the two one after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.layers.resampled_conv import DownConv2d, UpConv2d


def plain(layer: UpConv2d | DownConv2d, x: Tensor) -> Tensor:
    if isinstance(layer, UpConv2d):
        return F.conv2d(F.interpolate(x, scale_factor=2), layer.weight, layer.bias, padding=1)
    return F.avg_pool2d(F.conv2d(x, layer.weight, layer.bias, padding=1), 2)


@pytest.mark.parametrize("kind", [UpConv2d, DownConv2d])
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (14, 8)])
def test_it_is_a_convolution_and_a_resampling(
    kind: type[UpConv2d | DownConv2d], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    layer = kind(3, 5).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    found, expected = layer(x), plain(layer, x)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    inputs = (x, layer.weight, layer.bias)
    for a, b in zip(
        torch.autograd.grad((weights * found).sum(), inputs),
        torch.autograd.grad((weights * expected).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)

import pytest
import torch
from flows import check_transform, values
from normflows.flows import Squeeze as Oracle

from gentrain.layers.squeeze import Squeeze


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 4, 2), (3, 2, 6)])
def test_squeezing_is_invertible_with_determinant_one(shape):
    x = values(2, *shape)
    check_transform(Squeeze(), x)
    assert torch.equal(Squeeze()(x)[1], torch.zeros(2, dtype=torch.float64))


def test_each_block_of_four_pixels_becomes_four_channels():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = Squeeze()(x)[0]
    assert y.shape == (1, 4, 2, 2)
    assert y[0, :, 0, 0].tolist() == [0, 1, 4, 5]
    assert y[0, :, 1, 0].tolist() == [8, 9, 12, 13]


def test_the_order_is_the_oracles():
    x = values(2, 3, 4, 6)
    assert torch.equal(Squeeze()(x)[0], Oracle().inverse(x)[0])

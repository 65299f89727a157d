import torch
from flows import check_transform, values, vivid

from gentrain.layers.actnorm import ActNorm
from gentrain.layers.invertible_conv import InvertibleConv
from gentrain.layers.transform import Chain


def test_a_chain_composes_in_order_and_adds_the_log_determinants():
    torch.manual_seed(0)
    first, second = vivid(ActNorm(3)), vivid(InvertibleConv(3))
    chain = Chain([first, second])
    x = values(2, 3, 2, 2)
    y, log_det = chain(x)
    middle, of_first = first(x)
    expected, of_second = second(middle)
    assert torch.equal(y, expected)
    torch.testing.assert_close(log_det, of_first + of_second)
    check_transform(chain, x)


def test_an_empty_chain_is_the_identity():
    x = values(2, 3)
    y, log_det = Chain([])(x)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(Chain([]).inverse(x), x)

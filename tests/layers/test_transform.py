import pytest
import torch
from flows import check_transform, values, vivid
from torch.distributions import AffineTransform, ComposeTransform, SigmoidTransform

from gentrain.layers.actnorm import ActNorm
from gentrain.layers.invertible_conv import InvertibleConv
from gentrain.layers.transform import Chain, Logit


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


@pytest.mark.parametrize("alpha", [1e-5, 0.05])
def test_a_logit_is_torchs(alpha):
    x = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logit = Logit(alpha)
    chain = ComposeTransform([AffineTransform(alpha / 2, 1 - alpha), SigmoidTransform().inv])
    y, log_det = logit(x)
    torch.testing.assert_close(y, chain(x))
    torch.testing.assert_close(log_det, chain.log_abs_det_jacobian(x, y).flatten(1).sum(1))
    assert (logit.inverse(y) - x).abs().max() < 1e-12
    check_transform(logit, x)


def test_a_logit_keeps_the_digits_at_both_ends_in_float32():
    x = (torch.tensor([0.0, 1.0, 254.0, 255.0])[:, None] + torch.tensor([0.0, 1e-3, 0.5])) / 256
    logit = Logit(1e-6)
    y, _ = logit(x)
    torch.testing.assert_close(y, logit(x.double())[0].float(), rtol=1e-5, atol=0)
    torch.testing.assert_close(logit.inverse(y), x, rtol=0, atol=2e-7)

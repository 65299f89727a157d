import copy

import pytest
import torch
from flows import check_transform, values, vivid
from hypothesis import given, settings
from hypothesis import strategies as st
from normflows.flows import Invertible1x1Conv as Oracle

from gentrain.layers.invertible_conv import InvertibleConv


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 6), rest=st.sampled_from([(), (1, 1), (2, 3)]), seed=st.integers(0, 99))
def test_round_trip_and_log_determinant(channels, rest, seed):
    torch.manual_seed(seed)
    check_transform(vivid(InvertibleConv(channels), seed=seed), values(2, channels, *rest, seed=seed))


@pytest.mark.parametrize("channels", [1, 2, 3, 16])
def test_it_starts_as_a_random_rotation(channels):
    for seed in range(5):
        torch.manual_seed(seed)
        conv = InvertibleConv(channels)
        w = conv.weight().detach().double()
        torch.testing.assert_close(w @ w.T, torch.eye(channels).double(), atol=1e-5, rtol=0)
        assert torch.linalg.det(w).item() == pytest.approx(1, abs=1e-5)
        log_det = conv(torch.randn(2, channels, 3, 3))[1]
        torch.testing.assert_close(log_det, torch.zeros(2), atol=1e-4, rtol=0)
        if channels > 1:
            torch.manual_seed(seed + 100)
            assert not torch.equal(w, InvertibleConv(channels).weight().double())


@pytest.mark.parametrize("channels", [2, 5, 12])
def test_it_agrees_with_the_oracle(channels):
    torch.manual_seed(0)
    ours, oracle = vivid(InvertibleConv(channels)), Oracle(channels, use_lu=False).double()
    with torch.no_grad():
        oracle.W.copy_(ours.weight())
    x = values(3, channels, 2, 4)
    y, log_det = ours(x)
    expected, expected_log_det = oracle.inverse(x)  # its inverse is the direction from data to latents
    torch.testing.assert_close(y, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(log_det, expected_log_det.expand(3))  # by slogdet of the whole matrix
    torch.testing.assert_close(ours.inverse(y), oracle(y)[0], atol=1e-9, rtol=1e-9)


def test_what_is_learnt_leaves_permutation_and_signs_alone():
    torch.manual_seed(0)
    conv = InvertibleConv(4)
    assert {name for name, _ in conv.named_parameters()} == {"lower", "upper", "log_s"}
    assert {name for name, _ in conv.named_buffers()} == {"sign", "order"}
    y, log_det = conv(torch.randn(2, 4, 3, 3))
    (y.square().sum() * log_det.sum().add(1)).backward()
    assert not conv.lower.grad.triu().any()  # ones on the diagonal
    assert not conv.upper.grad.tril().any()
    assert conv.log_s.grad.all()


def test_under_autocast_it_stays_exact():
    torch.manual_seed(0)
    conv = InvertibleConv(6)
    x = torch.randn(4, 6, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y, log_det = conv(x)
        back = conv.inverse(y)
    assert y.dtype == log_det.dtype == torch.float32
    assert (back - x).abs().max() < 1e-5
    assert torch.equal(y, conv(x)[0])


def test_copies_share_nothing():
    conv = InvertibleConv(3)
    twin = copy.deepcopy(conv)
    with torch.no_grad():
        conv.log_s += 1
    assert not torch.equal(conv.weight(), twin.weight())

import math

import pytest
import torch
from flows import check_transform, values, vivid
from hypothesis import given, settings
from hypothesis import strategies as st
from normflows.flows import AffineCoupling as Oracle
from torch import nn

from gentrain.layers.coupling import (
    MIN_SCALE,
    Additive,
    ChannelMask,
    CheckerboardMask,
    Coupling,
    CouplingNet,
    SigmoidScale,
    TanhScale,
)


def AffineCoupling(channels, net):
    """Glow's."""
    return Coupling(channels, net, SigmoidScale())


def AdditiveCoupling(channels, net):
    """NICE's, on channels."""
    return Coupling(channels, net, Additive())


KINDS = pytest.mark.parametrize("kind", [AffineCoupling, AdditiveCoupling])
MASKS = [ChannelMask(), ChannelMask(second=True), CheckerboardMask(), CheckerboardMask(odd=True)]
CHANGES = [Additive(), SigmoidScale(), TanhScale]


def net(channels_in, channels_out):
    return CouplingNet(channels_in, 6, channels_out, 0.0)


@settings(max_examples=20, deadline=None)
@given(
    mask=st.sampled_from(MASKS),
    change=st.sampled_from(CHANGES),
    channels=st.integers(2, 6),
    size=st.sampled_from([(1, 2), (2, 3)]),
    seed=st.integers(0, 99),
)
def test_round_trip_and_log_determinant(mask, change, channels, size, seed):
    torch.manual_seed(seed)
    coupling = vivid(Coupling(channels, net, change, mask), seed=seed)
    check_transform(coupling, values(2, channels, *size, seed=seed))


@KINDS
@pytest.mark.parametrize("channels", [2, 3, 5, 8])
def test_one_part_stays_and_decides_how_the_other_is_changed(kind, channels):
    torch.manual_seed(0)
    coupling = vivid(kind(channels, net))
    x = values(1, channels, 2, 2)
    jacobian = torch.autograd.functional.jacobian(lambda t: coupling(t)[0], x)
    jacobian = jacobian.reshape(channels, 4, channels, 4)
    a = channels // 2
    identity = torch.eye(4 * (channels - a)).double().view(channels - a, 4, channels - a, 4)
    torch.testing.assert_close(jacobian[a:, :, a:], identity)
    assert not jacobian[a:, :, :a].any()
    assert jacobian[:a, :, a:].all()  # each changed value depends on all the others
    within = jacobian[:a, :, :a].reshape(4 * a, 4 * a)
    assert torch.equal(within, within.diagonal().diag())
    if kind is AdditiveCoupling:
        assert torch.equal(within, torch.eye(4 * a).double())
    else:
        assert within.diagonal().unique().numel() == 4 * a


@pytest.mark.parametrize(
    ("kind", "scale"),
    [(AffineCoupling, MIN_SCALE + (1 - MIN_SCALE) / (1 + math.exp(-2))), (AdditiveCoupling, 1.0)],
)
def test_it_starts_without_a_shift_at_one_scale(kind, scale):
    x = values(2, 5, 3, 3)
    y, log_det = kind(5, net).double()(x)
    torch.testing.assert_close(y[:, :2], scale * x[:, :2])
    torch.testing.assert_close(log_det, torch.full((2,), 2 * 9 * math.log(scale)).double())


@KINDS
def test_it_agrees_with_the_oracle(kind):
    torch.manual_seed(0)
    ours = vivid(kind(4, net))

    class Interleaved(nn.Module):
        """The oracle has shifts and scales in turn, and applies the scale sigmoid(h + 2) undamped."""

        def forward(self, b):
            t, h = ours.net(b).chunk(2, dim=1)
            s = MIN_SCALE + (1 - MIN_SCALE) * torch.sigmoid(h + 2)
            return torch.stack([t, torch.logit(s) - 2], dim=2).flatten(1, 2)

    if kind is AffineCoupling:
        oracle = Oracle(Interleaved(), scale_map="sigmoid_inv")
    else:
        oracle = Oracle(ours.net, scale=False)
    x = values(3, 4, 3, 2)
    y, log_det = ours(x)
    a, b = x.chunk(2, dim=1)
    (kept, changed), expected = oracle([b, a])
    torch.testing.assert_close(y, torch.cat([changed, kept], dim=1))
    torch.testing.assert_close(log_det, torch.zeros_like(log_det) + expected)


def test_the_scale_is_never_too_small_to_be_inverted():
    coupling = AffineCoupling(2, lambda c_in, c_out: nn.Conv2d(c_in, c_out, 1))
    with torch.no_grad():
        coupling.net.bias.copy_(torch.tensor([0.0, -1e6]))
    x = torch.randn(5, 2, 3, 3)
    y, log_det = coupling(x)
    assert log_det.isfinite().all()
    torch.testing.assert_close(coupling.inverse(y), x, atol=1e-5, rtol=1e-3)


@KINDS
def test_a_single_channel_is_refused(kind):
    with pytest.raises(ValueError, match="at least 2 channels, found 1"):
        kind(1, net)


def test_the_network_starts_at_zero_and_learns_from_the_first_step():
    torch.manual_seed(0)
    network = CouplingNet(2, 8, 3, 0.0)
    x = torch.randn(4, 2, 5, 5)
    assert torch.equal(network(x), torch.zeros(4, 3, 5, 5))
    network(x).sum().backward()
    assert network[-1].weight.grad.any()


@KINDS
def test_under_autocast_the_log_determinant_is_float32(kind):
    torch.manual_seed(0)
    coupling = vivid(kind(4, net), std=0.1).float()
    x = torch.randn(3, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y, log_det = coupling(x)
    assert y.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(y, coupling(x)[0], atol=0.05, rtol=0.05)


@pytest.mark.parametrize("mask", MASKS)
def test_a_mask_divides_the_values_in_two(mask):
    x = values(2, 4, 3, 4)
    changed, given_ = mask.split(x)
    assert torch.equal(mask.merge(changed, given_), x)
    coupling = vivid(Coupling(4, net, SigmoidScale(), mask))
    jacobian = torch.autograd.functional.jacobian(lambda t: coupling(t)[0], x[:1]).view(48, 48)
    stays = (jacobian == torch.eye(48).double()).all(1)
    assert int(stays.sum()) == 24, "half of the values are given back"
    moved = jacobian[~stays][:, ~stays]
    assert torch.equal(moved, moved.diagonal().diag()), "a changed value depends on no other changed one"
    assert jacobian[~stays][:, stays].any(1).all(), "and on given ones"
    opposite = MASKS[MASKS.index(mask) ^ 1]
    assert torch.equal(opposite.merge(given_, changed), x), "the other mask changes the rest"


def test_tanh_scales_start_at_one_and_are_bounded_by_the_gain():
    coupling = Coupling(4, net, TanhScale).double()
    x = values(2, 4, 3, 3)
    y, log_det = coupling(x)
    torch.testing.assert_close(y, x)
    assert torch.equal(log_det, torch.zeros(2).double())
    with torch.no_grad():
        coupling.net[-1].bias.fill_(1e3)
    assert coupling(x)[1].abs().max() <= 2 * 9

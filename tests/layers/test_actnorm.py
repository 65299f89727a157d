import copy

import pytest
import torch
from flows import check_transform, values, vivid
from hypothesis import given, settings
from hypothesis import strategies as st
from normflows.flows import ActNorm as Oracle
from torch import nn

from gentrain.layers.actnorm import MIN_STD, ActNorm, ActNormConv2d, initialising
from gentrain.layers.transform import Chain


def moments(y):
    """Mean and standard deviation of each channel."""
    flat = y.detach().transpose(0, 1).flatten(1)
    return flat.mean(1), flat.std(1, correction=0)


@settings(max_examples=20, deadline=None)
@given(
    channels=st.integers(1, 5), rest=st.sampled_from([(), (1, 1), (3, 2), (4, 1)]), seed=st.integers(0, 99)
)
def test_round_trip_and_log_determinant(channels, rest, seed):
    check_transform(vivid(ActNorm(channels), seed=seed), values(3, channels, *rest, seed=seed))


def test_before_it_is_initialised_it_is_the_identity():
    x = values(4, 3, 2, 2)
    y, log_det = ActNorm(3).double()(x)
    assert torch.equal(y, x)
    assert torch.equal(log_det, torch.zeros(4, dtype=torch.float64))


def test_the_first_batch_gets_mean_zero_and_variance_one():
    layer = ActNorm(3).double()
    x = 4 * values(16, 3, 5, 5) + torch.tensor([1.0, -20.0, 300.0]).view(3, 1, 1)
    with initialising(layer):
        y, _ = layer(x)  # the batch's own forward pass has the new parameters already
    mean, std = moments(y)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-9, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-9, rtol=0)
    assert layer.initialised


def test_it_agrees_with_the_oracle_on_first_and_later_batches():
    ours, oracle = ActNorm(3).double(), Oracle((3, 1, 1)).double()
    first, later = 3 * values(64, 3, 4, 4) + 1, values(2, 3, 4, 4, seed=1)
    with initialising(ours):
        ours(first)
    oracle(first)
    y, log_det = ours(later)
    expected, expected_log_det = oracle(later)
    # The oracle divides by the standard deviation with Bessel's correction: 64 * 16 values.
    torch.testing.assert_close(y, expected, atol=0, rtol=2e-3)
    torch.testing.assert_close(log_det, expected_log_det.expand(2), atol=0, rtol=2e-3)


def test_it_is_initialised_once_only():
    layer = ActNorm(2).double()
    with initialising(layer):
        layer(3 * values(8, 2, 2, 2))
    before = copy.deepcopy(layer.state_dict())
    layer(100 * values(8, 2, 2, 2))
    layer.initialise(100 * values(8, 2, 2, 2))
    with initialising(layer):
        layer(100 * values(8, 2, 2, 2))
    assert all(torch.equal(before[k], v) for k, v in layer.state_dict().items())


def test_a_loaded_layer_is_not_initialised_again(tmp_path):
    layer, again = ActNorm(2), ActNorm(2)
    with initialising(layer):
        layer(5 * values(8, 2, 2, 2).float())
    torch.save(layer.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with initialising(again):
        again(100 * values(8, 2, 2, 2).float())
    assert again.initialised
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in layer.state_dict().items())


def test_no_hook_stays_behind():
    layer = ActNorm(2)
    with initialising(layer):
        pass
    layer(torch.randn(4, 2))
    assert not layer.initialised
    with pytest.raises(RuntimeError, match="inside"), initialising(layer):
        raise RuntimeError("inside")
    layer(torch.randn(4, 2))
    assert not layer.initialised


def test_layers_are_initialised_one_after_another():
    torch.manual_seed(0)
    chain = Chain([ActNorm(3), ActNorm(3)]).double()
    with initialising(chain):
        chain(7 * values(32, 3, 2, 2) + 5)
    first, second = chain.transforms
    assert first.log_scale.abs().min() > 1  # it has taken it all
    torch.testing.assert_close(second.log_scale.detach(), torch.zeros(3).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(second.shift.detach(), torch.zeros(3).double(), atol=1e-12, rtol=0)


def test_a_constant_channel_keeps_its_scale():
    x = values(8, 3, 2, 2)
    x[:, 1] = 0.25
    x[:, 2] *= 0.1 * MIN_STD
    layer = ActNorm(3).double()
    with initialising(layer):
        y, log_det = layer(x)
    assert layer.log_scale[1] == layer.log_scale[2] == 0
    assert y.isfinite().all()
    assert log_det.isfinite().all()
    torch.testing.assert_close(moments(y)[0], torch.zeros(3).double(), atol=1e-9, rtol=0)


def test_the_convolution_is_one_followed_by_actnorm():
    torch.manual_seed(0)
    layer = ActNormConv2d(2, 5, 3).double()
    x = 10 * values(8, 2, 4, 3) + 1
    plain = nn.functional.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x), plain)
    norm = ActNorm(5).double()
    with initialising(layer), initialising(norm):
        torch.testing.assert_close(layer(x), norm(plain)[0])
    mean, std = moments(layer(x))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-9, rtol=0)
    torch.testing.assert_close(std, torch.ones_like(std), atol=1e-9, rtol=0)
    assert "initialised" in layer.state_dict()

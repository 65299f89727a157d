import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentrain.layers.conv import ConvDecoder, ConvEncoder, stage_sizes


def test_each_stage_halves_and_rounds_up():
    assert stage_sizes((28, 9), 3) == [(28, 9), (14, 5), (7, 3), (4, 2)]
    assert stage_sizes((1, 2), 2) == [(1, 2), (1, 1), (1, 1)]


@settings(max_examples=40, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 33),
    width=st.integers(1, 33),
    stages=st.integers(1, 4),
)
def test_any_size_goes_in_and_comes_out(channels, height, width, stages):
    maps = [2, 3, 4, 5][:stages]
    encoder = ConvEncoder((channels, height, width), maps, 6, 7, "relu")
    decoder = ConvDecoder(7, (channels, height, width), maps, 6, "relu")
    x = torch.randn(2, channels, height, width)
    top = stage_sizes((height, width), stages)[-1]
    assert encoder.trunk(x).shape == (2, maps[-1], *top)
    assert decoder(encoder(x)).shape == x.shape


def test_every_pixel_depends_on_the_latent_and_reaches_the_code():
    torch.manual_seed(0)
    encoder = ConvEncoder((1, 9, 11), [4, 4], 8, 3, "tanh")
    decoder = ConvDecoder(3, (1, 9, 11), [4, 4], 8, "tanh")
    x = torch.randn(1, 1, 9, 11, requires_grad=True)
    encoder(x).sum().backward()
    assert (x.grad != 0).all()
    jacobian = torch.autograd.functional.jacobian(decoder, torch.randn(1, 3))  # [1, 1, 9, 11, 1, 3]
    assert (jacobian.abs().sum((-2, -1)) > 0).all()


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_the_signal_keeps_its_size_at_the_start(stages):
    torch.manual_seed(0)
    maps = [64] * stages
    encoder = ConvEncoder((3, 32, 32), maps, 256, 64, "relu")
    decoder = ConvDecoder(64, (8, 32, 32), maps, 256, "relu")
    assert 0.3 < encoder(torch.randn(64, 3, 32, 32)).std() < 3
    # The decoder's last layer starts at a tenth, near its biases.
    assert 0.03 < decoder(torch.randn(64, 64)).std() < 0.3


def test_dropout_acts_in_training_alone():
    encoder = ConvEncoder((1, 8, 8), [4], 32, 2, "silu", dropout=0.5)
    x = torch.randn(2, 1, 8, 8)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))

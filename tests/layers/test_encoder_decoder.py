import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentrain.layers.encoder_decoder import check_positive, encoder_decoder


def build(network="mlp", shape=(2, 9, 8), **settings):
    defaults = {
        "codes": 6,
        "latents": 5,
        "start": torch.tensor([0.5, -2.0, 3.0]),
        "channels": [4, 6] if network == "conv" else [],
        "hidden": {"linear": [], "mlp": [7, 4], "conv": [8]}[network],
        "activation_name": "tanh",
    }
    return encoder_decoder(network, shape, **defaults | settings)


@given(
    network=st.sampled_from(["linear", "mlp", "conv"]),
    shape=st.tuples(st.integers(1, 3), st.integers(8, 13), st.integers(8, 13)),
    codes=st.integers(1, 5),
    latents=st.integers(1, 5),
    batch=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_shapes(network, shape, codes, latents, batch):
    made = build(network, shape, codes=codes, latents=latents)
    assert made.encoder(torch.randn(batch, *shape)).shape == (batch, codes)
    assert made.decoder(torch.randn(batch, latents)).shape == (batch, 3, *shape[1:])


@pytest.mark.parametrize("network", ["linear", "mlp", "conv"])
def test_the_decoder_starts_near_what_it_is_told(network):
    torch.manual_seed(0)
    made = build(network, (3, 8, 8), latents=2)
    out = made.decoder(torch.zeros(1, 2))
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.tensor([0.5, -2.0, 3.0]), atol=0.01, rtol=0)
    assert out.std((0, 2, 3)).max() < 0.1


def test_linear_is_linear_whatever_else_is_set():
    torch.manual_seed(0)
    made = build("linear", hidden=[3], channels=[9])
    assert sum(isinstance(m, nn.Linear) for m in made.encoder.modules()) == 1
    assert not [m for m in made.encoder.modules() if isinstance(m, nn.Tanh)]
    a, b = torch.randn(2, 1, 2, 9, 8)
    zero = made.encoder(torch.zeros_like(a))
    torch.testing.assert_close(made.encoder(a + b) + zero, made.encoder(a) + made.encoder(b))


def test_black_is_zero_to_the_first_layer():
    torch.manual_seed(0)
    one = build("mlp", black_is_zero=True).encoder
    torch.manual_seed(0)
    plain = build("mlp").encoder
    assert one.state_dict().keys() == plain.state_dict().keys()
    x = torch.rand(4, 2, 9, 8) * 2 - 1
    torch.testing.assert_close(one(x), plain((x + 1) / 2))


def test_the_decoder_has_the_hidden_layers_in_reverse():
    made = build("mlp", hidden=[7, 4])
    assert [m.out_features for m in made.encoder.modules() if isinstance(m, nn.Linear)] == [7, 4, 6]
    assert [m.out_features for m in made.decoder.modules() if isinstance(m, nn.Linear)] == [4, 7, 3 * 72]
    single = build("mlp", hidden=7)
    assert [m.out_features for m in single.encoder.modules() if isinstance(m, nn.Linear)] == [7, 6]


@pytest.mark.parametrize(
    ("network", "setting", "value"),
    [
        ("mlp", "hidden", []),
        ("mlp", "hidden", [4, 0]),
        ("conv", "hidden", [4, 4]),
        ("conv", "hidden", []),
        ("conv", "channels", []),
        ("conv", "channels", [0]),
        ("conv", "dropout", 1.0),
        ("mlp", "dropout", 7.0),
        ("conv", "dropout", -0.1),
    ],
)
def test_settings_out_of_range_are_named(network, setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
        build(network, **{setting: value})


def test_refusals_say_what_to_set():
    with pytest.raises(ValueError, match=r"model\.network must be one of linear, mlp, conv, found 'unet'"):
        encoder_decoder(
            "unet",
            (1, 8, 8),
            codes=1,
            latents=1,
            start=torch.zeros(1),
            channels=[],
            hidden=[],
            activation_name="tanh",
        )
    with pytest.raises(ValueError, match=r"images are 7x8.*dataset\.image_size=8"):
        build("conv", (1, 7, 8))
    with pytest.raises(ValueError, match=r"model\.k must be at least 1, found 0"):
        check_positive("k", 0)

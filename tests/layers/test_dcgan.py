"""Radford et al.'s networks: sizes, layers, initial weights."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentrain.layers.dcgan import NORMS, DCGANDiscriminator, DCGANGenerator, halvings, normalisation


def layers_of(net: nn.Module, *kinds: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in net.modules() if isinstance(layer, kinds)]


# Sizes


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (8, 8, [8, 4, 2]),
        (12, 12, [12, 6, 3]),
        (16, 16, [16, 8, 4]),
        (20, 20, [20, 10, 5]),
        (28, 28, [28, 14, 7]),
        (32, 32, [32, 16, 8, 4]),
        (36, 36, [36, 18, 9]),
        (48, 48, [48, 24, 12, 6]),
        (64, 64, [64, 32, 16, 8, 4]),
        (8, 64, [8, 4, 2]),
        (64, 32, [64, 32, 16, 8]),
    ],
)
def test_stages_by_hand(height: int, width: int, expected: list[int]) -> None:
    assert [h for h, _ in halvings(height, width)] == expected


@given(height=st.integers(2, 256).map(lambda k: 4 * k), width=st.integers(2, 256).map(lambda k: 4 * k))
def test_every_multiple_of_four_halves_exactly(height: int, width: int) -> None:
    sizes = halvings(height, width)
    assert sizes[0] == (height, width)
    assert len(sizes) >= 3
    for (h, w), (half_h, half_w) in pairwise(sizes):
        assert (2 * half_h, 2 * half_w) == (h, w)
    h, w = sizes[-1]
    assert h % 2 or w % 2 or min(h, w) < 8, "it could be halved again"
    assert len(sizes) == 3 or min(h, w) >= 4


@given(height=st.integers(1, 130), width=st.integers(1, 130))
def test_every_other_size_is_refused_with_sizes_that_work(height: int, width: int) -> None:
    if min(height, width) >= 8 and height % 4 == 0 and width % 4 == 0:
        return
    with pytest.raises(ValueError, match=rf"images are {height}x{width}, .*dataset\.image_size=") as refused:
        halvings(height, width)
    offered = str(refused.value).split("image_size=")[1].split(", or model")[0].split(" or ")
    assert 1 <= len(offered) <= 2
    for size in offered:
        sides = [int(side) for side in re.findall(r"\d+", size)]
        assert (len(sides) == 1) == (height == width)
        for side, found in zip(sides * (3 - len(sides)), (height, width), strict=True):
            halvings(side, side)
            assert abs(side - found) < 4 or side == 8


def test_a_refusal_in_full() -> None:
    expected = (
        "images are 30x30, but these networks take heights and widths that are multiples of 4 from 8 "
        "up; set dataset.image_size=28 or 32 where the data set takes it, or model.network=mlp"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        halvings(30, 30)
    with pytest.raises(ValueError, match=re.escape("image_size=[28,20] or [32,20] where")):
        halvings(30, 20)


@settings(max_examples=15, deadline=None)
@given(
    in_channels=st.integers(1, 4),
    height=st.integers(2, 9).map(lambda k: 4 * k),
    width=st.integers(2, 9).map(lambda k: 4 * k),
    channels=st.integers(1, 3),
    dense=st.sampled_from([0, 1, 7, 2000]),
    norm=st.sampled_from(NORMS),
)
def test_shapes_and_ranges(
    in_channels: int, height: int, width: int, channels: int, dense: int, norm: str
) -> None:
    shape = (in_channels, height, width)
    generator = DCGANGenerator(5, shape, channels, dense, "none" if norm == "none" else "batch")
    discriminator = DCGANDiscriminator(shape, channels, dense, norm)
    fake = generator(torch.randn(3, 5))
    assert fake.shape == (3, *shape)
    assert fake.abs().max() <= 1
    assert discriminator(fake).shape == (3,)


def activations(net: nn.Module, z: torch.Tensor) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _i, o: seen.append(o)) for m in net.eval().modules()]
    net(z)
    for hook in hooks:
        hook.remove()
    return seen


# Layers, Radford et al. 2016 section 3


def test_the_paper_networks_for_64x64() -> None:
    """Figure 1 with half of its maps: the generator 4x4x512 up to 32x32x64."""
    generator = DCGANGenerator(100, (3, 64, 64), 64, 0, "batch")
    ups = layers_of(generator, nn.ConvTranspose2d)
    assert [(u.in_channels, u.out_channels) for u in ups] == [(512, 256), (256, 128), (128, 64), (64, 3)]
    (linear,) = layers_of(generator, nn.Linear)
    assert (linear.in_features, linear.out_features) == (100, 512 * 16)
    discriminator = DCGANDiscriminator((3, 64, 64), 64, 0, "batch")
    downs = layers_of(discriminator, nn.Conv2d)
    assert [(d.in_channels, d.out_channels) for d in downs] == [(3, 64), (64, 128), (128, 256), (256, 512)]
    for layer in [*ups, *downs]:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))


def test_where_norms_and_activations_are() -> None:
    generator = [type(layer).__name__ for layer in DCGANGenerator(5, (1, 16, 16), 2, 0, "batch")]
    assert generator == [
        *("Linear", "Unflatten", "BatchNorm2d", "ReLU", "ConvTranspose2d", "BatchNorm2d", "ReLU"),
        *("ConvTranspose2d", "Tanh"),
    ]
    discriminator = DCGANDiscriminator((1, 32, 32), 2, 0, "batch").net
    assert [type(layer).__name__ for layer in discriminator] == [
        *("Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU"),
        *("Flatten", "Linear"),
    ]
    assert {layer.negative_slope for layer in layers_of(discriminator, nn.LeakyReLU)} == {0.2}


def test_the_networks_of_infogan_for_mnist() -> None:
    """Chen et al. 2016 appendix C.1: a fully connected layer of 1024 in each; 74 latents and codes."""
    shapes = [p.shape for p in DCGANGenerator(74, (1, 28, 28), 64, 1024, "batch").parameters() if p.ndim > 1]
    assert shapes == [(1024, 74), (128 * 7 * 7, 1024), (128, 64, 4, 4), (64, 1, 4, 4)]
    shapes = [p.shape for p in DCGANDiscriminator((1, 28, 28), 64, 1024, "batch").parameters() if p.ndim > 1]
    assert shapes == [(64, 1, 4, 4), (128, 64, 4, 4), (1024, 128 * 7 * 7), (1, 1024)]


def test_where_a_dense_layer_is() -> None:
    generator = [type(layer).__name__ for layer in DCGANGenerator(5, (1, 16, 16), 2, 6, "batch")]
    assert generator == [
        *("Linear", "BatchNorm1d", "ReLU", "Linear", "Unflatten", "BatchNorm2d", "ReLU"),
        *("ConvTranspose2d", "BatchNorm2d", "ReLU", "ConvTranspose2d", "Tanh"),
    ]
    for norm, name in (("batch", "BatchNorm1d"), ("layer", "GroupNorm"), ("none", "Identity")):
        layers = list(DCGANDiscriminator((1, 16, 16), 2, 6, norm).net)
        assert [type(layer).__name__ for layer in layers[-5:]] == [
            *("Flatten", "Linear", name, "LeakyReLU", "Linear"),
        ]
        assert (layers[-4].bias is None) == (norm != "none")
        assert layers[-2].negative_slope == 0.2


def test_layer_norm_of_a_dense_layer_is_over_the_units_of_an_example() -> None:
    torch.manual_seed(0)
    layer = normalisation("layer", 6, flat=True)
    y = 3 * torch.randn(4, 6) + 2
    torch.testing.assert_close(layer(y), torch.nn.functional.layer_norm(y, (6,)))


def test_batchnorm_has_torchs_eps_and_momentum() -> None:
    """The second argument of BatchNorm2d is eps: BatchNorm2d(maps, 0.8) hardly normalises."""
    shape = (1, 16, 16)
    for net in (DCGANGenerator(5, shape, 2, 0, "batch"), DCGANDiscriminator(shape, 2, 0, "batch")):
        found = layers_of(net, nn.BatchNorm2d)
        assert found
        assert {(layer.eps, layer.momentum) for layer in found} == {(1e-5, 0.1)}


def test_the_other_norms() -> None:
    layer = DCGANDiscriminator((1, 16, 16), 2, 0, "layer")
    assert [g.num_groups for g in layers_of(layer, nn.GroupNorm)] == [1]
    assert not layers_of(layer, nn.BatchNorm2d)
    assert not list(layer.buffers())
    for net in (DCGANGenerator(5, (1, 16, 16), 2, 0, "none"), DCGANDiscriminator((1, 16, 16), 2, 0, "none")):
        assert not layers_of(net, nn.BatchNorm2d, nn.GroupNorm)
        linear = layers_of(net, nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
        assert all(layer.bias is not None for layer in linear)


@pytest.mark.parametrize("dense", [0, 5])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_outputs_depend_on_their_own_image_alone_without_batchnorm(norm: str, dense: int) -> None:
    torch.manual_seed(0)
    net = DCGANDiscriminator((1, 16, 16), 4, dense, norm)
    x = torch.randn(6, 1, 16, 16)
    torch.testing.assert_close(net(x)[2:4], net(x[2:4]))
    batch = DCGANDiscriminator((1, 16, 16), 4, 0, "batch")
    assert not torch.allclose(batch(x)[2:4], batch(x[2:4]), rtol=0.01)


@pytest.mark.parametrize("dense", [0, 200])
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_weights_start_as_in_the_paper(norm: str, dense: int) -> None:
    torch.manual_seed(0)
    nets = [DCGANDiscriminator((3, 32, 32), 32, dense, norm)]
    if norm != "layer":
        nets.append(DCGANGenerator(100, (3, 32, 32), 32, dense, norm))
    for net in nets:
        for layer in layers_of(net, nn.Linear, nn.Conv2d, nn.ConvTranspose2d):
            n = layer.weight.numel()
            assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)
            assert abs(layer.weight.mean().item()) < 5 * 0.02 / n**0.5
            assert layer.bias is None or not layer.bias.any()
        scales = layers_of(net, nn.BatchNorm1d, nn.BatchNorm2d, nn.GroupNorm)
        assert bool(scales) == (norm != "none")
        for layer in scales:
            n = layer.weight.numel()
            assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / (2 * n) ** 0.5)
            assert layer.weight.mean().item() == pytest.approx(1, abs=5 * 0.02 / n**0.5)
            assert not layer.bias.any()

"""What is PixelCNN++'s own: its convolutions, its mixture over colours, its start from data."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from enumerating import images
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.shifted_conv import ShiftedConv2d, Upsample2d, Way, down_shift, right_shift
from gentrain.models.autoregressive.pixelcnnpp import PixelCNNpp

SMALL = {"channels": 4, "depth": 1, "scales": 3, "mixtures": 3, "dropout": 0.0, "label_by": "none"}


def made(spec: DataSpec, **more: object) -> PixelCNNpp:
    torch.manual_seed(0)
    return PixelCNNpp(spec, **SMALL | more).double().eval()  # type: ignore[arg-type]


def seen(f: nn.Module, size: tuple[int, int], at: tuple[int, int], *more: object) -> Tensor:
    """bool [H, W], which inputs the output at a position depends on."""
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(f(x, *more)[0, :, at[0], at[1]].sum(), x)
    return (gradient[0] != 0).any(0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("way", "kernel"), [("down", (2, 3)), ("right", (2, 2))])
def test_a_shifted_convolution_sees_what_its_way_says(way: Way, kernel: tuple[int, int], stride: int) -> None:
    conv = ShiftedConv2d((2, 3), kernel, way, stride=stride).double()
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(7), indexing="ij")
    for i, j in itertools.product(range(0, 6, stride), range(0, 7, stride)):
        right = j + 1 if way == "down" else j
        expected = (rows >= i - 1) & (rows <= i) & (columns >= j - 1) & (columns <= right)
        assert torch.equal(seen(conv, (6, 7), (i // stride, j // stride)), expected)


@pytest.mark.parametrize("way", ["down", "right"])
def test_upsampling_sees_the_position_that_it_lies_in(way: Way) -> None:
    up = Upsample2d(2, way).double()
    for i, j in itertools.product(range(5), range(6)):
        found = seen(up, (3, 3), (i, j), (5, 6)).nonzero().tolist()
        beside = [[i // 2, j // 2 + 1]] if way == "down" and j % 2 and j < 5 else []
        assert found == [[i // 2, j // 2], *beside]


def test_weights_are_normalised_whatever_their_length() -> None:
    conv = ShiftedConv2d((3, 4), (2, 3), "down", scale=0.7).double()
    before = conv.weight
    torch.testing.assert_close(before.flatten(1).norm(dim=1), torch.full((4,), 0.7, dtype=torch.float64))
    with torch.no_grad():
        conv.v.mul_(torch.rand(4, 1, 1, 1) + 0.5)
    torch.testing.assert_close(conv.weight, before)


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 4, 5)])
def test_the_field_is_every_earlier_pixel_near_by(shape: tuple[int, int, int]) -> None:
    """By gradient: all earlier values of an image of this size, and nothing else."""
    model = made(DataSpec(shape, levels=7), depth=2)
    nn.init.normal_(model.head.bias)  # of the first pixel nothing else is known
    channels, height, width = shape
    x = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    params = model.params(x).unflatten(1, (-1, channels))[0].sum(0)
    order = torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1)
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        (gradient,) = torch.autograd.grad(params[c, i, j], x, retain_graph=True)
        assert torch.equal(gradient[0] != 0, order < order[c, i, j]), (c, i, j)


def test_the_colours_of_a_pixel_are_one_mixture() -> None:
    """sum_k w_k prod_c P_k(x_c), P_k a logistic over the bin whose mean earlier colours move, in float64."""
    spec = DataSpec((3, 1, 1), levels=5)
    model = made(spec)
    x = images(spec, 20)
    scaled = model.scaled(x)
    k = model.mixtures
    out = model._network(scaled, None)[:, :, 0, 0]  # [n, M], of nothing before the pixel
    weights, means, log_scales, moves = out.split([k, 3 * k, 3 * k, 3 * k], 1)
    means = means.unflatten(1, (3, k)) + model.start_means
    moves, log_scales = moves.unflatten(1, (3, k)).tanh(), log_scales.unflatten(1, (3, k))
    r, g, _ = scaled[:, :, 0, 0, None].unbind(1)
    centres = [means[:, 0], means[:, 1] + moves[:, 0] * r, means[:, 2] + moves[:, 1] * r + moves[:, 2] * g]
    joint = weights.softmax(1)
    for c, mean in enumerate(centres):
        level = x[:, c, 0].double()
        scale = log_scales[:, c].exp()
        edge = lambda shift, m=mean, s=scale, v=level: torch.sigmoid(((v + shift) / 2 - 1 - m) / s)  # noqa: E731
        above = torch.where(level < 4, edge(0.5), 1.0)
        joint = joint * (above - torch.where(level > 0, edge(-0.5), 0.0))
    torch.testing.assert_close(model.log_likelihood(x)[0], joint.sum(1).log())


def test_it_starts_from_the_data() -> None:
    spec = DataSpec((3, 8, 9), levels=16)
    model = made(spec, channels=6).train()
    x = images(spec, 30)
    outputs: dict[str, Tensor] = {}
    model.data_dependent_init(Batch(x))
    for name, layer in model.named_modules():
        if isinstance(layer, ShiftedConv2d):
            layer.register_forward_hook(lambda _m, _x, y, name=name: outputs.__setitem__(name, y))
    model._network(model.scaled(x), None)
    assert model.training
    assert len(outputs) > 10
    for name, y in outputs.items():
        scale = 0.1 if name.endswith("second") else 1.0
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros_like(y[0, :, 0, 0]), atol=1e-6, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.full_like(y[0, :, 0, 0], scale))


def test_dropout_is_of_training_alone() -> None:
    model, x = made(DataSpec((1, 6, 6), levels=4), dropout=0.5), images(DataSpec((1, 6, 6), levels=4), 3)
    once, again = (model.loss(Batch(x), 0)[0] for _ in range(2))
    assert torch.equal(once, again)
    model.train()
    once, again = (model.loss(Batch(x), 0)[0] for _ in range(2))
    assert not torch.equal(once, again)


def test_shifts_bring_in_zeros() -> None:
    x = torch.ones(1, 1, 2, 3)
    assert down_shift(x)[0, 0].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert right_shift(x)[0, 0].tolist() == [[0, 1, 1], [0, 1, 1]]


def test_a_few_bits_at_first() -> None:
    """About as good as knowing nothing."""
    spec = DataSpec((3, 8, 8), levels=256)
    model, x = made(spec, channels=8), images(spec, 16)
    model.data_dependent_init(Batch(x))
    assert 6 < model.loss(Batch(x), 0)[1]["bits_per_dim"].item() < 12
    assert math.log2(256) == 8


@pytest.mark.parametrize(
    ("setting", "value"),
    [("channels", 0), ("depth", 0), ("scales", 0), ("mixtures", 0), ("dropout", 1.0), ("label_by", "sum")],
)
def test_settings_out_of_range_are_named(setting: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .*found '?{value}"):
        made(DataSpec((1, 4, 4), levels=4, classes=3), **{setting: value})

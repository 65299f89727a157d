import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from gentrain.layers.masked_conv import MaskedConv2d, colour_groups
from gentrain.layers.raster import Canvas


def conv(channels, features_in, features_out, kernel_size, mask):
    torch.manual_seed(0)
    groups = colour_groups(features_in, channels), colour_groups(features_out, channels)
    layer = MaskedConv2d(*groups, kernel_size, mask).double()
    with torch.no_grad():
        layer.weight.normal_()  # what the mask hides is not zero
        layer.bias.normal_()
    return layer


def order(row, column, group, width, channels):
    """The place of a value in the order of drawing."""
    return (row * width + column) * channels + group


CASES = pytest.mark.parametrize(
    ("channels", "features_in", "features_out", "kernel_size", "mask"),
    [
        (1, 1, 4, 7, "A"),
        (1, 4, 3, 3, "B"),
        (1, 4, 3, 1, "B"),
        (2, 2, 4, 3, "A"),
        (3, 3, 7, 5, "A"),
        (3, 3, 6, 1, "A"),
        (3, 8, 4, 3, "B"),
        (3, 4, 5, 1, "B"),
    ],
)


@CASES
def test_what_an_output_sees_by_gradient(channels, features_in, features_out, kernel_size, mask):
    """Exactly what comes before it in the order of drawing, as far as the kernel reaches."""
    layer = conv(channels, features_in, features_out, kernel_size, mask)
    height, width, reach = 6, 7, kernel_size // 2
    x = torch.randn(1, features_in, height, width, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (1, features_out, height, width)
    for feature, target in enumerate(layer.out_groups):
        for i, j in ((0, 0), (3, 3), (2, 6), (5, 0), (5, 6)):
            (gradient,) = torch.autograd.grad(y[0, feature, i, j], x, retain_graph=True)
            now = order(i, j, target, width, channels)
            for source, seen in zip(layer.in_groups, gradient[0] != 0, strict=True):
                for k in range(height):
                    for m in range(width):
                        then = order(k, m, source, width, channels)
                        earlier = then < now or (mask == "B" and then == now)
                        near = abs(k - i) <= reach and abs(m - j) <= reach
                        if (k, m) != (i, j):
                            earlier = (k, m) < (i, j)
                        assert bool(seen[k, m]) == (earlier and near), (feature, source, i, j, k, m)


@CASES
def test_it_is_the_convolution_with_a_masked_square_kernel(
    channels, features_in, features_out, kernel_size, mask
):
    layer = conv(channels, features_in, features_out, kernel_size, mask)
    square = torch.zeros(features_out, features_in, kernel_size, kernel_size, dtype=torch.float64)
    square[:, :, : kernel_size // 2 + 1] = layer.weight.detach()
    centre = kernel_size // 2
    square[:, :, centre, centre + 1 :] = 0
    for o, target in enumerate(layer.out_groups):
        for i, source in enumerate(layer.in_groups):
            if source > target or (mask == "A" and source == target):
                square[o, i, centre, centre] = 0
    x = torch.randn(2, features_in, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.conv2d(x, square, layer.bias, padding=centre))


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3),
    more_in=st.integers(0, 5),
    more_out=st.integers(0, 5),
    reach=st.integers(0, 3),
    mask=st.sampled_from("AB"),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    n=st.integers(0, 3),
)
def test_position_by_position_it_is_the_same(channels, more_in, more_out, reach, mask, height, width, n):
    layer = conv(channels, channels + more_in, channels + more_out, 2 * reach + 1, mask)
    if mask == "A":
        layer = MaskedConv2d(range(channels), layer.out_groups, 2 * reach + 1, "A").double()
    x = torch.randn(n, len(layer.in_groups), height, width, dtype=torch.float64)
    expected = layer(x) if n else torch.zeros(0, len(layer.out_groups), height, width, dtype=torch.float64)
    source, target = torch.tensor(layer.in_groups), torch.tensor(layer.out_groups)
    with torch.inference_mode():
        steps = layer.incremental(Canvas(n, channels, x.shape[2], width, x))
        for i in range(height):
            steps.begin_row()
            for j in range(width):
                for g in range(channels):
                    now = x[:, source == g, i, j] if mask == "B" else x.new_empty(n, 0)
                    y = steps.at(j, g, now)
                    torch.testing.assert_close(y, expected[:, target == g, i, j].detach())
                    if steps.sees_image:
                        steps.observe(j, g, x[:, g, i, j])
    assert steps.sees_image == (mask == "A")


def test_colours_share_the_feature_maps_in_order():
    assert colour_groups(6, 3) == [0, 0, 1, 1, 2, 2]
    assert colour_groups(4, 3) == [0, 0, 1, 2]
    assert colour_groups(3, 3) == [0, 1, 2]
    assert colour_groups(5, 1) == [0] * 5


def test_features_keep_their_size_at_first():
    torch.manual_seed(0)
    layer = MaskedConv2d([0] * 50, [0] * 400, 5, "B")
    y = layer(torch.randn(4, 50, 12, 12).abs())  # E[x^2] = 1, as after a ReLU of variance 2
    assert y[:, :, 4:, 4:-4].square().mean().item() == pytest.approx(2, rel=0.15)
    assert not layer.weight[~layer.mask].any()
    assert not layer.bias.any()


def test_copies_precisions_and_formats():
    layer = MaskedConv2d([0] * 4, [0] * 6, 3, "B")
    assert set(layer.state_dict()) == {"weight", "bias"}
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(layer(x), twin(x))
    torch.testing.assert_close(layer.double()(x.double()).float(), twin(x))
    last = twin.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, layer.float()(x))
    assert last.is_contiguous(memory_format=torch.channels_last) or last.stride(1) == 1
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert "4, 6, 3x3, mask B" in repr(layer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0], 2, "A"), "kernel_size must be odd and at least 1, found 2"),
        (([0], [0], -1, "A"), "kernel_size must be odd and at least 1, found -1"),
        (([0], [0], 3, "C"), "mask must be A or B, found 'C'"),
        (([1, 0], [0], 3, "A"), r"in_groups must not fall, found \[1, 0\]"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskedConv2d(*arguments)

"""The PixelRNN against a loop over pixels, and what its fields reach."""

from __future__ import annotations

import itertools

import pytest
import torch
from enumerating import images
from torch import Tensor, nn

from gentrain.contracts import DataSpec
from gentrain.layers.lstm_scan import GATES, cell, diagonals, rows, scan
from gentrain.models.autoregressive.pixelrnn import (
    DiagonalBiLSTM,
    DiagonalPixelRNN,
    LSTMLayer,
    PixelRNN,
    RowLSTM,
    RowPixelRNN,
)

SIZES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 5), (5, 2)]
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))


def small(kind: type[PixelRNN], shape: tuple[int, int, int], depth: int = 1) -> PixelRNN:
    torch.manual_seed(0)
    model = kind(DataSpec(shape, levels=3), hidden=6, depth=depth, first_kernel=3, head_channels=6).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def layer_of(kind: type[RowLSTM | DiagonalBiLSTM], colours: int = 1) -> RowLSTM | DiagonalBiLSTM:
    torch.manual_seed(1)
    groups = sorted(list(range(colours)) * (6 // colours))
    return kind(groups, groups).double()


def states(layer: LSTMLayer, x: Tensor, direction: int, before: str) -> Tensor:
    """A double loop over pixels: h [B, F, H, W]; `before` says which pixels a state is computed from."""
    pre = layer.input(x).unflatten(1, (len(layer.state), -1))[:, direction]  # [B, 4 F, H, W]
    n, _, height, width = pre.shape
    h = {(i, j): x.new_zeros(n, layer.features) for i in range(-1, height) for j in range(-1, width + 1)}
    c = dict(h)
    columns = list(range(width)) if before != "right" else list(reversed(range(width)))
    for i, j in itertools.product(range(height), columns):
        beside = {"left": (i, j - 1), "right": (i, j + 1), "above": (i - 1, j)}[before]
        taps = [(i - 1, j - 1), (i - 1, j), (i - 1, j + 1)] if before == "above" else [(i - 1, j), beside]
        a = pre[:, :, i, j] + sum(h[at] @ layer.state[direction, k] for k, at in enumerate(taps))
        h[i, j], c[i, j] = cell(a, c[beside])
    return torch.stack([torch.stack([h[i, j] for j in range(width)], -1) for i in range(height)], -2)


@every_size
def test_the_row_lstm_is_a_loop_over_pixels(size: tuple[int, int]) -> None:
    layer, x = layer_of(RowLSTM), torch.randn(2, 6, *size, dtype=torch.float64)
    torch.testing.assert_close(layer(x), states(layer, x, 0, "above"))


@every_size
def test_the_diagonal_bilstm_is_two_loops_over_pixels(size: tuple[int, int]) -> None:
    layer, x = layer_of(DiagonalBiLSTM), torch.randn(2, 6, *size, dtype=torch.float64)
    from_right = states(layer, x, 1, "right")
    moved_down = torch.cat([torch.zeros_like(from_right[:, :, :1]), from_right[:, :, :-1]], 2)
    torch.testing.assert_close(layer(x), states(layer, x, 0, "left") + moved_down)


def test_a_column_of_pixels_is_torchs_own_lstm() -> None:
    torch.manual_seed(0)
    pre = torch.randn(3, 4 * 5, 7, 1, dtype=torch.float64)  # [B, 4 F, H, W]
    weight = torch.zeros(1, 3, 5, 20, dtype=torch.float64)
    weight[0, 1] = torch.randn(5, 20)  # no pixel lies to either side
    oracle = nn.LSTM(20, 5, bias=False).double()
    order = torch.cat(
        [torch.arange(5) + 5 * k for k in (0, 1, 3, 2)]
    )  # torch: input, forget, written, output
    with torch.no_grad():
        oracle.weight_ih_l0.copy_(torch.eye(20)[order])
        oracle.weight_hh_l0.copy_(weight[0, 1].t()[order])
        theirs, _ = oracle(pre[..., 0].permute(2, 0, 1))
    (ours,) = scan(pre, weight, [rows(7, 1)], places=1)
    torch.testing.assert_close(ours[..., 0].permute(2, 0, 1), theirs)


@pytest.mark.parametrize("ways", ["rows", "from the left", "from the right", "both sides"])
@pytest.mark.parametrize("size", [(3, 4), (4, 2)])
def test_gradients_of_the_scan_are_autograds(size: tuple[int, int], ways: str) -> None:
    torch.manual_seed(0)
    both = [diagonals(*size, from_right) for from_right in (False, True)]
    of = {"rows": [rows(*size)], "from the left": both[:1], "from the right": both[1:], "both sides": both}
    lines = of[ways]
    taps, places = (3, size[1]) if ways == "rows" else (2, size[0])
    pre = torch.randn(2, len(lines) * GATES * 2, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(len(lines), taps, 2, GATES * 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *args: scan(*args, lines, places), (pre, weight))


@every_size
def test_lines_go_over_every_pixel_once_and_in_time(size: tuple[int, int]) -> None:
    height, width = size
    number = torch.arange(height * width, dtype=torch.float64).view(1, -1, 1)
    for from_right in (False, True):
        when = torch.full((height, width), -1)
        for t, line in enumerate(diagonals(height, width, from_right)):
            for place, pixel in enumerate(line.of(number).flatten().long().tolist(), line.first):
                row, column = divmod(pixel, width)
                assert when[row, column] == -1
                assert place == row
                when[row, column] = t
        across = torch.arange(width).flip(0) if from_right else torch.arange(width)
        assert torch.equal(when, torch.arange(height)[:, None] + across)
    seen = torch.cat([line.of(number).flatten() for line in rows(height, width)])
    assert torch.equal(seen, number.flatten())


@pytest.mark.parametrize("shape", [(1, 4, 5), (3, 3, 2)])
@pytest.mark.parametrize("kind", [RowPixelRNN, DiagonalPixelRNN])
def test_the_field_is_all_of_the_papers_and_no_more(
    kind: type[PixelRNN], shape: tuple[int, int, int]
) -> None:
    """Gradients: every earlier value with the diagonal LSTM but the end of the row above; a triangle else."""
    model = small(kind, shape)
    for module in model.modules():  # smooth, so that no gradient is zero by chance
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Softplus())
    channels, height, width = shape
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    params = model.params(x).unflatten(1, (-1, channels))[0].sum(0)  # [C, H, W]
    order = torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1)
    at_row, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        (gradient,) = torch.autograd.grad(params[c, i, j], x, retain_graph=True)
        expected = order < order[c, i, j]
        if kind is RowPixelRNN:
            # One column to the left by the kernel with mask A and one by the input's, and one more a row.
            up = i - at_row
            expected = expected & (columns >= j - 2 - up) & (columns <= j + up)
        else:
            # The last of the row above is known to features behind it alone, and to kernels that reach it.
            expected = expected & ~((at_row == i - 1) & (columns == width - 1) & (j + 1 < width - 1))
        assert torch.equal(gradient[0] != 0, expected), (c, i, j)


def test_colours_have_the_same_features_in_all_gates() -> None:
    layer = layer_of(DiagonalBiLSTM, colours=3)
    assert layer.input.out_groups == (0, 0, 1, 1, 2, 2) * (2 * GATES)


@pytest.mark.parametrize(
    ("setting", "value"), [("hidden", 2), ("depth", 0), ("first_kernel", 4), ("head_channels", 1)]
)
def test_settings_out_of_range_are_named(setting: str, value: int) -> None:
    fine = {"hidden": 6, "depth": 1, "first_kernel": 3, "head_channels": 6}
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .*found {value}"):
        RowPixelRNN(DataSpec((3, 4, 4), levels=2), **fine | {setting: value})


def test_in_half_precision_the_recurrence_is_float32() -> None:
    model = small(DiagonalPixelRNN, (1, 5, 5)).float()
    x = images(model.spec, 2)
    whole = model.params(model.scaled(x))
    with torch.autocast("cpu", torch.bfloat16):
        half = model.params(model.scaled(x))
    torch.testing.assert_close(half.float(), whole, atol=0.1, rtol=0.1)

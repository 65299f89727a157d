"""What holds for every autoregressive model; a new one joins with a line in `MODELS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from enumerating import all_images, images
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gentrain.contracts import Batch, Conditional, DataSpec, chunks
from gentrain.distributions import Pixels
from gentrain.layers.condition import ConditionVector
from gentrain.layers.masked_conv import MaskedConv2d
from gentrain.layers.raster import Canvas, Incremental
from gentrain.models.autoregressive.autoregressive import Autoregressive
from gentrain.models.autoregressive.fvbn import FVBN
from gentrain.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from gentrain.models.autoregressive.made import MADE
from gentrain.models.autoregressive.nade import NADE
from gentrain.models.autoregressive.pixelcnn import PixelCNN
from gentrain.models.autoregressive.pixelcnnpp import PixelCNNpp
from gentrain.models.autoregressive.pixelrnn import DiagonalPixelRNN, PixelRNN, RowPixelRNN
from gentrain.models.autoregressive.vector import OverVectors
from gentrain.models.autoregressive.wavenet import WaveNet


class Backwards(Autoregressive):
    """A triangular matrix for each parameter over pixel values in an order of its own, last pixel first."""

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec, Pixels.of("categorical", spec.levels, 0))
        channels, height, width = spec.shape
        self.order = list(reversed(range(height * width)))
        at = torch.tensor(self.order).argsort().view(1, height, width) * channels
        self.register_buffer(
            "place", (at + torch.arange(channels)[:, None, None]).flatten()
        )  # [D], in drawing
        self.weight = nn.Parameter(torch.randn(self.pixels.parameters, spec.dims, spec.dims))
        self.bias = nn.Parameter(torch.randn(self.pixels.parameters, spec.dims))

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        before = self.place[:, None] > self.place  # [to, from]
        made = torch.einsum("bd,ped->bpe", x.flatten(1), self.weight * before) + self.bias
        return made.view(len(x), -1, *self.spec.shape[1:])


class OfLabels(PixelCNN, Conditional):
    """PixelCNN whose logits are moved by the label; drawn by its `params`, and in steps, row by row."""

    stagger = None

    def __init__(self, spec: DataSpec, **small: int) -> None:
        super().__init__(spec, **small)
        self.vector = ConditionVector(self.condition.size)
        self.linear = nn.Linear(self.condition.size, self.pixels.parameters * spec.shape[0])

    def shift(self, y: Tensor) -> Tensor:
        """[B, P * C], what a label adds to the logits."""
        return self.linear(self.vector(y, self._like.dtype))

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        return super().params(x) + self.shift(y[0])[:, :, None, None]

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        network, shift, channels = super().incremental(canvas), self.shift(y[0]), canvas.channels

        class Steps(Incremental):
            def begin_row(self) -> None:
                network.begin_row()

            def at(self, column: int, group: int, x: Tensor) -> Tensor:
                return network.at(column, group, x) + shift[:, group::channels]

            def observe(self, column: int, group: int, pixel: Tensor) -> None:
                network.observe(column, group, pixel)

        return Steps()


GATED = {"channels": 9, "depth": 3, "first_kernel": 5, "kernel": 3, "head_channels": 9}
LSTM = {"hidden": 6, "depth": 2, "first_kernel": 3, "head_channels": 6}
PLUS = {"channels": 4, "depth": 1, "scales": 3, "mixtures": 2, "dropout": 0.5}
RASTER, RANDOM = ({"order": order, "order_seed": 0} for order in ("raster", "random"))
WAVE = {"channels": 12, "skip": 8, "layers": 5, "stacks": 2, "first_kernel": 3}
SMALL = {"channels": 12, "depth": 2, "first_kernel": 7, "kernel": 3, "head_channels": 12, "skips": False}
MODELS: dict[str, Callable[[DataSpec], Autoregressive]] = {
    "pixelcnn": lambda spec: PixelCNN(spec, **SMALL),
    "pixelcnn, skips": lambda spec: PixelCNN(spec, **SMALL | {"skips": True}),
    "backwards": Backwards,
    "fvbn": lambda spec: FVBN(spec, **RASTER),
    "fvbn, random": lambda spec: FVBN(spec, **RANDOM),
    "nade": lambda spec: NADE(spec, hidden=20, activation="relu", **RASTER),
    "nade, sigmoid": lambda spec: NADE(spec, hidden=20, activation="sigmoid", **RANDOM),
    "made": lambda spec: MADE(spec, hidden=[20, 30], activation="tanh", masks=1, **RANDOM),
    "made, masks": lambda spec: MADE(spec, hidden=[30], activation="relu", masks=3, **RASTER),
    "gated_pixelcnn": lambda spec: GatedPixelCNN(spec, **GATED, label_by="none"),
    "gated_pixelcnn of labels": lambda spec: GatedPixelCNN(spec, **GATED, label_by="bias"),
    "row_lstm": lambda spec: RowPixelRNN(spec, **LSTM),
    "diagonal_bilstm": lambda spec: DiagonalPixelRNN(spec, **LSTM),
    "pixelcnnpp": lambda spec: PixelCNNpp(spec, **PLUS, label_by="none"),
    "pixelcnnpp of labels": lambda spec: PixelCNNpp(spec, **PLUS | {"scales": 2}, label_by="bias"),
    "wavenet": lambda spec: WaveNet(spec, **WAVE, label_by="none"),
    "wavenet of labels": lambda spec: WaveNet(spec, **WAVE | {"first_kernel": 1}, label_by="bias"),
    "of labels": lambda spec: OfLabels(spec, **SMALL),
}
every_model = pytest.mark.parametrize("name", MODELS)
#: Small enough that all images can be listed.
LISTED = [
    DataSpec((1, 3, 3), levels=2, classes=3),
    DataSpec((3, 1, 2), levels=2, classes=3),
    DataSpec((1, 2, 2), levels=4, classes=3),
    DataSpec((3, 2, 1), levels=3, classes=3),
    DataSpec((1, 1, 5), levels=3, classes=3),  # a sound
]
every_spec = pytest.mark.parametrize("spec", LISTED, ids=lambda s: f"{s.shape}-{s.levels}")
DIGITS = DataSpec((1, 8, 8), levels=17, classes=10)


def made(name: str, spec: DataSpec, seed: int = 0) -> Autoregressive:
    """In float64, with pixels that depend on those before them, and noise where masks hide it."""
    torch.manual_seed(seed)
    model = MODELS[name](spec).double()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, MaskedConv2d):
                layer.weight.add_(torch.randn_like(layer.weight) * ~layer.mask)
                layer.bias.add_(0.2 * torch.randn_like(layer.bias))
            if isinstance(layer, nn.Sequential) and isinstance(layer[-1], MaskedConv2d) and len(layer) > 6:
                layer[-1].weight.mul_(30)
        if not isinstance(model, PixelCNN | Backwards):
            gain, noise = (
                (3, 1)
                if isinstance(model, OverVectors)
                else (1.5, 0.5)
                if isinstance(model, PixelCNNpp)
                else (1.2, 0.2)
            )
            for p in model.parameters():
                p.mul_(gain).add_(noise * torch.randn_like(p))
            if isinstance(model, PixelCNNpp):
                model.head.g.mul_(2)
            if isinstance(model, PixelRNN):
                model.network[-1].bias.zero_()
    return model.eval()


def given_label(model: Autoregressive, n: int, label: int = 1) -> dict[str, Tensor]:
    """The condition of `n` images, for a model that takes one."""
    return {"condition": torch.full((n,), label)} if model.condition is not None else {}


def number_of(x: Tensor, levels: int) -> Tensor:
    """Which of `all_images` each image is."""
    return (x.flatten(1).long() * levels ** torch.arange(x[0].numel()).flip(0)).sum(1)


def order_of(model: Autoregressive) -> Tensor:
    """[C, H, W], when each pixel value is drawn."""
    channels, height, width = model.spec.shape
    places = torch.tensor(model.order or list(range(height * width))).argsort().view(1, height, width)
    return places * channels + torch.arange(channels)[:, None, None]


def near(seen: Tensor, p: Tensor, n: int) -> bool:
    """Whether frequencies over `n` draws may come from p: E |seen_i - p_i| <= sqrt(p_i (1 - p_i) / n), and
    McDiarmid bounds the rest, P(beyond) < exp(-2 n t^2)."""
    expected = (p * (1 - p) / n).sqrt().sum() / 2
    return bool((seen - p).abs().sum() / 2 < expected + math.sqrt(math.log(1e6) / (2 * n)))


@every_model
@every_spec
def test_probabilities_sum_to_one_and_samples_follow_them(name: str, spec: DataSpec) -> None:
    model, every = made(name, spec), all_images(spec)
    log_p, kind = model.log_likelihood(every, **given_label(model, len(every)))
    assert kind.startswith("exact")
    p = log_p.exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-8)
    uniform = torch.full_like(p, 1 / len(p))
    assert (uniform - p).abs().sum() / 2 > 0.1
    n = 10_000
    drawn = model.sample(n, **given_label(model, n))
    assert near(torch.bincount(number_of(drawn, spec.levels), minlength=len(p)) / n, p, n)


@every_model
@every_spec
def test_completions_of_what_comes_first_follow_the_conditional(name: str, spec: DataSpec) -> None:
    model, every = made(name, spec, seed=2), all_images(spec)
    p = model.log_likelihood(every, **given_label(model, len(every)))[0].exp()
    known = order_of(model) < spec.dims // 2
    assert model.note(known[None]) is None
    original = images(spec, 1, seed=3)
    p = torch.where(((every == original) | ~known).flatten(1).all(1), p, 0.0)
    p = p / p.sum()
    n = 5_000
    shape = (n, *spec.shape)
    completed = model.complete(original.expand(shape), known.expand(shape), **given_label(model, n))
    assert near(torch.bincount(number_of(completed, spec.levels), minlength=len(p)) / n, p, n)
    last = order_of(model)[None] == spec.dims - 1
    assert "cannot inform it" in str(model.note(last))


@every_model
@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 2, 3)])
def test_causality_by_gradient(name: str, shape: tuple[int, int, int]) -> None:
    """Parameters of a value depend on values before it alone, and some of them on each that is near."""
    spec = DataSpec(shape, levels=5, classes=3)
    model = made(name, spec)
    y = tuple(given_label(model, 1).values())
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    params = model.params(x, *y).unflatten(1, (-1, shape[0]))[0]  # [P, C, H, W]
    order = order_of(model)
    depends = 0
    for value in range(spec.dims):
        mine = params[:, order == value].sum()
        (gradient,) = torch.autograd.grad(mine, x, retain_graph=True)
        assert not gradient[0][order >= value].any()
        depends += int(gradient.any())
    assert depends > spec.dims / 2


@every_model
@pytest.mark.parametrize("shape", [(1, 7, 6), (3, 4, 5), (1, 1, 9)])
@pytest.mark.parametrize("levels", [2, 17])
def test_cached_and_naive_draw_the_same_images(name: str, shape: tuple[int, int, int], levels: int) -> None:
    model = made(name, DataSpec(shape, levels=levels, classes=3))
    noise = torch.rand(3, *shape, dtype=torch.float64)
    for temperature in (1.0, 0.7):
        more = given_label(model, 3)
        fast = model.sample_from(noise, temperature, **more)
        assert torch.equal(fast, model.sample_from(noise, temperature, naive=True, **more))
        assert len(fast.unique()) > 1
    with pytest.raises(ValueError, match=r"noise must be \[n, "):
        model.sample_from(noise[0])


@pytest.mark.slow
@every_model
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_any_mask_keeps_what_is_known_and_nothing_else_counts(name: str, seed: int, share: float) -> None:
    spec = DataSpec((3, 3, 4), levels=9, classes=3)
    model = made(name, spec, seed)
    x, known = images(spec, 4, seed), torch.rand(4, *spec.shape) < share
    more = given_label(model, 4)
    model.complete(x, known, **more)  # measured
    torch.manual_seed(seed)
    completed = model.complete(x, known, **more)
    assert torch.equal(completed[known], x[known])
    torch.manual_seed(seed)
    assert torch.equal(model.complete(torch.where(known, x, 8 - x), known, **more), completed)
    assert torch.equal(model.complete(x, torch.ones_like(known), **more), x)


@every_model
@pytest.mark.parametrize("kib", [1, 60])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, name: str, kib: int) -> None:
    model = made(name, DIGITS)
    x, more = images(DIGITS, 7), given_label(model, 7)

    def outputs() -> list[Tensor]:
        torch.manual_seed(4)
        return [model.log_likelihood(x, **more)[0], model.sample(7, **more)]

    whole = outputs()
    assert not torch.equal(whole[1], model.sample(7, **more))
    monkeypatch.setattr(chunks, "CHUNK_BYTES", kib * 1024)
    sizes: list[int] = []
    drawn = model._sample
    monkeypatch.setattr(model, "_sample", lambda n, *rest: sizes.append(n) or drawn(n, *rest))
    parts = outputs()
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    assert max(sizes) < 7


@every_model
def test_the_loss_is_the_mean_of_minus_log_likelihood(name: str) -> None:
    for spec in (DIGITS, DataSpec((3, 5, 4), levels=2, classes=10)):
        model, x = made(name, spec), images(spec, 5)
        label = torch.arange(5)
        loss, terms = model.loss(Batch(x, label), 0)
        log_p, _ = model.log_likelihood(x, condition=model.condition_in(Batch(x, label)))
        torch.testing.assert_close(loss.detach(), -log_p.mean())
        torch.testing.assert_close(terms, {"bits_per_dim": -log_p.mean() / (spec.dims * math.log(2))})
        loss.backward()  # type: ignore[no-untyped-call]
        for key, p in model.named_parameters():
            assert p.grad is not None, key
            assert p.grad.abs().sum() > 0, key
        twin = copy.deepcopy(model)
        assert torch.equal(twin.loss(Batch(x, label), 0)[0], loss)


@every_model
def test_a_low_temperature_draws_what_is_typical(name: str) -> None:
    spec = LISTED[2]
    model = made(name, spec)
    n = 2000
    hot, cold = (model.sample(n, temperature, **given_label(model, n)) for temperature in (1.0, 0.05))
    assert len(number_of(cold, spec.levels).unique()) < len(number_of(hot, spec.levels).unique()) / 2


@every_model
def test_under_autocast_the_loss_is_float32(name: str) -> None:
    model = made(name, DIGITS).float()
    batch = Batch(images(DIGITS, 16), torch.arange(16) % 10)
    whole, _ = model.loss(batch, 0)
    with torch.autocast("cpu", torch.bfloat16):
        half, terms = model.loss(batch, 0)
    assert half.dtype == terms["bits_per_dim"].dtype == torch.float32
    assert half.item() == pytest.approx(whole.item(), rel=0.02)


def test_what_a_condition_says_is_used() -> None:
    model = made("of labels", LISTED[0])
    every = all_images(LISTED[0])
    one, two = (model.log_likelihood(every, condition=torch.full((len(every),), k))[0] for k in (0, 1))
    assert not torch.allclose(one, two)

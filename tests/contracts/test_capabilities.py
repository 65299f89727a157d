"""What every model is spared: checks, chunks, gradients, modes, and the condition."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gentrain.contracts import (
    Batch,
    Completes,
    Conditional,
    DataSpec,
    HasLikelihood,
    ImagesToLatents,
    Samples,
    Translates,
    chunks,
)

SPEC = DataSpec((1, 2, 3), levels=5, classes=4)


class Plain(Samples, HasLikelihood, ImagesToLatents, Completes):
    """Independent pixels; latents are the pixels. Notes how it was called."""

    latent_dim = 6

    def __init__(self, spec: DataSpec = SPEC) -> None:
        super().__init__(spec)
        self.logits = nn.Parameter(torch.randn(spec.dims, spec.levels))
        self.dropout = nn.Dropout(0.5)
        self.seen: list[tuple[str, int, tuple[Tensor, ...]]] = []

    def note_call(self, name: str, n: int, y: tuple[Tensor, ...]) -> None:
        assert not torch.is_grad_enabled()
        assert not self.dropout.training
        self.seen.append((name, n, y))

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        self.note_call("sample", n, y)
        drawn = torch.distributions.Categorical(logits=self.logits / temperature).sample((n,))
        return drawn.to(torch.uint8).view(n, *self.spec.shape)

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        self.note_call("log_likelihood", len(x), y)
        return torch.distributions.Categorical(logits=self.logits).log_prob(x.flatten(1)).sum(1)

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        self.note_call("images_to_latents", len(x), y)
        return x.flatten(1).to(self.logits.dtype)

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        self.note_call("latents_to_images", len(z), y)
        assert z.dtype == self.logits.dtype
        return z.round().clamp(0, self.spec.levels - 1).to(torch.uint8).view(-1, *self.spec.shape)

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        self.note_call("complete", len(x), y)
        return torch.where(known, x, 0).to(torch.uint8)


class Given(Plain, Conditional):
    """The same, of a label or of attributes."""


class Captioned(Plain, Conditional):
    """The same, of a caption."""

    takes = ("caption",)


def some(n: int, spec: DataSpec = SPEC) -> Tensor:
    return torch.randint(0, spec.levels, (n, *spec.shape), dtype=torch.uint8)


def every_call(model: Plain, n: int, condition: Tensor | None) -> dict[str, Tensor]:
    """Each capability asked for `n` images."""
    x = some(n)
    known = torch.zeros(x.shape, dtype=torch.bool)
    return {
        "sample": model.sample(n, condition=condition),
        "log_likelihood": model.log_likelihood(x, condition=condition)[0],
        "images_to_latents": model.images_to_latents(x, condition=condition),
        "latents_to_images": model.latents_to_images(torch.randn(n, 6), condition=condition),
        "complete": model.complete(x, known, condition=condition),
    }


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_as_many_come_back_as_were_asked_for(n: int) -> None:
    model = Plain().train()
    for name, found in every_call(model, n, None).items():
        assert len(found) == n, name
        assert not found.requires_grad, name
    assert model.training
    assert model.dropout.training


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 40), kib=st.integers(1, 8))
def test_chunks_make_no_difference_and_fit(n: int, kib: int) -> None:
    model = Plain()
    x = some(n)
    with pytest.MonkeyPatch.context() as patch:
        whole = model.log_likelihood(x)[0], model.images_to_latents(x)
        patch.setattr(chunks, "CHUNK_BYTES", 1024 * kib)
        model.seen.clear()
        parts = model.log_likelihood(x)[0], model.images_to_latents(x)
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    taken = [count for name, count, _ in model.seen if name == "log_likelihood"]
    measured = [1, 2] if n > 1 else []
    assert taken[: len(measured)] == measured, "one and two are measured, once"
    assert sum(taken[len(measured) :]) == n


def test_what_is_measured_is_what_is_taken() -> None:
    """Tensors of a chunk take at most what they may; a chunk twice as large would not."""
    linear = nn.Linear(100, 1000)

    def run(count: int) -> Tensor:
        return linear(torch.zeros(count, 100)).relu().sum(1)

    at_once = chunks.at_once(run, torch.device("cpu"))
    peaks = []
    for count in (at_once, 2 * at_once):
        with chunks.PeakBytes() as seen, torch.no_grad():
            run(count)
        peaks.append(chunks.UNSEEN * seen.peak)
        del seen
    assert peaks[0] <= chunks.CHUNK_BYTES < peaks[1]


def test_measuring_leaves_the_random_state() -> None:
    torch.manual_seed(0)
    first = Plain().sample(5)
    model = Plain()
    torch.manual_seed(0)
    model.logits = Plain().logits
    assert model.sample(5).shape == first.shape
    torch.manual_seed(1)
    a = model.sample(9)  # measured before
    torch.manual_seed(1)
    fresh = copy.deepcopy(model)
    fresh._at_once.clear()
    assert torch.equal(a, fresh.sample(9))


def test_peak_bytes_follow_what_lives() -> None:
    with chunks.PeakBytes() as seen:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b * 2
        view = c.view(10, 100)
        del b
    assert seen.peak == 8000
    assert seen.now == 4000
    del c, view
    assert seen.now == 0


# Refusals


def test_images_latents_and_numbers_are_checked() -> None:
    model = Plain()
    for wrong, why in (
        (some(2).int(), "must be uint8"),
        (some(2)[0], r"must be \[B, 1, 2, 3\]"),
        (some(2) + 5, "must be 0 to 4"),
    ):
        with pytest.raises(ValueError, match=why):
            model.log_likelihood(wrong)
        with pytest.raises(ValueError, match=why):
            model.images_to_latents(wrong)
        with pytest.raises(ValueError, match=why):
            model.reconstructions(Batch(wrong))
    with pytest.raises(ValueError, match=r"latents must be \[B, 6\], found \[2, 5\]"):
        model.latents_to_images(torch.zeros(2, 5))
    for n, temperature, why in (
        (-1, 1.0, "n must be at least 0"),
        (1, 0.0, "above 0"),
        (1, float("nan"), "finite"),
    ):
        with pytest.raises(ValueError, match=why):
            model.sample(n, temperature)
    for samples in (0, -1, 1.5):
        with pytest.raises(ValueError, match="whole number"):
            model.log_likelihood(some(1), samples)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="known must be bool"):
        model.complete(some(1), some(1))
    assert not [call for call in model.seen if call[0] != "log_likelihood"], "nothing was computed"


def test_a_model_of_p_of_x_refuses_a_condition() -> None:
    model = Plain()
    label = torch.zeros(2, dtype=torch.int64)
    for call in (
        lambda: model.sample(2, condition=label),
        lambda: model.log_likelihood(some(2), condition=label),
        lambda: model.images_to_latents(some(2), condition=label),
        lambda: model.latents_to_images(torch.zeros(2, 6), condition=label),
        lambda: model.prior_draws(2, condition=label),
        lambda: model.complete(some(2), some(2).bool(), condition=label),
    ):
        with pytest.raises(ValueError, match=r"condition: Plain takes none, it is a model of p\(x\)"):
            call()


def test_a_label_in_the_place_of_the_temperature_is_told() -> None:
    with pytest.raises(ValueError, match="condition="):
        Given().sample(2, torch.zeros(2, dtype=torch.int64))  # type: ignore[arg-type]


def test_what_is_declared_and_not_written_is_told() -> None:
    class Lazy(Samples):
        def __init__(self) -> None:
            super().__init__(SPEC)
            self.p = nn.Parameter(torch.zeros(1))

    with pytest.raises(TypeError, match=r"Lazy declares Samples but does not define _sample\(\)"):
        Lazy().sample(1)


# Conditions


@pytest.mark.parametrize(
    ("model", "condition", "wrong"),
    [
        (Given(), torch.tensor([0, 3, 2]), torch.tensor([0, 3, 4])),
        (
            Given(DataSpec((1, 2, 3), levels=5, attributes=("a", "b"))),
            torch.tensor([[True, False], [True, True], [False, False]]),
            torch.tensor([[1, 0], [1, 1], [0, 0]]),
        ),
        (
            Captioned(DataSpec((1, 2, 3), levels=5, classes=4, vocabulary=("a", "cat"), caption_length=3)),
            torch.tensor([[1, 2, 0], [2, 0, 0], [0, 0, 0]]),
            torch.tensor([[1, 3, 0], [2, 0, 0], [0, 0, 0]]),
        ),
    ],
    ids=["label", "attributes", "caption"],
)
def test_one_condition(model: Given, condition: Tensor, wrong: Tensor) -> None:
    name = model.condition.name
    for call, found in every_call(model, 3, condition).items():
        assert len(found) == 3, call
    assert all(torch.equal(y[0], condition[:n]) or n < 3 for _, n, y in model.seen)
    for found in every_call(model, 3, condition[0]).values():  # one for all
        assert len(found) == 3
    kind = model.log_likelihood(some(3), condition=condition)[1]
    assert kind == f"exact given {model.condition.plural}"
    for bad in (wrong, condition[:2], condition.double()):
        with pytest.raises(ValueError, match=f"{name} must be"):
            model.sample(3, condition=bad)
    with pytest.raises(ValueError, match=f"needs the {name} of every image"):
        model.log_likelihood(some(3))
    with pytest.raises(ValueError, match=f"needs the {name} of every image"):
        model.given(Batch(some(3)))
    batch = Batch(some(3))._replace(**{name: condition})
    assert torch.equal(model.given(batch)[0], condition)
    model.seen.clear()
    rows = model.reconstructions(batch)
    assert rows["image"] is batch.x
    assert torch.equal(rows["reconstruction"], batch.x)
    in_turn = model.condition.in_turn(7, torch.device("cpu"))
    model.condition.check(in_turn, 7)
    assert len(in_turn.unique(dim=0)) == min(7, model.condition.size)
    model.seen.clear()
    model.sample(7)
    assert torch.equal(model.seen[-1][2][0], in_turn)


def test_data_without_a_condition_are_refused() -> None:
    for cls, why in ((Given, "neither labels nor attributes"), (Captioned, "no captions")):
        with pytest.raises(ValueError, match=why):
            cls(DataSpec((1, 2, 3), levels=5))


def test_the_older_name() -> None:
    model = Given()
    label = torch.tensor([1, 2])
    with pytest.warns(DeprecationWarning, match="label= is now condition="):
        assert model.sample(2, label=label).shape == (2, 1, 2, 3)
    with pytest.raises(ValueError, match="one thing"):
        model.sample(2, condition=label, label=label)


# The rest


def test_reconstructions_in_chunks_keep_the_images_row(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Given()
    batch = Batch(some(9), label=torch.arange(9) % 4)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 500)
    rows = model.reconstructions(batch)
    assert rows["image"] is batch.x
    assert torch.equal(rows["reconstruction"], batch.x)
    assert max(n for _, n, _ in model.seen[4:]) < 9


def test_translation() -> None:
    class Negative(Translates):
        def __init__(self, spec: DataSpec) -> None:
            super().__init__(spec)
            self.p = nn.Parameter(torch.zeros(1))

        def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
            return (self.spec.levels - 1 - source[:, :, :2]).to(torch.uint8)

    model = Negative(DataSpec((1, 2, 3), levels=5, source_shape=(1, 4, 3), paired=True))
    source = torch.randint(0, 5, (6, 1, 4, 3), dtype=torch.uint8)
    assert torch.equal(model.translate(source), 4 - source[:, :, :2])
    assert model.translate(source[:0]).shape == (0, 1, 2, 3)
    with pytest.raises(ValueError, match=r"\[B, 1, 4, 3\]"):
        model.translate(source[:, :, :2])


def test_merit() -> None:
    assert Plain().merit == "likelihood"

    class Lossy(Samples):
        pass

    assert Lossy(SPEC).merit == "loss"


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocabulary": ("a",)},
        {"caption_length": 2},
        {"paired": True},
        {"source_shape": (1, 2, 2)},
        {"sample_rate": 0},
        {"levels": 1},
        {"label_names": ("a",), "classes": 2},
    ],
)
def test_what_a_spec_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"found|label_names for 2 classes"):
        DataSpec((1, 2, 3), **wrong)  # type: ignore[arg-type]


def test_a_spec_of_before_reads() -> None:
    old = {
        "shape": [1, 2, 3],
        "levels": 5,
        "classes": 4,
        "label_names": None,
        "attributes": None,
        "source_shape": None,
    }
    assert DataSpec.from_dict(old) == SPEC
    full = DataSpec((1, 2, 3), vocabulary=("a",), caption_length=2, source_shape=(1, 1, 1), paired=False)
    assert DataSpec.from_dict(full.to_dict()) == full


def test_the_prior_of_each_kind() -> None:
    torch.manual_seed(0)
    model = Plain()
    gaussian = model.prior_draws(20_000)
    assert torch.allclose(gaussian.mean(0), torch.zeros(6), atol=0.03)
    assert torch.allclose(gaussian.std(0), torch.ones(6), atol=0.03)
    model.latent_prior = "uniform"
    uniform = model.prior_draws(20_000)
    assert float(uniform.min()) == pytest.approx(-1, abs=0.01)
    assert float(uniform.max()) == pytest.approx(1, abs=0.01)
    assert torch.allclose(uniform.var(0), torch.full((6,), 1 / 3), atol=0.02)
    model.latent_prior = "none"
    with pytest.raises(ValueError, match="no prior"):
        model.prior_draws(1)

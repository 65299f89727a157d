"""WaveNet beyond what holds for every autoregressive model: its field of view, contexts, lengths."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec
from gentrain.metrics.likelihood import evaluate_likelihood
from gentrain.models.autoregressive.fvbn import FVBN
from gentrain.models.autoregressive.wavenet import WaveNet

SMALL = {"channels": 6, "skip": 8, "layers": 4, "stacks": 2, "first_kernel": 3, "label_by": "none"}
FIELD = 3 + 2 * 15


def sound(length: int, context: int | None = 0, levels: int = 16) -> DataSpec:
    return DataSpec((1, 1, length), levels, classes=3, sample_rate=8000, context=context)


def made(spec: DataSpec, seed: int = 0, **more: object) -> WaveNet:
    torch.manual_seed(seed)
    model = WaveNet(spec, **SMALL | more).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.5)
    return model


@pytest.mark.parametrize(("layers", "stacks", "first_kernel"), [(4, 2, 3), (1, 1, 1), (3, 3, 2)])
def test_a_sample_sees_its_whole_field_and_nothing_else(layers: int, stacks: int, first_kernel: int) -> None:
    length = 70
    model = made(sound(length), layers=layers, stacks=stacks, first_kernel=first_kernel)
    assert model.field == first_kernel + stacks * (2**layers - 1)
    x = torch.randn(1, 1, 1, length, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.params(x)[..., -1].square().sum(), x)
    seen = gradient[0, 0, 0] != 0
    expected = torch.zeros(length, dtype=torch.bool)
    expected[-1 - model.field : -1] = True
    assert torch.equal(seen, expected)


def test_cached_and_naive_draw_the_same_over_two_fields() -> None:
    model = made(sound(10))
    noise = torch.rand(3, 1, 1, 2 * FIELD + 7, dtype=torch.float64)
    fast = model._drawn(noise, 1.0)
    assert torch.equal(fast, model._drawn(noise, 1.0, naive=True))
    assert len(fast.unique()) > 4


def test_a_length_is_drawn_and_a_sound_is_gone_on_with() -> None:
    model = made(sound(40, context=FIELD))
    assert model.sample(3).shape == (3, 1, 1, 40)
    drawn = model.sample(3, length=90)
    assert drawn.shape == (3, 1, 1, 90)
    assert (drawn[..., :FIELD] == 8).all(), "it begins after silence"
    assert model.sample(0, length=90).shape == (0, 1, 1, 90)
    known = torch.ones_like(drawn, dtype=torch.bool)
    on = model.complete(drawn, known, length=120)
    assert on.shape == (3, 1, 1, 120)
    assert torch.equal(on[..., :90], drawn)
    assert len(on[..., 90:].unique()) > 2
    for call in (lambda: model.sample(1, length=0), lambda: model.complete(drawn, known, length=80)):
        with pytest.raises(ValueError, match="length must be at least"):
            call()
    fixed = FVBN(sound(40), order="raster", order_seed=0)
    with pytest.raises(ValueError, match="length: FVBN draws 40 columns, no other number"):
        fixed.sample(1, length=41)


def test_the_likelihood_is_of_what_follows_the_context() -> None:
    """Given the context it sums to one, and whatever crop a sample lies in, its bits are the same."""
    spec = sound(FIELD + 2, context=FIELD, levels=4)
    model = made(spec)
    before = torch.randint(0, 4, (FIELD,), dtype=torch.uint8)
    every = torch.cartesian_prod(torch.arange(4), torch.arange(4)).to(torch.uint8)
    x = torch.cat([before.expand(16, -1), every], 1)[:, None, None]
    log_p, kind = model.log_likelihood(x)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)
    assert kind == f"exact after {FIELD} samples"

    long = torch.randint(0, 4, (1, 1, 1, 3 * FIELD), dtype=torch.uint8)

    def bits(length: int, context: int) -> Tensor:
        """Of samples 60 to 79, in crops of `length` after `context`."""
        other = made(sound(context + length, context, levels=4))
        crops = [long[..., i - context : i + length] for i in range(60, 80, length)]
        return torch.cat([other.log_likelihood(crop)[0] for crop in crops]).sum()

    torch.testing.assert_close(bits(20, FIELD), bits(5, FIELD))
    torch.testing.assert_close(bits(20, FIELD), bits(10, FIELD + 9))
    found = evaluate_likelihood(model, [Batch(x)], spec, samples=None)
    assert found.bits_per_dim == pytest.approx(-log_p.mean().item() / (2 * math.log(2)))
    loss, terms = model.loss(Batch(x), 0)
    torch.testing.assert_close(loss, -log_p.mean())
    torch.testing.assert_close(terms["bits_per_dim"].item(), found.bits_per_dim)


def test_a_context_below_the_field_of_view_is_refused() -> None:
    with pytest.raises(
        ValueError, match=rf"dataset\.context={FIELD - 1} gives fewer; set dataset\.context={FIELD}"
    ):
        made(sound(99, context=FIELD - 1))


def test_the_networks_of_the_paper_and_of_the_default_are_built() -> None:
    """A field of 300 ms at 16 kHz and more ([1] section 3.1), two steps of training."""
    model = WaveNet(
        DataSpec((1, 1, 400), sample_rate=16000), channels=32, skip=64, layers=10, stacks=5, first_kernel=2,
        label_by="none",
    )  # fmt: skip
    assert model.field > 0.3 * 16000
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batch = Batch(torch.randint(0, 256, (1, 1, 1, 400), dtype=torch.uint8))
    losses = []
    for _ in range(3):
        loss, terms = model.loss(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(terms["bits_per_dim"]))
    assert losses[0] == pytest.approx(8, abs=0.3)
    assert losses[2] < losses[0]

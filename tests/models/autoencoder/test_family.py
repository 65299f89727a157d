"""What holds for every latent variable model; a new one joins with a line in `MODELS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import pytest
import torch
from enumerating import all_images, images, vivid
from latent_variables import CONV, DIGITS, MLP, TINY, given, integrated_log_p
from surviving import survives
from torch import Tensor
from torch.distributions import Independent, Normal

from gentrain.contracts import Batch, Conditional, DataSpec, EncodesDecodes, ImagesToLatents, chunks
from gentrain.models.autoencoder.beta_vae import BetaVAE
from gentrain.models.autoencoder.cvae import CVAE
from gentrain.models.autoencoder.iwae import IWAE
from gentrain.models.autoencoder.latent_variable import LatentVariableModel
from gentrain.models.autoencoder.vae import VAE


@dataclass
class Member:
    """A model, its settings, those that leave it one latent per layer, what its data give besides images."""

    cls: type[LatentVariableModel]
    settings: Mapping[str, Any]
    small: Mapping[str, Any] = field(default_factory=lambda: {"latent_dim": 1})
    gives: Mapping[str, Any] = field(default_factory=dict)
    smallest: tuple[int, int, int] = TINY.shape

    def build(self, spec: DataSpec = DIGITS, **settings: Any) -> Any:
        """With float32 weights of its start."""
        return self.cls(replace(spec, **self.gives), **{**self.settings, **settings})

    def tiny(self, **settings: Any) -> Any:
        """Of binary images, with weights that make all factors depend on their conditions, in float64."""
        torch.manual_seed(0)
        spec = DataSpec(self.smallest, levels=2)
        model = vivid(self.build(spec, **self.small, **settings), gain=1.7)
        with torch.no_grad():  # broad factors over z, under which importance sampling converges
            for name, p in model.named_parameters():
                p.mul_(1.0 if name.startswith("decoder") else 0.4)
        return model


LAYERS: dict[str, Any] = {key: MLP[key] for key in ("activation", "likelihood", "mixtures", "sample_pixels")}
LAYERS |= {"k": 3, "warmup_k": 1, "warmup_steps": 0, "one_backward": False}
CAPTIONS = {"vocabulary": ("a", "red", "cat"), "caption_length": 2}
MODELS = {
    "vae_mlp": Member(VAE, MLP),
    "vae_conv": Member(VAE, CONV, smallest=(1, 8, 8)),
    "beta_vae": Member(BetaVAE, {**MLP, "beta": 4.0, "free_bits": 0.1}),
    "iwae_1": Member(IWAE, {**LAYERS, "latents": [3], "hidden": [[8]]}, {"latents": [1]}),
    "iwae_2": Member(IWAE, {**LAYERS, "latents": [3, 2], "hidden": [[8], [6]]}, {"latents": [1, 1]}),
    "cvae_label": Member(CVAE, MLP, gives={"classes": 3}),
    "cvae_attributes": Member(CVAE, MLP, gives={"attributes": ("Male", "Eyeglasses")}),
    "cvae_caption": Member(CVAE, MLP, gives=CAPTIONS),
    "cvae_conv": Member(CVAE, CONV, gives={"classes": 3}, smallest=(1, 8, 8)),
}
EACH = pytest.mark.parametrize("member", MODELS.values(), ids=MODELS)


def of(**wanted: Any) -> pytest.MarkDecorator:
    """The members whose class derives from `cls`, or whose `smallest` images are as given."""
    some = {
        name: member
        for name, member in MODELS.items()
        if issubclass(member.cls, wanted.get("cls", object))
        and member.smallest == wanted.get("smallest", member.smallest)
    }
    return pytest.mark.parametrize("member", some.values(), ids=some)


LISTED = of(smallest=TINY.shape)
CONDITIONAL = of(cls=Conditional)


def asked(y: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """`y` as a capability takes it."""
    return {"condition": y[0]} if y else {}


def with_condition(model: Any, x: Tensor, *y: Tensor) -> Batch:
    """A batch with y under its name."""
    return Batch(x)._replace(**{model.condition.name: y[0]}) if y else Batch(x)


def batch_of(model: LatentVariableModel, x: Tensor) -> Batch:
    """`x`, with conditions in turn."""
    return with_condition(model, x, *given(model, len(x)))


# The bounds


@EACH
def test_bounds_rise_with_samples_and_stay_below_the_integral(member: Member) -> None:
    model = member.tiny()
    torch.manual_seed(5)
    x, repeats = model.sample(3), 3000
    y = given(model, 3)
    log_p = torch.cat(
        [integrated_log_p(model, *one) for one in zip(*(part.split(1) for part in (x, *y)), strict=True)]
    )
    many, many_y = x.repeat_interleave(repeats, 0), tuple(part.repeat_interleave(repeats, 0) for part in y)
    means, errors = [], []
    for k in (None, 1, 5, 25):
        bound, kind = model.log_likelihood(many, samples=k, **asked(many_y))
        assert kind.split(" given ")[0] == ("ELBO" if k is None else f"IWAE-{k}")
        assert (" given " in kind) == bool(y)
        means.append(bound.view(3, repeats).mean(1))
        errors.append(bound.view(3, repeats).std(1) / repeats**0.5)
    elbo, one, five, more = means
    # One sample gives the ELBO, whether its KL is in closed form or drawn.
    assert ((elbo - one).abs() < 5 * (errors[0] + errors[1])).all()
    assert (one + 5 * errors[1] < five).all()
    assert (five + 3 * errors[2] < more).all()
    assert (more < log_p + 5 * errors[3]).all()
    tight, _ = model.log_likelihood(x, samples=40_000, **asked(y))
    torch.testing.assert_close(tight, log_p, atol=0.03, rtol=0)


@EACH
def test_the_elbo_is_that_of_its_terms(member: Member) -> None:
    model = member.tiny()
    x, y = images(model.spec, 6), given(model, 6)
    torch.manual_seed(1)
    reconstruction, kl = model.elbo_terms(x, *y)
    torch.manual_seed(1)
    bound, _ = model.log_likelihood(x, **asked(y))
    torch.testing.assert_close(bound, -(reconstruction + kl))
    loss, terms = model.loss(batch_of(model, x), 0)
    assert loss.requires_grad
    assert {"reconstruction", "kl"} <= set(terms)
    assert not any(term.requires_grad for term in terms.values())


@LISTED
def test_probabilities_sum_to_one_and_samples_follow_them(member: Member) -> None:
    model = member.tiny(sample_pixels=True)
    x, n = all_images(model.spec), 20_000
    ys = [(y[None],) for part in given(model, 3) for y in part.unique(dim=0)] or [()]
    tables = []
    for y in ys:
        p = integrated_log_p(model, x, *y).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-8)
        assert p.max() > 2 * p.median(), "not uniform"
        drawn = model.sample(n, **asked(tuple(part[0] for part in y)))
        seen = (drawn[:, None] == x).flatten(2).all(2).double().mean(0)
        assert ((seen - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
        tables.append(p)
    for one, other in combinations(tables, 2):
        assert (one - other).abs().max() > 0.02, "the condition matters"


@EACH
@pytest.mark.parametrize("pairs", [1, 3, 10, 1000])
def test_chunks_are_bounded_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, member: Member, pairs: int
) -> None:
    """Each image meets all its draws, with its own condition, and every weight counts once."""
    model = member.tiny()
    x, y = images(model.spec, 7), given(model, 7)
    log_w = torch.randn(23, 7, dtype=torch.float64)
    used = torch.zeros(7, dtype=torch.int64)  # how many weights of each image are drawn

    def fixed(piece: Tensor, q: Independent, k: int, *part: Tensor) -> Tensor:
        assert k * len(piece) <= pairs
        start = int((used < 23).nonzero()[0])
        at = slice(start, start + len(piece))
        assert torch.equal(piece, x[at])
        assert all(torch.equal(a, b[at]) for a, b in zip(part, y, strict=True))
        torch.testing.assert_close(q.mean, model._posterior(piece, *part).mean)
        rows = log_w[used[start] : used[start] + k, at]
        used[at] += k
        return rows

    monkeypatch.setattr(model, "at_once", lambda *_, **__: pairs)
    with monkeypatch.context() as patch:
        patch.setattr(model, "log_weights", fixed)
        found, _ = model.log_likelihood(x, samples=23, **asked(y))
    assert (used == 23).all()
    torch.testing.assert_close(found, log_w.logsumexp(0) - math.log(23))
    decoded: list[int] = []
    model.decoder.register_forward_hook(lambda _m, _i, out: decoded.append(len(out)))
    for total, work in (
        (7 * 23, lambda: model.log_likelihood(x, samples=23, **asked(y))),
        (7, lambda: model.log_likelihood(x, **asked(y))),
        (40, lambda: model.sample(40)),
        (40, lambda: model.latents_to_images(torch.randn(40, model.latent_dim))),
    ):
        decoded.clear()
        work()
        assert max(decoded) <= pairs
        assert sum(decoded) == total


@EACH
def test_chunks_change_nothing_but_noise(monkeypatch: pytest.MonkeyPatch, member: Member) -> None:
    model = member.tiny()
    x, n = images(model.spec, 2).repeat_interleave(600, 0), 1200
    y = tuple(part.repeat_interleave(600, 0) for part in given(model, 2))
    z = torch.randn(n, model.latent_dim)

    def all_of_them() -> tuple[Tensor, Tensor, Tensor]:
        bound = model.log_likelihood(x, samples=6, **asked(y))[0].view(2, 600)
        return model.images_to_latents(x, **asked(y)), model.latents_to_images(z, **asked(y)), bound

    whole = all_of_them()
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 100_000)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 10_000)
    decoded: list[int] = []
    model.decoder.register_forward_hook(lambda _m, _i, out: decoded.append(len(out)))
    parts = all_of_them()
    assert max(decoded) < n // 2
    torch.testing.assert_close(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    error = ((whole[2].var(1) + parts[2].var(1)) / 600).sqrt()
    assert ((whole[2].mean(1) - parts[2].mean(1)).abs() < 5 * error).all()
    assert ((parts[2].std(1) / whole[2].std(1) - 1).abs() < 0.35).all()


@EACH
def test_chunks_of_importance_samples_stay_in_the_caches_of_a_cpu(
    monkeypatch: pytest.MonkeyPatch, member: Member
) -> None:
    model = member.build()
    x, y = images(model.spec, 3), given(model, 3)
    seen: list[int] = []
    for cache, least, most in ((1, chunks.MIN_AT_ONCE, chunks.MIN_AT_ONCE), (10**9, 100, 1500)):
        monkeypatch.setattr(chunks, "CACHE_BYTES", cache)
        model._at_once.clear()
        model.log_likelihood(x, samples=1, **asked(y))  # measured
        hook = model.decoder.register_forward_hook(lambda _m, _i, out: seen.append(len(out)))
        seen.clear()
        model.log_likelihood(x, samples=500, **asked(y))
        assert least <= max(seen) <= most
        assert sum(seen) == 1500
        hook.remove()


# Encoding, decoding, sampling


@EACH
def test_types_and_shapes_of_what_commands_ask_for(member: Member) -> None:
    torch.manual_seed(0)
    model = member.build(DataSpec((2, 9, 11), levels=7))
    x, y, d = images(model.spec, 4), given(model, 4), model.latent_dim
    assert isinstance(model, ImagesToLatents)
    assert model.latent_prior == "gaussian"
    z = model.images_to_latents(x, **asked(y))
    made = model.latents_to_images(z, **asked(y))
    assert (z.shape, made.shape, made.dtype) == ((4, d), x.shape, torch.uint8)
    assert torch.equal(made, model._likelihood(z, *y).mean.round().to(torch.uint8))
    assert torch.equal(made, model.reconstructions(batch_of(model, x))["reconstruction"])
    drawn = model.sample(5)
    assert (drawn.shape, drawn.dtype) == ((5, 2, 9, 11), torch.uint8)
    assert drawn.max() < 7
    if isinstance(model, EncodesDecodes):
        q, p = model.encode(x, **asked(y)), model.decode(z, **asked(y))
        assert isinstance(q, Independent)
        assert isinstance(q.base_dist, Normal)
        assert (q.batch_shape, q.event_shape) == ((4,), (d,))
        assert (p.batch_shape, p.event_shape) == ((4,), (2, 9, 11))
        assert torch.equal(z, q.mean)
        assert model.double().decode(z, **asked(y)).mean.dtype == torch.float64  # z is widened


@EACH
def test_temperature_scales_the_latents(monkeypatch: pytest.MonkeyPatch, member: Member) -> None:
    torch.manual_seed(0)
    model = member.build()
    seen: list[Tensor] = []
    real = model._images
    monkeypatch.setattr(model, "_images", lambda z, *y, **rest: seen.append(z) or real(z, *y, **rest))
    for temperature in (0.1, 1.0, 2.5):
        seen.clear()
        model.sample(3000, temperature=temperature)
        z = torch.cat([part for part in seen if len(part) > 2])  # one and two are measured
        assert z.std().item() == pytest.approx(temperature, rel=0.05)


@EACH
def test_it_survives(member: Member) -> None:
    torch.manual_seed(0)
    model = member.build()
    survives(member.build, batch_of(model, images(model.spec, 10)))


@EACH
@pytest.mark.parametrize("levels", [2, 17])
def test_under_autocast_all_terms_are_float32(member: Member, levels: int) -> None:
    torch.manual_seed(0)
    model = member.build(DataSpec((1, 8, 8), levels=levels))
    batch = batch_of(model, images(model.spec, 16))
    with torch.autocast("cpu", torch.bfloat16):
        loss, terms = model.loss(batch, 0)
        q = model._posterior(batch.x, *model.given(batch))
    assert {part.dtype for part in (loss, *terms.values(), q.mean, q.stddev)} == {torch.float32}


@EACH
def test_bounds_and_samples_of_a_copy_are_the_same(member: Member) -> None:
    model = member.tiny()
    twin = copy.deepcopy(model)
    x, y = images(model.spec, 3), given(model, 3)

    def shown(one: Any) -> tuple[Tensor, Tensor]:
        torch.manual_seed(2)
        return one.log_likelihood(x, samples=3, **asked(y))[0], one.sample(4)

    before = shown(model)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert before[0].dtype == torch.float64
    for a, b, zero in zip(before, shown(twin), shown(model), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, zero)


# Conditions


@CONDITIONAL
def test_each_capability_uses_the_condition(member: Member) -> None:
    torch.manual_seed(0)
    model = vivid(member.build(DIGITS), gain=1.3)
    x, (y,) = images(model.spec, 6), given(model, 6)
    other = y.roll(1, 0)
    batch = batch_of(model, x)
    other_batch = with_condition(model, x, other)
    z = model.images_to_latents(x, condition=y)
    q, p = model.encode(x, condition=y), model.decode(z, condition=y)
    for same, another in (
        (z, model.images_to_latents(x, condition=other)),
        (q.stddev, model.encode(x, condition=other).stddev),
        (p.mean, model.decode(z, condition=other).mean),
        (model.latents_to_images(z, condition=y), model.latents_to_images(z, condition=other)),
        *((model.reconstructions(b)["reconstruction"] for b in (batch, other_batch)),),
    ):
        assert (same != another).flatten(1).any(1).all()
    torch.manual_seed(1)
    bound = model.log_likelihood(x, condition=y)[0]
    torch.manual_seed(1)
    assert (bound != model.log_likelihood(x, condition=other)[0]).all()
    assert torch.equal(
        model.reconstructions(batch)["reconstruction"], model.latents_to_images(z, condition=y)
    )
    for work in (model.images_to_latents, model.encode, model.log_likelihood):
        with pytest.raises(ValueError, match=f"needs the {model.condition.name} of every image"):
            work(x)


@CONDITIONAL
def test_one_interpolates_between_images_under_a_condition(member: Member) -> None:
    """A line between latents begins and ends with the reconstructions; another condition, other images."""
    torch.manual_seed(0)
    model = vivid(member.build(), gain=1.3)
    x, (y,) = images(model.spec, 2), given(model, 2)
    pair = y[:1].expand(2, *y.shape[1:])
    ends = model.images_to_latents(x, condition=pair)
    line = torch.lerp(ends[:1], ends[1:], torch.linspace(0, 1, 5, dtype=torch.float64)[:, None])
    rows = [model.latents_to_images(line, condition=one) for one in y]
    assert rows[0].shape == (5, *model.spec.shape)
    shown = model.reconstructions(with_condition(model, x, pair))["reconstruction"]
    assert torch.equal(rows[0][[0, -1]], shown)
    assert not torch.equal(rows[0][0], rows[0][2])
    assert (rows[0] != rows[1]).flatten(1).any(1).all()

"""What holds for every flow; a new one joins with a line in `FLOWS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from flows import jacobian_log_det, values, vivid
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Normal

from gentrain.contracts import Batch, DataSpec, chunks
from gentrain.layers.coupling import Additive, ChannelMask, CheckerboardMask, Coupling, TanhScale
from gentrain.layers.dequantiser import Dequantiser
from gentrain.layers.gaussian_prior import StandardPrior
from gentrain.layers.multiscale import MultiScale, Shape
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Logit, Transform
from gentrain.models.flow.flow import Flow
from gentrain.models.flow.glow import Glow
from gentrain.models.flow.nice import NICE
from gentrain.models.flow.realnvp import RealNVP


def net(channels_in: int, channels_out: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels_in, 5, 3, padding=1), nn.Tanh(), nn.Conv2d(5, channels_out, 1))


class Checkered(Flow):
    """Two scales of couplings as RealNVP has them: on positions, then on channels; a prior that is fixed."""

    def __init__(self, spec: DataSpec) -> None:
        def make_scale(index: int, shape: Shape) -> tuple[Transform, Shape]:
            channels, height, width = shape
            positions = [Coupling(channels, net, TanhScale, CheckerboardMask(odd)) for odd in (False, True)]
            if index == 1:
                return Chain(positions), shape
            halves = [Coupling(4 * channels, net, TanhScale, ChannelMask(second)) for second in (False, True)]
            return Chain([*positions, Squeeze(), *halves]), (4 * channels, height // 2, width // 2)

        scales = MultiScale(spec.shape, 2, make_scale, lambda *_: StandardPrior(), lambda _: StandardPrior())
        super().__init__(spec, scales)


class Sums(Flow):
    """Additive couplings on the positions of two colours, as NICE has them; the volume stays."""

    def __init__(self, spec: DataSpec) -> None:
        masks = [CheckerboardMask(odd) for odd in (False, True, False)]
        couplings = [Coupling(spec.shape[0], net, Additive(), mask) for mask in masks]

        def make_scale(index: int, shape: Shape) -> tuple[Transform, Shape]:
            return Chain(couplings), shape

        super().__init__(
            spec, MultiScale(spec.shape, 1, make_scale, lambda *_: StandardPrior(), lambda _: StandardPrior())
        )


def glow(
    coupling: str = "affine", logit: float | None = None, by: str = "none"
) -> Callable[[DataSpec], Flow]:
    small = {"scales": 1, "depth": 2, "hidden": 6, "dropout": 0.0}
    return lambda spec: Glow(
        spec, coupling=coupling, logit=logit, label_by=by, dequantisation="uniform", **small
    )  # type: ignore[arg-type]


def real_nvp(logit: float | None = None, by: str = "none") -> Callable[[DataSpec], Flow]:
    return lambda spec: RealNVP(
        spec, scales=2, hidden=3, blocks=1, logit=logit, label_by=by, dequantisation="uniform"
    )


def nice(logit: float | None = None, by: str = "none") -> Callable[[DataSpec], Flow]:
    return lambda spec: NICE(
        spec, couplings=3, hidden=[9, 7], logit=logit, label_by=by, dequantisation="uniform"
    )


FLOWS: dict[str, Callable[[DataSpec], Flow]] = {
    "glow": glow(),
    "glow, additive": glow("additive"),
    "glow, logit": glow(logit=0.01),
    "glow of labels": glow(by="bias"),
    "realnvp": real_nvp(),
    "realnvp, logit": real_nvp(0.01),
    "realnvp of labels": real_nvp(by="bias"),
    "nice": nice(),
    "nice, logit": nice(0.01),
    "nice of labels": nice(by="bias"),
    "checkered": Checkered,
    "sums": Sums,
}
SPEC = DataSpec((2, 4, 4), levels=5, classes=3)
every_flow = pytest.mark.parametrize("name", FLOWS)


def made(name: str, spec: DataSpec = SPEC, std: float = 0.1) -> Flow:
    """In float64, with all parameters away from where they start."""
    torch.manual_seed(0)
    model = vivid(FLOWS[name](spec), std=std)
    assert isinstance(model, Flow)
    return model


def images(n: int, spec: DataSpec = SPEC, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8)


def labels(model: Flow, n: int) -> Tensor | None:
    """The condition of `n` images, for a model that takes one."""
    return torch.arange(n) % 3 if model.condition is not None else None


def batch_of(x: Tensor) -> Batch:
    return Batch(x, torch.arange(len(x)) % 3)


def has_edges(model: Flow) -> bool:
    """Whether all that it draws lies in [0, 1), or near."""
    return any(isinstance(module, Logit) for module in model.modules())


@every_flow
@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 4, 2), (3, 2, 2)])
def test_the_map_its_inverse_and_its_determinant(name: str, shape: Shape) -> None:
    spec = DataSpec(shape, levels=7, classes=3)
    model = made(name, spec)
    y = torch.rand(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        given = labels(model, 2)
        z, log_det = model.to_latent(y, condition=given)
        assert z.shape == (2, spec.dims) == (2, model.latent_dim)
        assert (model.from_latent(z, condition=given) - y).abs().max() < 1e-9
        noise = (0.1 if has_edges(model) else 1.0) * values(2, spec.dims, seed=1)
        again = model.to_latent(model.from_latent(noise, condition=given), condition=given)[0]
        assert (again - noise).abs().max() < (1e-7 if has_edges(model) else 1e-9)
    first = None if given is None else given[:1]
    log_det = model.to_latent(y, condition=None if given is None else first.expand(2))[1]  # type: ignore[union-attr]
    expected = jacobian_log_det(lambda t: model.to_latent(t, condition=first)[0], y)
    torch.testing.assert_close(log_det, expected, atol=1e-6, rtol=0)


@every_flow
def test_the_loss_is_the_negative_bound_in_two_terms(name: str) -> None:
    model, x = made(name), images(6)
    torch.manual_seed(3)
    loss, terms = model.loss(batch_of(x), 0)
    torch.manual_seed(3)
    u = torch.rand(x.shape, dtype=torch.float64)
    given = labels(model, 6)
    z, log_det = model.to_latent((x + u) / 5, condition=given)
    nats = -(Normal(0.0, 1.0).log_prob(z).sum(1) + log_det) + SPEC.dims * math.log(5)
    torch.testing.assert_close(loss, nats.mean())
    torch.testing.assert_close(terms["prior"] + terms["volume"], nats.mean().detach())
    assert not any(term.requires_grad for term in terms.values())
    model.log_likelihood(x, condition=given)  # measured
    torch.manual_seed(3)
    log_p, kind = model.log_likelihood(x, samples=100, condition=given)
    torch.testing.assert_close(log_p, -nats.detach())
    assert kind == "dequantised bound" + ("" if given is None else " given labels")


@every_flow
def test_the_bound_is_below_the_probability_of_the_level(name: str) -> None:
    spec = DataSpec((1, 2, 2), levels=2, classes=3)
    every = torch.cartesian_prod(*[torch.arange(2)] * 4).to(torch.uint8).view(16, 1, 2, 2)
    model = FLOWS[name](spec).double()
    model.data_dependent_init(batch_of(every.repeat(8, 1, 1, 1)))
    model = vivid(model, std=0.1)
    draws = 500
    with torch.no_grad():
        given = () if model.condition is None else (torch.ones(1, dtype=torch.int64),)
        log_p = model._log_likelihood(every.repeat(draws, 1, 1, 1), None, *given).view(draws, 16)
        probability = log_p.exp().mean(0)  # E_u of p(y) / levels^D is P(x)
        assert (log_p.mean(0) <= probability.log() + 1e-9).all()
        # All levels together are the unit cube, where the model's samples lie that often.
        y = model._from_latent(values(20_000, 4), *given).flatten(1)
    within = ((y >= 0) & (y < 1)).all(1).double().mean()
    assert within > 0.001
    assert within < 0.95 or has_edges(model)
    assert probability.sum().item() == pytest.approx(within.item(), rel=0.05, abs=2e-3)


@every_flow
@pytest.mark.parametrize("kib", [1, 20])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, name: str, kib: int) -> None:
    model = made(name)
    x, z = images(9), values(9, SPEC.dims)

    def outputs() -> list[Tensor]:
        torch.manual_seed(0)
        y = labels(model, 9)
        latents = model.images_to_latents(x, condition=y)
        found = model.log_likelihood(x, condition=y)[0], latents, model.latents_to_images(z, condition=y)
        return [*found, model.sample(9, condition=y)]

    whole = outputs()
    monkeypatch.setattr(chunks, "CHUNK_BYTES", kib * 1024)
    sizes: list[int] = []
    model.transform.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    parts = outputs()
    assert max(sizes) < 9
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


@every_flow
@pytest.mark.parametrize("temperature", [0.1, 1.0, 2.5])
def test_temperature_scales_the_latents(name: str, temperature: float) -> None:
    model, seen = made(name).float(), []
    whole = model._from_latent
    model._from_latent = lambda z, *y: seen.append(z) or whole(z, *y)  # type: ignore[method-assign, func-returns-value]
    made_images = model.sample(500, temperature)
    assert seen[-1].std().item() == pytest.approx(temperature, rel=0.05)
    assert made_images.dtype == torch.uint8
    assert made_images.max() < SPEC.levels


@every_flow
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_images_come_back_from_their_latents(name: str, levels: int) -> None:
    spec = DataSpec((2, 4, 4), levels=levels, classes=3)
    model = made(name, spec, std=0.05).float()
    x = images(40, spec)
    given = labels(model, 40)
    z = model.images_to_latents(x, condition=given)
    assert torch.equal(model.latents_to_images(z, condition=given), x)
    assert torch.equal(z, model.images_to_latents(x, condition=given)), "no noise in it"
    torch.testing.assert_close(z, model.to_latent((x + 0.5) / levels, condition=given)[0])


@every_flow
def test_values_outside_of_the_range_become_the_nearest_level(name: str) -> None:
    model = made(name)
    z = torch.logspace(-2, 1.5, 40, dtype=torch.float64)[:, None] * values(40, SPEC.dims)
    given = labels(model, 40)
    made_images = model.latents_to_images(z, condition=given)
    with torch.no_grad():
        y = model.from_latent(z, condition=given)
    assert ((y < 0) if has_edges(model) else (y < -1)).any()
    assert ((y > 1) if has_edges(model) else (y > 2)).any()
    assert (made_images[y < 0] == 0).all()
    assert (made_images[y > 1] == 4).all()
    inside = (y > 0) & (y < 1)
    assert torch.equal(made_images[inside], (y[inside] * 5).floor().to(torch.uint8))


@every_flow
def test_every_parameter_learns_and_a_copy_is_one(name: str) -> None:
    model = made(name).float()
    twin = copy.deepcopy(model)
    model.loss(batch_of(images(8)), 0)[0].backward()  # type: ignore[no-untyped-call]
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().sum() > 0, key
    z = torch.randn(3, SPEC.dims)
    given = labels(model, 3)
    assert torch.equal(twin.from_latent(z, condition=given), model.from_latent(z, condition=given))
    assert model.examine(batch_of(images(8)))["inverse_error"] < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert model.loss(batch_of(images(8)), 0)[0].dtype == torch.float32


OF_LABELS = [name for name in FLOWS if name.endswith("of labels")]


@pytest.mark.parametrize("name", OF_LABELS)
def test_what_is_known_of_an_image_counts_and_an_untrained_model_does_not_know_it_yet(name: str) -> None:
    x, ones, twos = images(6), torch.ones(6, dtype=torch.int64), torch.full((6,), 2)
    model = made(name)
    at_one, at_two = (model.images_to_latents(x, condition=y) for y in (ones, twos))
    assert not torch.allclose(at_one, at_two)
    there, moved = (model.from_latent(at_one, condition=y) for y in (ones, twos))
    assert not torch.allclose(there, moved)
    with pytest.raises(ValueError, match="needs the label"):
        model.log_likelihood(x)
    with pytest.raises(ValueError, match="neither labels"):
        FLOWS[name](DataSpec((2, 4, 4), levels=5))
    fresh = FLOWS[name](SPEC)
    assert torch.equal(*(fresh.images_to_latents(x, condition=y) for y in (ones, twos)))


@every_flow
@pytest.mark.parametrize("edges", [False, True])
def test_images_of_extreme_pixels_want_a_logit(name: str, edges: bool) -> None:
    model, x = made(name), images(50)
    x = torch.where(x < 3, 0, x) if edges else x.clamp(1, 3)
    model.data_dependent_init(batch_of(x))
    said = model.warnings({})
    assert len(said) == int(edges and not has_edges(model))
    assert all("model.logit=1e-5" in line and "\n" not in line for line in said)


#: Of two values, without a squeeze: their density can be summed over the plane.
OF_TWO: dict[str, Callable[[DataSpec], Flow]] = {
    "realnvp": lambda spec: RealNVP(
        spec, scales=1, hidden=4, blocks=1, logit=None, label_by="none", dequantisation="uniform"
    ),
    "nice": nice(),
    "sums": Sums,
}


@pytest.mark.parametrize("name", OF_TWO)
def test_a_density_of_two_values_integrates_to_one(name: str) -> None:
    torch.manual_seed(0)
    model = vivid(OF_TWO[name](DataSpec((1, 1, 2), levels=3)), std=0.2)
    assert isinstance(model, Flow)
    with torch.no_grad():
        # A rectangle around what the disc of radius 5 is made of, which has all but exp(-12) of the mass.
        reach = model.from_latent(5 * torch.nn.functional.normalize(values(2000, 2))).flatten(1)
        low, high = reach.amin(0) - 0.1, reach.amax(0) + 0.1
        sides = [torch.linspace(low[i], high[i], 300, dtype=torch.float64) for i in range(2)]
        log_p = sum(model.log_prob(torch.cartesian_prod(*sides)[:, None, None]))
    cell = math.prod((side[1] - side[0]).item() for side in sides)
    assert isinstance(log_p, Tensor)
    assert (log_p.exp().sum() * cell).item() == pytest.approx(1, abs=1e-3)


#: Of `FLOWS`, those that are trained on real digits for a moment.
TRAINED = ("glow, logit", "realnvp, logit", "nice", "nice, logit")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_after_training_the_way_back_is_still_one(name: str) -> None:
    torch.manual_seed(0)
    digits = torch.tensor(load_digits().images[:256, None]).to(torch.uint8)
    model = FLOWS[name](DataSpec((1, 8, 8), levels=17, classes=10))
    model.data_dependent_init(Batch(digits))
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(50):
        loss, _ = model.loss(Batch(digits), step)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.97 * losses[0]
    y = model.eval().dequantise(digits)
    twin = copy.deepcopy(model).double()
    with torch.no_grad():
        assert (model.from_latent(model.to_latent(y)[0]) - y).abs().max() < 1e-4
        assert (twin.from_latent(twin.to_latent(y.double())[0]) - y).abs().max() < 1e-9
    assert torch.equal(model.latents_to_images(model.images_to_latents(digits)), digits)


@pytest.mark.parametrize("name", ["glow", "realnvp", "nice"])
def test_learnt_noise_bounds_the_same_probabilities(name: str) -> None:
    spec = DataSpec((1, 2, 2), levels=2)
    every = torch.cartesian_prod(*[torch.arange(2)] * 4).to(torch.uint8).view(16, 1, 2, 2)
    torch.manual_seed(0)
    model = FLOWS[name](spec)
    model.dequantiser = Dequantiser(1)
    fresh = copy.deepcopy(model)
    fresh.dequantiser = None
    losses = []
    for each in (model, fresh):  # it starts as the uniform noise
        torch.manual_seed(1)
        losses.append(each.loss(Batch(every), 0)[0].item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    moved = vivid(model, std=0.07)
    assert isinstance(moved, Flow)
    uniform = copy.deepcopy(moved)
    uniform.dequantiser = None
    draws = 1000
    with torch.no_grad():
        bounds = [
            m._log_likelihood(every.repeat(draws, 1, 1, 1), None).view(draws, 16) for m in (moved, uniform)
        ]
        of_learnt, of_uniform = (bound.exp().mean(0) for bound in bounds)
        torch.testing.assert_close(of_learnt, of_uniform, rtol=0.15, atol=2e-3)
        assert (bounds[0].mean(0) <= of_learnt.log() + 1e-9).all()
        assert not torch.allclose(bounds[0].mean(0), bounds[1].mean(0), atol=1e-3)
    torch.manual_seed(0)
    one, kind = moved.log_likelihood(every)
    many, kind_of_many = moved.log_likelihood(every, samples=50)
    assert (kind, kind_of_many) == ("dequantised bound", "dequantised bound, 50 draws")
    assert many.mean() > one.mean()
    loss, terms = moved.loss(Batch(every), 0)
    torch.testing.assert_close(terms["prior"] + terms["volume"] + terms["noise"], loss.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moved.dequantiser.parameters())  # type: ignore[union-attr]


def test_dequantisations_are_named() -> None:
    with pytest.raises(ValueError, match=r"model\.dequantisation must be one of uniform, variational"):
        NICE(SPEC, couplings=1, hidden=[2], logit=None, label_by="none", dequantisation="gaussian")
    model = NICE(SPEC, couplings=1, hidden=[2], logit=None, label_by="none", dequantisation="variational")
    assert model.dequantiser is not None

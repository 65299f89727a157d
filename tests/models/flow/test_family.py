"""What holds for every flow; a new one joins with a line in `FLOWS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from flows import jacobian_log_det, values, vivid
from torch import Tensor, nn
from torch.distributions import Normal

from gentrain.contracts import Batch, DataSpec, chunks
from gentrain.layers.coupling import Additive, ChannelMask, CheckerboardMask, Coupling, TanhScale
from gentrain.layers.gaussian_prior import StandardPrior
from gentrain.layers.multiscale import MultiScale, Shape
from gentrain.layers.squeeze import Squeeze
from gentrain.layers.transform import Chain, Shift, Transform
from gentrain.models.flow.flow import Flow
from gentrain.models.flow.glow import Glow


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
        super().__init__(spec, Chain([Shift(-0.5), scales]))


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


def glow(coupling: str) -> Callable[[DataSpec], Flow]:
    return lambda spec: Glow(spec, scales=1, depth=2, hidden=6, coupling=coupling, dropout=0.0)


FLOWS: dict[str, Callable[[DataSpec], Flow]] = {
    "glow": glow("affine"),
    "glow additive": glow("additive"),
    "checkered": Checkered,
    "sums": Sums,
}
SPEC = DataSpec((2, 4, 4), levels=5)
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


@every_flow
@pytest.mark.parametrize("shape", [(2, 4, 4), (1, 4, 2), (3, 2, 2)])
def test_the_map_its_inverse_and_its_determinant(name: str, shape: Shape) -> None:
    spec = DataSpec(shape, levels=7)
    model = made(name, spec)
    y = torch.rand(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        z, log_det = model.to_latent(y)
        assert z.shape == (2, spec.dims) == (2, model.latent_dim)
        assert (model.from_latent(z) - y).abs().max() < 1e-9
        noise = values(2, spec.dims, seed=1)
        assert (model.to_latent(model.from_latent(noise))[0] - noise).abs().max() < 1e-9
    expected = jacobian_log_det(lambda t: model.to_latent(t)[0], y)
    torch.testing.assert_close(log_det, expected, atol=1e-6, rtol=0)


@every_flow
def test_the_loss_is_the_negative_bound_in_two_terms(name: str) -> None:
    model, x = made(name), images(6)
    torch.manual_seed(3)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(3)
    u = torch.rand(x.shape, dtype=torch.float64)
    z, log_det = model.to_latent((x + u) / 5)
    nats = -(Normal(0.0, 1.0).log_prob(z).sum(1) + log_det) + SPEC.dims * math.log(5)
    torch.testing.assert_close(loss, nats.mean())
    torch.testing.assert_close(terms["prior"] + terms["volume"], nats.mean().detach())
    assert not any(term.requires_grad for term in terms.values())
    model.at_once("log_likelihood", lambda n: model._log_likelihood(x[:n], None))
    torch.manual_seed(3)
    log_p, kind = model.log_likelihood(x, samples=100)
    torch.testing.assert_close(log_p, -nats.detach())
    assert kind == "dequantised bound"


@every_flow
def test_the_bound_is_below_the_probability_of_the_level(name: str) -> None:
    spec = DataSpec((1, 2, 2), levels=2)
    every = torch.cartesian_prod(*[torch.arange(2)] * 4).to(torch.uint8).view(16, 1, 2, 2)
    model = FLOWS[name](spec).double()
    model.data_dependent_init(Batch(every.repeat(8, 1, 1, 1)))
    model = vivid(model, std=0.1)
    draws = 2000
    with torch.no_grad():
        log_p = model._log_likelihood(every.repeat(draws, 1, 1, 1), None).view(draws, 16)
        probability = log_p.exp().mean(0)  # E_u of p(y) / levels^D is P(x)
        assert (log_p.mean(0) <= probability.log() + 1e-9).all()
        # All levels together are the unit cube, where the model's samples lie that often.
        y = model.from_latent(values(100_000, 4)).flatten(1)
    within = ((y >= 0) & (y < 1)).all(1).double().mean()
    assert 0.001 < within < 0.95
    assert probability.sum().item() == pytest.approx(within.item(), rel=0.05, abs=2e-3)


@every_flow
@pytest.mark.parametrize("kib", [1, 20])
def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch, name: str, kib: int) -> None:
    model = made(name)
    x, z = images(9), values(9, SPEC.dims)

    def outputs() -> list[Tensor]:
        torch.manual_seed(0)
        found = model.log_likelihood(x)[0], model.images_to_latents(x), model.latents_to_images(z)
        return [*found, model.sample(9)]

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
    model._from_latent = lambda z: seen.append(z) or whole(z)  # type: ignore[method-assign, func-returns-value]
    made_images = model.sample(500, temperature)
    assert seen[-1].std().item() == pytest.approx(temperature, rel=0.05)
    assert made_images.dtype == torch.uint8
    assert made_images.max() < SPEC.levels


@every_flow
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_images_come_back_from_their_latents(name: str, levels: int) -> None:
    spec = DataSpec((2, 4, 4), levels=levels)
    model = made(name, spec, std=0.05).float()
    x = images(40, spec)
    z = model.images_to_latents(x)
    assert torch.equal(model.latents_to_images(z), x)
    assert torch.equal(z, model.images_to_latents(x)), "no noise in it"
    torch.testing.assert_close(z, model.to_latent((x + 0.5) / levels)[0])


@every_flow
def test_values_outside_of_the_range_become_the_nearest_level(name: str) -> None:
    model = made(name)
    z = torch.logspace(-2, 1.5, 40, dtype=torch.float64)[:, None] * values(40, SPEC.dims)
    made_images = model.latents_to_images(z)
    with torch.no_grad():
        y = model.from_latent(z)
    assert (y < -1).any()
    assert (y > 2).any()
    assert (made_images[y < 0] == 0).all()
    assert (made_images[y > 1] == 4).all()
    inside = (y > 0) & (y < 1)
    assert torch.equal(made_images[inside], (y[inside] * 5).floor().to(torch.uint8))


@every_flow
def test_every_parameter_learns_and_a_copy_is_one(name: str) -> None:
    model = made(name).float()
    twin = copy.deepcopy(model)
    model.loss(Batch(images(8)), 0)[0].backward()  # type: ignore[no-untyped-call]
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().sum() > 0, key
    z = torch.randn(3, SPEC.dims)
    assert torch.equal(twin.from_latent(z), model.from_latent(z))
    assert model.examine(Batch(images(8)))["inverse_error"] < 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        assert model.loss(Batch(images(8)), 0)[0].dtype == torch.float32

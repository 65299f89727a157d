"""The GAN: whose parameters, gradients and buffers move, what a step is, what samples are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Ended
from torch import Tensor, nn
from torch.nn import functional as F

from gentrain.api import compose_train
from gentrain.building import settings_of
from gentrain.contracts import Batch, DataSpec, HasLikelihood, ImagesToLatents
from gentrain.models.adversarial.game import COLLAPSED
from gentrain.models.adversarial.gan import GAN
from gentrain.models.adversarial.objectives import OBJECTIVES
from gentrain.training.distributed import World
from gentrain.training.ema import EMA
from gentrain.training.precision import Precision
from gentrain.training.update import TurnUpdate

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
ALL = pytest.mark.parametrize("objective", OBJECTIVES)
NETWORKS = pytest.mark.parametrize("network", ["dcgan", "mlp"])


def gan(spec: DataSpec = DIGITS, **settings: Any) -> GAN:
    """A small GAN, the same each time."""
    defaults = {
        "network": "dcgan",
        "channels": 4,
        "dense": 0,
        "hidden": [12, 10],
        "latent_dim": 6,
        "latent": "gaussian",
        "objective": "nonsaturating",
        "penalty_weight": 10.0,
        "n_critic": 1,
        "augment": [],
        "r1_weight": 0.0,
        "r1_every": 16,
        "norm": "auto",
        "generator_norm": "auto",
    }
    torch.manual_seed(0)
    return GAN(spec, **defaults | settings)


def vivid(model: GAN) -> GAN:
    """The model with a generator whose images are not all grey."""
    with torch.no_grad():
        for p in model.generator.parameters():
            p.mul_(6)
    return model


def batch(seed: int = 0, n: int = 8, spec: DataSpec = DIGITS) -> Batch:
    g = torch.Generator().manual_seed(seed)
    return Batch(torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8))


def adam(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, 2e-4, betas=(0.5, 0.999), fused=True)


def updates_of(
    model: GAN,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = adam,
    precision: str = "fp32",
    accumulate: int = 1,
) -> list[TurnUpdate]:
    """One per turn, as a run has them."""
    updates = []
    for turn in model.turns():
        own = {id(p) for p in turn.parameters()}
        others = [p for p in model.parameters() if id(p) not in own]
        how = Precision(precision, "cpu")
        optimizer = make(turn.parameters())
        updates.append(
            TurnUpdate(turn, others, optimizer, None, how, World(), accumulate, None, 3, compile=False)
        )
    return updates


def latch() -> Tensor:
    return torch.zeros((), dtype=torch.bool)


# The turns


@NETWORKS
@ALL
def test_every_parameter_gets_a_gradient_in_its_turn(objective: str, network: str) -> None:
    model = gan(network=network, objective=objective)
    for loss, net in (
        (model.generator_loss, model.generator),
        (model.discriminator_loss, model.discriminator),
    ):
        model.zero_grad()
        value, terms = loss(batch(), 0)
        assert value.shape == ()
        value.backward()
        for name, p in net.named_parameters():
            assert p.grad is not None, name
            last_bias = net is model.discriminator and p.shape == (1,)  # may cancel out
            assert p.grad.abs().sum() > 0 or last_bias, name
        assert all(term.shape == () for term in terms.values())


def test_buffers_are_the_averages_of_a_players_own_batches() -> None:
    """The discriminator's over the real batch, then over the fakes; the penalty adds none."""
    model = gan(objective="wgan_gp", norm="batch")
    (norm,) = [m for m in model.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0].detach()))
    model.discriminator_loss(batch(), 0)
    assert len(seen) == 3  # real, fake, between
    mean = torch.zeros(8)
    for maps in seen[:2]:
        mean = 0.9 * mean + 0.1 * maps.mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, mean)
    assert norm.num_batches_tracked == 2
    model.generator_loss(batch(), 0)
    assert norm.num_batches_tracked == 2
    tracked = {m.num_batches_tracked.item() for m in model.generator.modules() if hasattr(m, "running_mean")}
    assert tracked == {1}


def scaled(x: Tensor) -> Tensor:
    return x.float() * (2 / 16) - 1


def plain_step(g: nn.Module, d: nn.Module, g_optimizer: Any, d_optimizer: Any, x: Tensor) -> None:
    """A GAN step as one would write it without this project; other players' statistics are put back."""
    g_buffers = [b.clone() for b in g.buffers()]
    fake = g(torch.randn(len(x), 6)).detach()
    for b, was in zip(g.buffers(), g_buffers, strict=True):
        b.copy_(was)
    loss = F.softplus(-d(x)).mean() + F.softplus(d(fake)).mean()  # -log D(x) - log(1 - D(G(z)))
    d_optimizer.zero_grad()
    loss.backward()
    d_optimizer.step()
    d_buffers = [b.clone() for b in d.buffers()]
    loss = F.softplus(-d(g(torch.randn(len(x), 6)))).mean()  # -log D(G(z))
    g_optimizer.zero_grad()
    loss.backward()
    g_optimizer.step()
    for b, was in zip(d.buffers(), d_buffers, strict=True):
        b.copy_(was)


def test_one_step_equals_a_plain_hand_written_one_bit_for_bit() -> None:
    model = gan()
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    ours, g_optimizer, d_optimizer = updates_of(model), adam(list(g.parameters())), adam(list(d.parameters()))
    for step in range(3):
        torch.manual_seed(step)
        for update in ours:
            update(batch(step), step, latch())
        torch.manual_seed(step)
        plain_step(g, d, g_optimizer, d_optimizer, scaled(batch(step).x))
        for net, twin in ((model.generator, g), (model.discriminator, d)):
            for name, value in net.state_dict().items():
                assert torch.equal(value, twin.state_dict()[name]), f"step {step}: {name}"


def test_a_penalised_step_equals_a_plain_hand_written_one_bit_for_bit() -> None:
    """Gulrajani et al. 2017, algorithm 1, one turn of the critic."""
    model = gan(objective="wgan_gp", penalty_weight=3.0)
    g, d = copy.deepcopy(model.generator), copy.deepcopy(model.discriminator)
    (update, _), d_optimizer = updates_of(model), adam(list(d.parameters()))
    x = scaled(batch().x)
    torch.manual_seed(5)
    update(batch(), 0, latch())
    torch.manual_seed(5)
    fake = g(torch.randn(8, 6)).detach()
    real, made = d(x), d(fake)
    loss = made.mean() - real.mean()
    y = torch.lerp(fake, x, torch.rand(8, 1, 1, 1)).requires_grad_()
    (slope,) = torch.autograd.grad(d(y).sum(), y, create_graph=True)
    loss = loss + 3.0 * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()
    loss.backward()
    d_optimizer.step()
    for name, value in model.discriminator.state_dict().items():
        assert torch.equal(value, d.state_dict()[name]), name


@ALL
@NETWORKS
def test_accumulating_equals_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, objective: str, network: str
) -> None:
    """Noise fixed, without BatchNorm; the penalty's weights are noise too."""
    norms = {"norm": "none", "generator_norm": "none"}
    whole, split = (gan(objective=objective, network=network, **norms) for _ in range(2))
    projection = torch.randn(64, 6) / 8
    monkeypatch.setattr(torch, "rand", lambda n, *shape, **kwargs: torch.full((n, *shape), 0.3, **kwargs))
    for model, accumulate in ((whole, 1), (split, 2)):
        updates = updates_of(model, lambda p: torch.optim.SGD(p, 0.1), accumulate=accumulate)
        for step in range(3):
            z = scaled(batch(step).x).flatten(1) @ projection
            for update in updates:
                draws = iter(z.chunk(accumulate))
                monkeypatch.setattr(model, "_prior_draws", lambda n, draws=draws: next(draws))
                update(batch(step), step, latch())
    start = gan(objective=objective, network=network, **norms).state_dict()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, split.state_dict()[name], rtol=0, atol=1e-6)
    assert any(not torch.equal(value, start[name]) for name, value in whole.state_dict().items())


def test_turns_their_order_and_when_they_are_due() -> None:
    for objective in OBJECTIVES:
        model = gan(objective=objective, n_critic=5)
        discriminator, generator = model.turns()
        assert (discriminator.name, generator.name) == ("discriminator", "generator")
        assert [step for step in range(10) if discriminator.due(step)] == list(range(10))
        assert [step for step in range(10) if generator.due(step)] == [4, 9]
        assert discriminator.double_backward == (objective == "wgan_gp")
        assert not generator.double_backward


# What is logged


@ALL
def test_logged_terms_by_hand(objective: str) -> None:
    model = gan(objective=objective)
    x = scaled(batch().x)
    torch.manual_seed(1)
    loss, terms = model.discriminator_loss(batch(), 0)
    torch.manual_seed(1)
    fake = model.generator(torch.randn(8, 6))
    squash = torch.sigmoid if objective in ("minimax", "nonsaturating") else torch.nn.Identity()
    torch.testing.assert_close(terms["d_real"], squash(model.discriminator(x)).mean())
    torch.testing.assert_close(terms["d_fake"], squash(model.discriminator(fake)).mean())
    assert set(terms) == {"d_real", "d_fake"} | ({"penalty"} if objective == "wgan_gp" else set())
    if objective == "wgan_gp":
        torch.testing.assert_close(loss, terms["d_fake"] - terms["d_real"] + 10 * terms["penalty"])
    torch.manual_seed(1)
    _, terms = model.generator_loss(batch(), 0)
    assert set(terms) == {"diversity"}
    expected = (fake.var(0, correction=0).sqrt().mean() / x.var(0, correction=0).sqrt().mean()).detach()
    torch.testing.assert_close(terms["diversity"], expected)


def test_diversity_of_images_themselves_is_one_and_of_one_image_zero() -> None:
    model = gan()
    real = batch(n=64)

    class Fixed(nn.Module):
        def __init__(self, images: Tensor) -> None:
            super().__init__()
            self.images, self.weight = images, nn.Parameter(torch.zeros(()))

        def forward(self, z: Tensor) -> Tensor:
            return self.images[: len(z)] + self.weight

    for images, expected in ((scaled(real.x), 1.0), (scaled(real.x[:1]).expand(64, -1, -1, -1), 0.0)):
        model.generator = Fixed(images)
        assert model.generator_loss(real, 0)[1]["diversity"].item() == pytest.approx(expected, abs=1e-6)
    two = scaled(real.x[:2]).repeat(32, 1, 1, 1)  # what the limit is chosen against
    model.generator = Fixed(two)
    assert model.generator_loss(real, 0)[1]["diversity"] > 2 * COLLAPSED


def test_examining_gives_the_diversity_of_samples_and_nothing_where_images_are_alike() -> None:
    model = gan().eval()
    real = batch(n=64)
    torch.manual_seed(1)
    expected = (
        scaled(model.sample(64)).std(0, correction=0).mean() / scaled(real.x).std(0, correction=0).mean()
    )
    torch.manual_seed(1)
    assert model.examine(real) == {"diversity": expected}
    assert model.examine(batch(n=1)) == {}


def figures(d_real: float = 0.6, d_fake: float = 0.4, diversity: float = 0.9) -> dict[str, float]:
    return {
        "loss/discriminator/d_real": d_real,
        "loss/discriminator/d_fake": d_fake,
        "loss/generator/diversity": diversity,
    }


@pytest.mark.parametrize(
    ("objective", "won", "fine"),
    [
        ("minimax", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("nonsaturating", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("lsgan", (0.995, 0.005), [(0.98, 0.005), (0.995, 0.02)]),
        ("hinge", (1.6, -1.6), [(1.0, -1.6), (1.6, -1.0)]),
    ],
)
def test_a_discriminator_that_has_won_is_warned_of(
    objective: str, won: tuple[float, float], fine: list[tuple[float, float]]
) -> None:
    model = gan(objective=objective)
    (warning,) = model.warnings(figures(*won))
    assert "optim.discriminator.lr" in warning
    assert "model.objective=wgan_gp" in warning
    assert "\n" not in warning
    for d_real, d_fake in fine:
        assert model.warnings(figures(d_real, d_fake)) == []


def test_a_collapsed_generator_is_warned_of() -> None:
    """One whose samples were diverse; at the start no generator's are."""
    model = gan()
    for start in (0.02, math.nan, 0.2, 0.49, 0.2):
        assert model.warnings(figures(diversity=start)) == []
    for healthy in (0.6, 1.1 * COLLAPSED):
        assert model.warnings(figures(diversity=healthy)) == []
    (warning,) = model.warnings(figures(diversity=0.9 * COLLAPSED))
    assert "collapsed" in warning
    assert "optim.generator.lr" in warning
    assert model.warnings(figures(diversity=0.01)) == [warning], "the same line, which is shown once"
    assert len(model.warnings(figures(0.999, 0.001, 0.01))) == 2


def test_no_warning_without_reason() -> None:
    """Nor without the generator's turn (n_critic), with one image a batch, or for a critic without bound."""
    assert gan().warnings({}) == []
    assert gan().warnings({"loss/discriminator/d_real": 0.5, "loss/discriminator/d_fake": 0.5}) == []
    assert gan().warnings(figures(math.nan, math.nan, math.nan)) == []
    assert gan(objective="wgan_gp").warnings(figures(100.0, -100.0)) == []
    assert gan().generator_loss(batch(n=2), 0)[1]["diversity"].isfinite()


# Samples


@NETWORKS
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_samples_are_the_nearest_levels(network: str, levels: int) -> None:
    spec = DataSpec(shape=(3, 8, 12), levels=levels)
    model = vivid(gan(spec, network=network))
    z = torch.randn(50, 6)
    images = model.latents_to_images(z)
    assert images.shape == (50, 3, 8, 12)
    assert images.dtype == torch.uint8
    y = model.eval().generator(z)
    # Each level's own value under the discriminator's scaling is what it is drawn from.
    distance = (model.scaled(images) - y).abs().max().item()
    assert distance <= 1 / (levels - 1) + 1e-6
    assert images.max() <= levels - 1
    assert model.sample(0).shape == (0, 3, 8, 12)


def test_both_ends_of_the_range_meet_the_data() -> None:
    model = gan()
    x = torch.tensor([0, 16], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    assert model.scaled(x).unique().tolist() == [-1.0, 1.0]
    model.generator = nn.Sequential(nn.Linear(6, 64), nn.Hardtanh(), nn.Unflatten(1, (1, 8, 8)))
    with torch.no_grad():
        model.generator[0].bias.fill_(100.0)
        assert model.latents_to_images(torch.zeros(1, 6)).unique().tolist() == [16]
        model.generator[0].bias.fill_(-100.0)
        assert model.latents_to_images(torch.zeros(1, 6)).unique().tolist() == [0]


@pytest.mark.parametrize("training", [True, False])
def test_sampling_uses_the_running_statistics_and_keeps_them(training: bool) -> None:
    """An image depends on its own z alone, whatever else is in the batch."""
    model = vivid(gan())
    for step in range(5):
        model.generator_loss(batch(step), step)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    z = 3 * torch.randn(20, 6)
    images = model.latents_to_images(z)
    alone = torch.cat([model.latents_to_images(one) for one in z.split(1)])
    assert torch.equal(images, alone)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training is training
    assert all(m.training is training for m in model.modules())
    for m in model.generator.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.add_(3.0)
    assert not torch.equal(images, model.latents_to_images(z))


def test_the_average_model_samples_with_the_generators_statistics() -> None:
    model = gan()
    ema = EMA(model, 0.9)
    _, update = updates_of(model, lambda p: torch.optim.SGD(p, 0.1))
    for step in range(4):
        moved = update(batch(step), step, latch())
        ema.update(update.parameters, update.turn.nets, ema.rate(step), moved)
    for name, buffer in ema.model.generator.named_buffers():
        assert torch.equal(buffer, dict(model.generator.named_buffers())[name])
        assert "num" in name or buffer.std() > 0
    by_hand = copy.deepcopy(model)
    by_hand.load_state_dict(ema.model.state_dict())
    by_hand.eval()
    z = torch.randn(10, 6)
    expected = ((by_hand.generator(z) + 1) * 8).round().to(torch.uint8)
    assert torch.equal(ema.model.latents_to_images(z), expected)


@pytest.mark.parametrize("latent", ["gaussian", "uniform"])
def test_latents_follow_the_prior_times_the_temperature(latent: str) -> None:
    model = gan(latent=latent)
    assert model.latent_prior == latent
    assert model.latent_dim == 6
    for temperature in (0.5, 1.0, 2.0):
        seen: list[Tensor] = []
        hook = model.generator.register_forward_hook(lambda _m, inputs, _o, seen=seen: seen.append(inputs[0]))
        model.sample(4000, temperature=temperature)
        hook.remove()
        z = seen[-1] / temperature  # after two that were measured
        assert z.mean().item() == pytest.approx(0, abs=0.04)
        assert z.std().item() == pytest.approx(1.0 if latent == "gaussian" else 3**-0.5, rel=0.03)
        assert (z.abs().max() > 3) == (latent == "gaussian")
        assert z.abs().max() <= 1 or latent == "gaussian"


# Construction


@settings(max_examples=12, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(2, 8).map(lambda k: 4 * k),
    width=st.integers(2, 8).map(lambda k: 4 * k),
    levels=st.integers(2, 256),
    objective=st.sampled_from(list(OBJECTIVES)),
)
def test_any_multiple_of_four_fits(
    channels: int, height: int, width: int, levels: int, objective: str
) -> None:
    spec = DataSpec(shape=(channels, height, width), levels=levels)
    model = gan(spec, channels=2, objective=objective)
    for update in updates_of(model):
        update(batch(n=3, spec=spec), 0, latch())
        assert math.isfinite(update.read()["loss"])
    assert model.sample(2).shape == (2, *spec.shape)


def test_other_sizes_are_for_the_mlp() -> None:
    for shape in [(1, 1, 1), (2, 7, 9), (3, 30, 30)]:
        spec = DataSpec(shape=shape)
        with pytest.raises(ValueError, match=r"dataset\.image_size=.*model\.network=mlp"):
            gan(spec)
        model = gan(spec, network="mlp")
        model.discriminator_loss(batch(spec=spec), 0)[0].backward()
        model.generator_loss(batch(spec=spec), 0)[0].backward()
        assert model.sample(2).shape == (2, *shape)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("network", "resnet"),
        ("channels", 0),
        ("dense", -1),
        ("hidden", []),
        ("hidden", [4, 0]),
        ("latent_dim", 0),
        ("latent", "laplace"),
        ("objective", "wgan"),
        ("penalty_weight", -1.0),
        ("penalty_weight", math.nan),
        ("n_critic", 0),
        ("norm", "instance"),
        ("generator_norm", "layer"),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .*found"):
        gan(**{setting: value})


def test_norms_of_the_discriminator() -> None:
    def kinds(**settings: Any) -> set[type[nn.Module]]:
        net = gan(**settings).discriminator
        return {type(m) for m in net.modules()} & {nn.BatchNorm2d, nn.GroupNorm}

    assert kinds() == {nn.BatchNorm2d}
    assert kinds(objective="wgan_gp") == {nn.GroupNorm}
    assert kinds(objective="wgan_gp", norm="batch") == {nn.BatchNorm2d}
    assert kinds(norm="layer") == {nn.GroupNorm}
    assert kinds(norm="none") == set()


def test_a_dense_layer_in_both_networks() -> None:
    for dense in (0, 6):
        model = gan(dense=dense)
        assert sum(isinstance(m, nn.Linear) for m in model.generator.modules()) == 1 + (dense > 0)
        assert sum(isinstance(m, nn.Linear) for m in model.discriminator.modules()) == 1 + (dense > 0)


def test_norms_of_the_generator() -> None:
    for setting, expected in (("auto", True), ("batch", True), ("none", False)):
        net = gan(generator_norm=setting).generator
        assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == expected


@pytest.mark.parametrize("key", ["norm", "generator_norm"])
def test_the_mlp_has_no_norms(key: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.{key} must be auto or none with model\.network=mlp"):
        gan(network="mlp", **{key: "batch"})
    assert not list(gan(network="mlp", **{key: "none"}).buffers())


def test_what_it_cannot_do_has_a_reason() -> None:
    model = gan()
    assert not isinstance(model, HasLikelihood | ImagesToLatents)
    named = {"eval", "reconstruct", "interpolate between images", "encode", "arithmetic with images"}
    assert set(model.lacks) == named
    assert "density" in model.lacks["eval"]


def test_the_defaults_are_the_papers() -> None:
    config = compose_train(["model=gan"])
    for player in ("discriminator", "generator"):
        assert config.optim[player].lr == 2e-4
        assert list(config.optim[player].betas) == [0.5, 0.999]
    assert (config.train.batch_size, config.model.latent_dim) == (128, 100)
    assert config.model.objective == "nonsaturating"
    assert set(settings_of(GAN, 1)) == set(config.model) - {"_target_"}


# Precision, copies


@NETWORKS
@ALL
def test_double_copies_and_state(objective: str, network: str) -> None:
    model = gan(objective=objective, network=network).double()
    model.train()
    twin, loaded = copy.deepcopy(model), gan(objective=objective, network=network).double()
    loaded.load_state_dict(model.state_dict())
    results = []
    for m in (model, twin, loaded):
        torch.manual_seed(2)
        results.append([m.discriminator_loss(batch(), 0)[0], m.generator_loss(batch(), 0)[0], m.sample(3)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    assert results[0][0].dtype == results[0][1].dtype == torch.float64
    assert model.latents_to_images(torch.zeros(2, 6)).dtype == torch.uint8  # float32 latents are widened
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    assert all(p.any() for p in model.parameters() if p.ndim > 1), "a copy shares nothing"
    assert model.eval().discriminator_loss(batch(), 0)[0].isfinite()


@ALL
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(objective: str, precision: str) -> None:
    """A scaler of its own for each turn; the weights move and stay sound float32."""
    model = gan(objective=objective)
    before = copy.deepcopy(model.state_dict())
    updates = updates_of(model, precision=precision)
    assert updates[0].scaler is not updates[1].scaler
    for update in updates:
        assert update.scaler.is_enabled() == (precision == "fp16")
        moved = [update(batch(step), step, torch.zeros((), dtype=torch.bool)) for step in range(16)]
        assert sum(moved) >= 4, "fp16's first scale is too large; it finds its own"
    for name, p in model.named_parameters():
        assert p.dtype == torch.float32
        assert p.isfinite().all()
        assert not torch.equal(p, before[name]) or p.numel() == 1


@ALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_under_autocast_are_those_of_float32_nearly(objective: str, dtype: torch.dtype) -> None:
    found = []
    for enabled in (False, True):
        model = gan(objective=objective)
        with torch.autocast("cpu", dtype, enabled=enabled):
            for loss in (model.discriminator_loss, model.generator_loss):
                torch.manual_seed(1)
                value, terms = loss(batch(), 0)
                assert value.dtype == torch.float32
                found.append([value.item(), *(term.item() for term in terms.values())])
    assert found[0] == pytest.approx(found[2], rel=0.02, abs=0.02)
    assert found[1] == pytest.approx(found[3], rel=0.02, abs=0.02)


def test_the_penalty_in_training_is_outside_autocast() -> None:
    model = gan(objective="wgan_gp")
    seen: list[torch.dtype] = []
    first = next(m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.discriminator_loss(batch(), 0)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32]  # real, fake, between


# Through the command line


@pytest.mark.parametrize(
    "arguments",
    [
        ["precision=fp16", "model.n_critic=2"],
        ["precision=bf16", "model.objective=wgan_gp", "model.n_critic=2", "train.accumulate=2"],
        ["model.network=mlp", "model.hidden=[16]", "model.latent=uniform"],
        ["model.dense=6"],
    ],
)
def test_it_trains_and_its_verbs_answer(gentrain: Callable[..., Ended], arguments: list[str]) -> None:
    few = ["train.steps=8", "train.batch_size=16", "train.log_every=2", "train.sample_count=4"]
    done = gentrain("train", "model=gan", "dataset=digits", "model.channels=4", *few, *arguments)
    assert done.status == 0, done.err
    assert "warning" not in done.err
    assert gentrain("sample", "n=4").status == 0
    assert gentrain("interpolate", "rows=2", "columns=3").status == 0
    refused = gentrain("encode")
    assert refused.status == 2
    assert "has no encoder" in refused.one_line()
    refused = gentrain("interpolate", "images=[0,1]")
    assert refused.status == 2
    assert "has no encoder" in refused.one_line()


def test_a_users_mistakes_are_one_line(gentrain: Callable[..., Ended]) -> None:
    for arguments, part in [
        (["model.objective=wgan"], "model.objective must be one of minimax"),
        (["model.n_critic=0"], "model.n_critic must be at least 1"),
        (["model.network=mlp", "model.norm=batch"], "model.norm must be auto or none"),
        (["model.channels=many"], "model.channels: expected int"),
    ]:
        refused = gentrain("train", "model=gan", "dataset=digits", "dry_run=true", *arguments)
        assert refused.status == 2
        assert part in refused.one_line()

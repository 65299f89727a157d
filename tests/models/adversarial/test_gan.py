"""The GAN: whose parameters, gradients and buffers move, what a step is, how it is built."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gans import ALL, NETWORKS, adam, batch, gan, latch, scaled, updates_of
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Ended
from torch import Tensor, nn
from torch.nn import functional as F

from gentrain.api import compose_train
from gentrain.building import settings_of
from gentrain.contracts import DataSpec, HasLikelihood, ImagesToLatents
from gentrain.models.adversarial.gan import GAN
from gentrain.models.adversarial.objectives import OBJECTIVES

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

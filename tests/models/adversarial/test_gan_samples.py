"""A GAN's samples: levels, statistics, the prior."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from gans import NETWORKS, batch, gan, latch, updates_of, vivid
from torch import Tensor, nn

from gentrain.buffers import batch_norms
from gentrain.contracts import DataSpec
from gentrain.training.ema import EMA


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


def test_the_average_model_samples_with_its_own_statistics() -> None:
    model = gan()
    ema = EMA(model, 0.9)
    _, update = updates_of(model, lambda p: torch.optim.SGD(p, 0.1))
    for step in range(4):
        moved = update(batch(step), step, latch())
        ema.update(update.parameters, update.turn.nets, ema.rate(step), moved)
    ema.look(batch(0), 0, nullcontext())
    for name, buffer in ema.model.generator.named_buffers():  # type: ignore[union-attr]
        assert "num" in name or buffer.std() > 0
        assert "num" in name or not torch.equal(buffer, dict(model.generator.named_buffers())[name])
    by_hand = copy.deepcopy(model)
    by_hand.load_state_dict(ema.model.state_dict())
    by_hand.eval()
    z = torch.randn(10, 6)
    expected = ((by_hand.generator(z) + 1) * 8).round().to(torch.uint8)
    assert torch.equal(ema.model.latents_to_images(z), expected)


def test_a_penalty_is_no_look() -> None:
    """R1, a part of the loss with real images alone, does not count them twice in the statistics."""
    seen = []
    for weight in (0.0, 1.0):
        model = gan(r1_weight=weight, r1_every=1)
        assert len(model.turns()) == 2 + (weight > 0)
        ema = EMA(model, 0.9)
        ema.look(batch(0), 0, nullcontext())
        seen.append([int(norm.num_batches_tracked) for norm in batch_norms(ema.model)])  # type: ignore[arg-type]
    assert seen[0] == seen[1]
    assert min(seen[0]) > 0


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

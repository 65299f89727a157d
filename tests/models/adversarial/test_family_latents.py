"""BigGAN's latents, truncation, standing statistics, mixtures."""

from __future__ import annotations

import pytest
import torch
from adversaries import SETTINGS, SPEC, batch, biggan, made
from scipy.stats import truncnorm
from torch import Tensor, nn

from gentrain.contracts import (
    MixesConditions,
)
from gentrain.layers.conditional_norm import ConditionalBatchNorm
from gentrain.models.adversarial.biggan import orthogonality
from gentrain.models.adversarial.game import Contest

# BigGAN


def test_every_part_of_the_latents_reaches_its_block() -> None:
    """The first decides the smallest maps, each other one the normalisations of one block."""
    model = made("biggan").eval()
    z, y = torch.randn(1, 6), torch.tensor([1])
    inputs: list[Tensor] = []
    for block in model.generator.net.blocks:  # type: ignore[union-attr]
        block.register_forward_pre_hook(lambda _m, given: inputs.append(given[1]))
    model.generator(z, y)
    shared = model.generator.shared.weight[:, 1]  # type: ignore[union-attr]
    for i, c in enumerate(inputs):
        torch.testing.assert_close(c, torch.cat([shared, z[0, 2 * i + 2 : 2 * i + 4]])[None])
    assert len(inputs) == 2
    with pytest.raises(ValueError, match=r"model\.latent_dim must be a multiple of 3.* 3 or 6; found 5"):
        biggan(latent_dim=5)(SPEC, **SETTINGS)


def test_gains_of_every_class_lie_around_one_at_the_start() -> None:
    """Without `1 +` they lie around zero, and nothing is learnt."""
    model = made("biggan").train()
    gains: list[Tensor] = []
    for norm in (m for m in model.modules() if isinstance(m, ConditionalBatchNorm)):
        norm.gain.register_forward_hook(lambda _m, _i, output: gains.append(1 + output))
    model.generator(model.prior_draws(600), torch.arange(600) % 3)
    for found in gains:
        for label in range(3):
            assert abs(found[label::3].mean() - 1) < 0.6
    projection = made("cgan, projection").generator
    for norm in (m for m in projection.modules() if isinstance(m, ConditionalBatchNorm)):
        assert not norm.gain.weight.any()
        assert not norm.shift.weight.any()


def test_orthogonality_is_zero_for_orthogonal_rows_and_its_slope_the_papers() -> None:
    net = nn.ModuleDict({"a": nn.Conv2d(2, 3, 3), "skip": nn.Linear(4, 4)}).double()
    weight = net["a"].weight
    with torch.no_grad():
        nn.init.orthogonal_(weight)
    assert orthogonality(net, net["skip"]).item() == pytest.approx(0, abs=1e-20)
    with torch.no_grad():
        weight.normal_()
    found = orthogonality(net, net["skip"])
    rows = weight.flatten(1)
    off = rows @ rows.T * (1 - torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(found, off.square().sum())
    (gradient,) = torch.autograd.grad(found, weight)
    torch.testing.assert_close(gradient.flatten(1), 4 * off @ rows)
    model = made("biggan")
    loss, terms = model.extra("generator", batch(), Contest((), (), ()), None)
    torch.testing.assert_close(loss, 1e-3 * terms["orthogonality"])


# Truncation, standing statistics, mixtures


def test_truncated_latents_follow_the_normal_that_is_cut_off() -> None:
    model = made("biggan")
    z = torch.randn(20_000)
    for limit in (0.3, 1.0, 2.0):
        cut = model.truncated(z, limit)
        assert cut.abs().max() <= limit
        assert (cut.sign() == z.sign()).all()
        order = z.argsort()
        assert (cut[order].diff() >= 0).all(), "the same quantile"
        expected = truncnorm(-limit, limit).std()
        assert cut.std().item() == pytest.approx(expected, rel=0.02)
    torch.testing.assert_close(model.truncated(z, 50.0), z, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="finite and above 0"):
        model.truncated(z, 0.0)
    with pytest.raises(ValueError, match="not normal"):
        made("wgan_gp").truncated(z, 0.5)


@pytest.mark.parametrize("name", ["dcgan", "biggan"])
def test_standing_statistics_are_means_over_batches_of_draws(name: str) -> None:
    model = made(name).train()
    model.generator_loss(batch(), 0)
    norms = [m for m in model.generator.modules() if isinstance(m, nn.BatchNorm2d)]
    others = {key: value.clone() for key, value in model.named_buffers() if "discriminator" in key}
    seen: list[Tensor] = []
    norms[0].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    modes = [(m.training, getattr(m, "momentum", None)) for m in model.modules()]
    model.stand(batches=3, size=16, truncation=0.5)
    assert modes == [(m.training, getattr(m, "momentum", None)) for m in model.modules()]
    assert [len(part) for part in seen] == [16, 16, 16]
    torch.testing.assert_close(norms[0].running_mean, torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0))
    torch.testing.assert_close(norms[0].running_var, torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0))
    assert all(torch.equal(value, dict(model.named_buffers())[key]) for key, value in others.items())
    with pytest.raises(ValueError, match="at least 1 and size"):
        model.stand(0, 16)


@pytest.mark.parametrize("name", ["cgan", "cgan, projection", "biggan"])
def test_a_mixture_of_one_is_that_condition(name: str) -> None:
    model = made(name).train()
    for turn in model.turns():
        turn.loss(batch(), 0)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    z = model.prior_draws(3)
    whole = model.latents_to_images(z, condition=torch.arange(3))
    assert isinstance(model, MixesConditions)
    assert torch.equal(model.mixed_to_images(z, torch.eye(3)), whole)
    between = model.mixed_to_images(z[:1].expand(2, -1), torch.tensor([[0.5, 0.5, 0.0], [0.9, 0.1, 0.0]]))
    assert not torch.equal(between[0], between[1])
    for bad in (torch.eye(3).long(), torch.ones(3, 2)):
        with pytest.raises(ValueError, match=r"weights must be floating \[3, 3\]"):
            model.mixed_to_images(z, bad)

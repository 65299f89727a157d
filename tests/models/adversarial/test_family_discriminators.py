"""What a discriminator is shown and kept to: augmentation, R1, spectral norm."""

from __future__ import annotations

import pytest
import torch
from adversaries import SETTINGS, SPEC, batch, biggan, made, sngan
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized

# Augmentation


@pytest.mark.parametrize("name", ["dcgan, everything", "sngan, everything"])
def test_real_and_fake_are_augmented_in_both_turns(name: str) -> None:
    model = made(name).train()
    seen: list[Tensor] = []
    model.augment = lambda x: seen.append(x) or -x  # type: ignore[assignment, func-returns-value]
    shown: list[Tensor] = []
    model.discriminator.register_forward_pre_hook(lambda _m, inputs: shown.append(inputs[0]))
    real = model.scaled(batch().x)
    model.discriminator_loss(batch(), 0)
    augmented, judged = torch.cat(seen), torch.cat(shown)
    assert len(augmented) == 12
    assert torch.equal(augmented[:6], real)
    assert torch.equal(judged, -augmented)
    seen.clear(), shown.clear()
    model.generator_loss(batch(), 0)
    assert len(torch.cat(seen)) == 6
    assert torch.equal(torch.cat(shown), -torch.cat(seen))


def test_one_pass_judges_as_two_do() -> None:
    model = made("sngan").eval().double()
    contest = model.contestants(batch())
    together = model._both_judged(contest)
    for found, shown in zip(together[:2], (contest.real, contest.fake), strict=True):
        torch.testing.assert_close(found, model.judged(shown))


# R1


def test_r1_by_hand() -> None:
    """D(x) = a |x|^2 / 2 has the slope a x."""
    model = made("dcgan, everything").double()

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.a * x.flatten(1).square().sum(1) / 2

    model.discriminator = Half()
    loss, terms = model.r1_loss(batch(), 1)
    square = model.scaled(batch().x).flatten(1).square().sum(1).mean()
    torch.testing.assert_close(terms["slope"], 9 * square)
    torch.testing.assert_close(loss, 2 * 1.0 / 2 * 9 * square)  # every 2nd step, gamma 1
    (gradient,) = torch.autograd.grad(loss, model.discriminator.a)
    torch.testing.assert_close(gradient, 6 * square)


def test_r1_moves_with_the_discriminators_optimiser() -> None:
    r1 = made("sngan, everything").turns()[1]
    assert (r1.name, r1.every, r1.shares) == ("r1", 2, "discriminator")
    assert [step for step in range(6) if r1.due(step)] == [1, 3, 5]


# Spectral norm


def largest_singular_values(net: nn.Module) -> list[float]:
    """Of every weight that is normalised, exactly."""
    layers = [m for m in net.modules() if is_parametrized(m, "weight")]
    return [float(torch.linalg.matrix_norm(m.weight.detach().flatten(1), 2)) for m in layers]


def test_the_largest_singular_value_of_every_normalised_weight_is_one_after_training() -> None:
    """The power iteration takes one step a turn and keeps up; without it, values are anything."""
    for build, count in ((sngan(), 8), (biggan(), 33), (sngan(spectral=False), 0)):
        torch.manual_seed(0)
        model = build(SPEC, **SETTINGS).train()
        adam = [torch.optim.Adam(turn.parameters(), 2e-4, betas=(0.0, 0.9)) for turn in model.turns()]
        for step in range(120 if count == 8 else 40 if count else 1):
            for turn, optimiser in zip(model.turns(), adam, strict=True):
                optimiser.zero_grad()
                turn.loss(batch(), step)[0].backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        found = largest_singular_values(model.eval())
        assert len(found) == count
        assert all(abs(value - 1) < 0.02 for value in found), found


def test_a_normalised_weight_is_computed_once_in_a_turn() -> None:
    model = made("sngan").train()
    norms = [m for m in model.modules() if isinstance(m, _SpectralNorm)]
    calls: list[int] = []
    for norm in norms:
        norm.register_forward_hook(lambda *_: calls.append(1))
    model.discriminator_loss(batch(), 0)
    assert len(calls) == len(norms)

"""A turn's update: what moves, what stays, what a non-finite number does."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from toys import ToyGAN

from gentrain.contracts import Batch, DataSpec, GenerativeModel, Turn
from gentrain.training.distributed import World
from gentrain.training.ema import EMA, LOOK_EVERY
from gentrain.training.precision import Precision
from gentrain.training.steps import Steps
from gentrain.training.update import TurnUpdate, step_unless

SPEC = DataSpec(shape=(1, 4, 4), levels=16)
CPU = torch.device("cpu")


def toy_gan(noise: str = "fixed", norm: bool = False) -> ToyGAN:
    torch.manual_seed(0)
    return ToyGAN(SPEC, latent_dim=4, hidden=16, n_critic=1, noise=noise, norm=norm)


def batch(seed: int = 0, n: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(torch.randint(0, 16, (n, 1, 4, 4), dtype=torch.uint8, generator=generator))


OPTIMIZERS: dict[str, Callable[[list[Parameter]], torch.optim.Optimizer]] = {
    "Adam fused": lambda p: torch.optim.Adam(p, 1e-2, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, 0.1),
    "AdamW fused": lambda p: torch.optim.AdamW(p, 0.1, fused=True),
    "SGD fused": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, fused=True),
    "SGD": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "Adamax": lambda p: torch.optim.Adamax(p, 0.1),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.1),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.1),
}


def updates_of(
    model: GenerativeModel,
    make: Callable[[list[Parameter]], torch.optim.Optimizer] = lambda p: torch.optim.Adam(
        p, 1e-3, fused=True
    ),
    precision: str = "fp32",
    accumulate: int = 1,
    clip: float | None = None,
    max_skips: int = 3,
) -> list[TurnUpdate]:
    updates = []
    for turn in model.turns():
        own = {id(p) for p in turn.parameters()}
        others = [p for p in model.parameters() if id(p) not in own]
        optimizer = make(turn.parameters())
        updates.append(
            TurnUpdate(
                turn,
                others,
                optimizer,
                None,
                Precision(precision, "cpu"),
                World(),
                accumulate,
                clip,
                max_skips,
                compile=False,
            )
        )
    return updates


def latch() -> Tensor:
    return torch.zeros((), dtype=torch.bool)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("before", [0, 2])
def test_a_masked_step_changes_neither_weights_nor_state(name: str, before: int) -> None:
    weight = Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    plain_weight = Parameter(weight.detach().clone())
    masked, plain = OPTIMIZERS[name]([weight]), OPTIMIZERS[name]([plain_weight])
    for step in range(before + 2):
        if step == before:  # one masked step, with a gradient that would spoil everything
            was = copy.deepcopy(masked.state_dict()["state"])
            weight.grad = torch.full((5,), math.nan)
            step_unless(masked, torch.tensor(1.0), first=before == 0)
            assert torch.equal(weight, plain_weight)
            if before:
                torch.testing.assert_close(masked.state_dict()["state"], was, rtol=0, atol=0)
        weight.grad = torch.sin(torch.arange(5.0) + step)
        plain_weight.grad = weight.grad.clone()
        step_unless(masked, torch.tensor(0.0))
        plain.step()
        assert torch.equal(weight, plain_weight), f"step {step} after a masked one differs from plain"


def test_each_turn_moves_its_own_parameters_only() -> None:
    model = toy_gan()
    critic, generator = updates_of(model)
    for update, own, other in [
        (critic, model.critic, model.generator),
        (generator, model.generator, model.critic),
    ]:
        before = copy.deepcopy(model.state_dict())
        gradients = [None if p.grad is None else p.grad.clone() for p in other.parameters()]
        update(batch(), 0, latch())
        prefix = "critic." if own is model.critic else "generator."
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert all(name.startswith(prefix) for name in changed), changed
        for parameter, gradient in zip(other.parameters(), gradients, strict=True):
            assert parameter.requires_grad
            same = parameter.grad is None if gradient is None else torch.equal(parameter.grad, gradient)
            assert same


def test_one_step_equals_a_hand_written_one_bit_for_bit() -> None:
    model, by_hand = toy_gan(noise="random", norm=True), toy_gan(noise="random", norm=True)
    ours = updates_of(model, lambda p: torch.optim.Adam(p, 1e-3, betas=(0.5, 0.9)))
    d = torch.optim.Adam(by_hand.critic.parameters(), 1e-3, betas=(0.5, 0.9))
    g = torch.optim.Adam(by_hand.generator.parameters(), 1e-3, betas=(0.5, 0.9))
    for step in range(3):
        torch.manual_seed(step)
        for update in ours:
            update(batch(step), step, latch())
        torch.manual_seed(step)
        for optimizer, loss in ((d, by_hand.critic_loss), (g, by_hand.generator_loss)):
            optimizer.zero_grad()
            loss(batch(step), step)[0].backward()
            optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, by_hand.state_dict()[name]), name


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulating_gives_the_gradient_of_the_whole_batch(parts: int) -> None:
    whole, split = toy_gan(), toy_gan()
    for model, accumulate in ((whole, 1), (split, parts)):
        for step in range(3):
            for update in updates_of(model, lambda p: torch.optim.SGD(p, 0.1), accumulate=accumulate):
                update(batch(step), step, latch())
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, split.state_dict()[name], rtol=0, atol=1e-6)


def test_clipping_bounds_the_gradient_and_logs_it_unclipped() -> None:
    model = toy_gan()
    before = [p.detach().clone() for p in model.critic.parameters()]
    critic, _ = updates_of(model, lambda p: torch.optim.SGD(p, 1.0), clip=1e-3)
    critic(batch(), 0, latch())
    moved = torch.cat(
        [(a.detach() - b).flatten() for a, b in zip(model.critic.parameters(), before, strict=True)]
    )
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert critic.read()["grad_norm"] > 1e-3


class Breaking(GenerativeModel):
    """Its gradient or its loss is not finite from step `at` on."""

    def __init__(self, at: int, how: str) -> None:
        super().__init__(SPEC)
        self.weight = nn.Parameter(torch.ones(3))
        self.at, self.how = at, how

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (self.weight**2).sum()
        if step >= self.at:
            if self.how == "loss":
                loss = loss * math.inf
            else:  # a finite loss with a gradient that is not: d sqrt(x) at 0
                loss = loss + ((self.weight - self.weight.detach()).abs().sum()).sqrt()
        return loss, {"part": loss}


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("fused", [True, False])
def test_a_non_finite_number_never_reaches_the_weights(how: str, fused: bool) -> None:
    model = Breaking(2, how)
    (update,) = updates_of(model, lambda p: torch.optim.Adam(p, 0.1, fused=fused))
    ema = EMA(model, 0.5)
    stop = latch()
    seen = []
    for step in range(5):
        moved = update(batch(), step, stop)
        ema.update(update.parameters, update.turn.nets, ema.rate(update.updates - 1), moved)
        seen.append((model.weight.detach().clone(), ema.model.weight.detach().clone(), bool(stop)))
    assert [s for _, _, s in seen] == [False, False, True, True, True]
    assert not torch.equal(seen[0][0], seen[1][0])
    for weight, average, _ in seen[2:]:
        assert torch.equal(weight, seen[1][0]), "the weights stay those before the bad step"
        assert torch.equal(average, seen[1][1])
    reason = update.what_went_wrong()
    assert reason is not None
    assert "step 3, turn main" in reason
    assert ("loss = " in reason and "part = " in reason) if how == "loss" else "grad_norm" in reason
    assert math.isfinite(update.read()["loss"]), "the means are of the sound steps"


def test_fp16_skips_counts_and_stops_after_so_many_in_a_row() -> None:
    model = Breaking(2, "loss")
    (update,) = updates_of(model, precision="fp16", max_skips=3)
    stop = latch()
    latched = []
    for step in range(6):
        update(batch(), step, stop)
        latched.append(bool(stop))
    assert latched == [False, False, False, False, True, True]
    assert "3 skipped updates in a row" in (update.what_went_wrong() or "")
    figures = update.read()
    assert figures["skipped"] == 4
    assert figures["loss_scale"] == 65536 / 2**4


def test_fp16_goes_on_after_a_single_overflow() -> None:
    model = Breaking(1, "loss")
    (update,) = updates_of(model, precision="fp16", max_skips=3)
    stop = latch()
    for step in (0, 1, 0, 1, 0, 1, 0):
        update(batch(), step, stop)
    assert not bool(stop)
    assert torch.isfinite(model.weight).all()
    assert update.read()["skipped"] == 3


def test_bf16_autocast_trains_and_keeps_float32_weights() -> None:
    model = toy_gan(noise="random", norm=True)
    for step in range(3):
        for update in updates_of(model, precision="bf16"):
            update(batch(step), step, latch())
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in model.parameters())


def test_frozen_parameters_stay_frozen() -> None:
    model = toy_gan()
    frozen = next(model.generator.parameters())
    frozen.requires_grad_(False)
    before = frozen.detach().clone()
    for update in updates_of(model):
        update(batch(), 0, latch())
    assert not frozen.requires_grad
    assert torch.equal(frozen, before)


def test_the_ema_is_the_recurrence() -> None:
    model = toy_gan(norm=True)
    ema = EMA(model, 0.9)
    _, generator = updates_of(model)
    name = "generator.0.weight"
    average = model.state_dict()[name].clone()
    for n in range(20):
        moved = generator(batch(n), n, latch())
        ema.update(generator.parameters, generator.turn.nets, ema.rate(n), moved)
        decay = min(0.9, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * model.state_dict()[name]
        torch.testing.assert_close(ema.model.state_dict()[name], average)


def test_the_averages_statistics_are_of_what_it_makes_itself() -> None:
    """By the recurrence, from what its weights make of the batches that it looks at; not the run's."""
    model = toy_gan(norm=True)
    ema = EMA(model, 0.9)
    steps = Steps(model, updates_of(model, lambda p: torch.optim.SGD(p, 0.1)), ema, World())
    norm = ema.model.generator[1]  # type: ignore[index,operator]
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda module, x: seen.append(x[0].mean(0)) if module.training else None)
    expected = torch.zeros_like(norm.running_mean)
    for step in range(20 * LOOK_EVERY):
        before = len(seen)
        steps(batch(step), step)
        if step % LOOK_EVERY:
            assert len(seen) == before
            continue
        assert len(seen) == before + 2, "both turns"
        momentum = max(0.1, 1 / (step // LOOK_EVERY + 1))
        for mean in seen[before:]:
            expected = (1 - momentum) * expected + momentum * mean
        torch.testing.assert_close(norm.running_mean, expected, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not any(module.training for module in ema.model.modules())
    mine, theirs = norm.running_mean, model.generator[1].running_mean  # type: ignore[index,operator]
    assert not torch.allclose(mine, theirs, atol=1e-3)


def test_a_look_leaves_the_run_as_it_was() -> None:
    """Weights, statistics and random numbers of a run with an average are those of one without."""
    ends = []
    for average in (True, False):
        torch.manual_seed(5)
        model = toy_gan("random", norm=True)
        steps = Steps(model, updates_of(model), EMA(model, 0.9) if average else None, World())
        for step in range(2 * LOOK_EVERY + 1):
            steps(batch(step), step)
        ends.append((model.state_dict(), torch.rand(3)))
    (one, after), (other, after_other) = ends
    assert torch.equal(after, after_other)
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_state_comes_back(tmp_path) -> None:
    model, other = toy_gan("random"), toy_gan("random")
    first, second = updates_of(model)[0], updates_of(other)[0]
    for step in range(3):
        first(batch(step), step, latch())
    other.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for update in (first, second):
        torch.manual_seed(7)
        update(batch(9), 9, latch())
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert first.read() == second.read()


def test_a_turn_is_due_every_so_many_steps() -> None:
    turn = Turn("generator", [nn.Linear(1, 1)], lambda b, s: (torch.zeros(()), {}), every=3)
    assert [step for step in range(9) if turn.due(step)] == [2, 5, 8]
    with pytest.raises(ValueError, match="every must be at least 1"):
        Turn("x", [], turn.loss, every=0)

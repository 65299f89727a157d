"""What holds for every adversarial model; a new one joins with a line in `MODELS`."""

from __future__ import annotations

import copy

import pytest
import torch
from adversaries import CONDITIONAL, SETTINGS, SPEC, OfPairs, Pairs, batch, every_model, made
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gentrain.contracts import (
    HasCodes,
    chunks,
)
from gentrain.models.adversarial.objectives import OBJECTIVES, gradient_penalty


@every_model
def test_a_turn_moves_its_own_players_alone(name: str) -> None:
    """Gradients, parameters and buffers, spectral norm's vectors among them, over an optimiser's step.

    Frozen as the trainer freezes the other player; and in the discriminator's turn not frozen: nothing of the
    loss reaches what made the fakes.
    """
    names = ["discriminator", *(["r1"] if made(name).r1_weight else []), "generator"]
    for index, turn_name in enumerate(names):
        for freeze in (True, False) if turn_name == "discriminator" else (True,):
            model = made(name).train()
            turn = model.turns()[index]
            assert turn.name == turn_name
            twice = {"discriminator": "wgan_gp" in name, "r1": True, "generator": False}[turn_name]
            assert turn.double_backward == twice
            own = {id(p) for p in turn.parameters()}
            nets = {id(module) for net in turn.nets for module in net.modules()}
            before = copy.deepcopy(model.state_dict())
            others = [p for p in model.parameters() if id(p) not in own]
            for p in others:
                p.grad = torch.full_like(p, 7.0)
                p.requires_grad_(not freeze)
            modes = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
            loss, _ = turn.loss(batch(), 0)
            loss.backward()  # type: ignore[no-untyped-call]
            assert modes == [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
            assert all(torch.equal(p.grad, torch.full_like(p, 7.0)) for p in others if p.grad is not None)
            assert all(
                p.grad is not None and p.grad.isfinite().all()
                for p in turn.parameters()
                if turn_name != "r1" or p.grad is not None  # no bias of a last layer has a slope
            )
            assert sum(float(p.grad.abs().sum()) for p in turn.parameters() if p.grad is not None) > 0
            torch.optim.SGD(turn.parameters(), lr=0.1).step()
            moved = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
            mine = {
                f"{place}.{key}"
                for place, module in model.named_modules()
                if id(module) in nets
                for named in (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
                for key in dict(named)
            }
            assert moved
            assert moved <= mine, moved - mine


@every_model
def test_the_arithmetic_of_a_turn_can_be_counted(name: str) -> None:
    """Hooks on every module see no tensor that claims a gradient and has none, as a benchmark's would."""
    model = made(name).train()
    for turn in model.turns():
        if turn.double_backward:  # the counter's hooks know no gradient within a loss
            continue
        with FlopCounterMode(display=False) as counter:
            turn.loss(batch(), 0)[0].backward()  # type: ignore[no-untyped-call]
        assert counter.get_total_flops() > 0


@every_model
def test_in_eval_mode_a_loss_writes_no_buffer(name: str) -> None:
    model = made(name).eval()
    before = copy.deepcopy(dict(model.named_buffers()))
    for turn in model.turns():
        turn.loss(batch(), 0)
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.merit is None


@every_model
def test_samples_are_levels_in_both_modes_and_in_chunks(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    model = made(name).train()
    for turn in model.turns():
        turn.loss(batch(), 0)  # running statistics of their own
    before = copy.deepcopy(dict(model.named_buffers()))
    z = model.prior_draws(9)
    assert z.shape == (9, model.latent_dim)
    assert isinstance(model, HasCodes) or (z.abs() <= 1).all() == (model.latent_prior == "uniform")
    whole = model.latents_to_images(z)
    assert whole.dtype == torch.uint8
    assert whole.max() < 17
    assert torch.equal(model.eval().latents_to_images(z), whole)
    sizes: list[int] = []
    model.generator.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 8 * 1024)
    assert (model.latents_to_images(z).int() - whole.int()).abs().max() <= 1
    assert max(sizes) < 9
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.sample(4, 0.5).shape == (4, 1, 8, 8)
    assert "diversity" in model.examine(batch())


@every_model
def test_half_precision_keeps_losses_finite_and_near(name: str) -> None:
    model = made(name).eval()
    for turn in model.turns():
        torch.manual_seed(2)
        whole, _ = turn.loss(batch(), 0)
        torch.manual_seed(2)
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = turn.loss(batch(), 0)
        assert half.dtype == torch.float32
        assert half.item() == pytest.approx(whole.item(), rel=0.1, abs=0.1)


@every_model
def test_a_sample_depends_on_its_latents_and_its_condition_alone(name: str) -> None:
    """Not on how many are drawn with it, nor on which, though statistics were taken over batches."""
    model = made(name).train()
    for step in range(3):
        for turn in model.turns():
            turn.loss(batch(), step)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.add_(0.5 * torch.randn(p.shape))  # images that are not all grey
    z = model.prior_draws(6)
    y = None if model.condition is None else torch.arange(6) % 3
    whole = model.latents_to_images(z, condition=y)
    for i in range(3):
        alone = model.latents_to_images(z[i : i + 1], condition=None if y is None else y[i : i + 1])
        others = torch.cat([3 * z[3:], z[i : i + 1]])
        theirs = None if y is None else torch.cat([y[:3], y[i : i + 1]])
        among = model.latents_to_images(others, condition=theirs)
        for found in (alone[0], among[-1]):
            # Products of other sizes round otherwise.
            assert (found.int() - whole[i].int()).abs().max() <= 1
    assert len(whole.flatten(1).unique(dim=0)) == 6


@pytest.mark.parametrize("name", CONDITIONAL)
def test_the_condition_is_used(name: str) -> None:
    model = made(name)
    z = model.prior_draws(1).expand(3, -1)
    with torch.no_grad():
        for p in model.generator.parameters():
            p.mul_(3)
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))  # what starts at zero
    images = model.latents_to_images(z, condition=torch.arange(3))
    assert not torch.equal(images[0], images[1])
    seen: list[Tensor] = []
    model.generator.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[1]))
    model.sample(4, condition=torch.tensor(2))
    assert seen[-1].tolist() == [2, 2, 2, 2]
    contest = model.contestants(batch())
    assert torch.equal(contest.real[0], model.scaled(batch().x))
    assert torch.equal(contest.real[1], batch().label)  # type: ignore[arg-type]
    assert torch.equal(contest.fake[1], seen[-1]), "the label that it was made for"
    x = torch.rand(1, 1, 8, 8).expand(3, -1, -1, -1)
    judged = model.judged((x, torch.arange(3)))
    assert len(judged.unique()) == 3, "the discriminator looks at it too"
    with pytest.raises(ValueError, match="label"):
        model.sample(2, condition=torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="needs the label"):
        model.discriminator_loss(batch()._replace(label=None), 0)


def test_a_code_is_found_again() -> None:
    model = made("of codes")
    loss, terms = model.generator_loss(batch(), 0)
    assert set(terms) == {"diversity", "code"}
    torch.manual_seed(3)
    contest = model.contestants(batch())
    expected = (model.finder(contest.fake[0]) - contest.drawn[0][:, :2]).square().mean()  # type: ignore[operator]
    assert torch.equal(model.extra("generator", batch(), contest, None)[0], expected)  # type: ignore[arg-type]
    assert loss.requires_grad


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if not OBJECTIVES[name].penalised])
def test_an_encoder_learns_in_the_generators_turn(objective: str) -> None:
    model = OfPairs(SPEC, **{**SETTINGS, "objective": objective})
    model.generator_loss(batch(), 0)[0].backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert model.images_to_latents(batch().x).shape == (6, 5)


def test_the_penalty_is_that_of_all_numbers_shown_together() -> None:
    torch.manual_seed(0)
    net = Pairs().double()
    real = torch.randn(4, 1, 8, 8).double(), torch.randn(4, 5).double()
    fake = torch.randn(4, 1, 8, 8).double(), torch.randn(4, 5).double()
    torch.manual_seed(1)
    found = gradient_penalty(net, real, fake)
    torch.manual_seed(1)
    e = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    x = (e * real[0] + (1 - e) * fake[0]).requires_grad_()
    z = (e.view(4, 1) * real[1] + (1 - e.view(4, 1)) * fake[1]).requires_grad_()
    gradients = torch.autograd.grad(net(x, z).sum(), (x, z))
    norm = (gradients[0].flatten(1).square().sum(1) + gradients[1].square().sum(1)).sqrt()
    torch.testing.assert_close(found, (norm - 1).square().mean())
    label = torch.arange(4) % 3
    of_classes = made("of classes").double().discriminator
    assert gradient_penalty(of_classes, (real[0], label), (fake[0], label)).isfinite()

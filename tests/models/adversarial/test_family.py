"""What holds for every adversarial model; a new one joins with a line in `MODELS`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy.stats import truncnorm
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from gentrain.contracts import (
    Batch,
    Conditional,
    DataSpec,
    HasCodes,
    ImagesToLatents,
    MixesConditions,
    chunks,
)
from gentrain.layers.condition import ConditionVector
from gentrain.layers.conditional_norm import ConditionalBatchNorm
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.bigan import BiGAN
from gentrain.models.adversarial.biggan import BigGAN, orthogonality
from gentrain.models.adversarial.cgan import CGAN
from gentrain.models.adversarial.game import Contest
from gentrain.models.adversarial.gan import GAN
from gentrain.models.adversarial.infogan import InfoGAN, codes_named
from gentrain.models.adversarial.objectives import OBJECTIVES, gradient_penalty
from gentrain.models.adversarial.sngan import SNGAN

SPEC = DataSpec((1, 8, 8), levels=17, classes=3)
SETTINGS: dict[str, Any] = {
    "latent_dim": 5,
    "latent": "gaussian",
    "objective": "nonsaturating",
    "penalty_weight": 10.0,
    "n_critic": 1,
    "augment": [],
    "r1_weight": 0.0,
    "r1_every": 16,
}


def to_image(features: int) -> nn.Sequential:
    """[B, features] -> [B, 1, 8, 8] in [-1, 1]."""
    layers = [nn.Linear(features, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 64), nn.Tanh()]
    return nn.Sequential(*layers, nn.Unflatten(1, SPEC.shape))


def to_output(features: int) -> nn.Sequential:
    """[B, features] -> [B]."""
    return nn.Sequential(nn.Linear(features, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0))


class WithLabel(nn.Module):
    """A network that is given a label beside its input."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.vector = net, ConditionVector(3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), self.vector(y, x.dtype)], 1))


class OfClasses(Adversarial, Conditional):
    """G(z, y) against D(x, y)."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = WithLabel(to_image(self.latent_dim + 3))
        self.discriminator = WithLabel(
            nn.Sequential(nn.Linear(64 + 3, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0))
        )


class Pairs(nn.Module):
    """D(x, z)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = to_output(64 + 5)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.net(torch.cat([x.flatten(1), z], 1))


class OfPairs(Adversarial, ImagesToLatents):
    """(x, E(x)) against (G(z), z), as a BiGAN has them; the encoder moves in the generator's turn."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator, self.discriminator = to_image(5), Pairs()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 5)
        )

    def players(self) -> dict[str, list[nn.Module]]:
        return {"discriminator": [self.discriminator], "generator": [self.generator, self.encoder]}

    def contestants(self, batch: Batch) -> Contest:
        x, z = self.scaled(batch.x), self._prior_draws(len(batch.x))
        return Contest((x, self.encoder(x)), (self.generator(z), z), (z,))

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        if turn == "discriminator":
            return None, {}
        return -self.judged(contest.real).mean(), {}

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        return self.encoder(self.scaled(x))


class OfCodes(Adversarial):
    """Another network finds a part of z again, as an InfoGAN's does."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = to_image(5)
        self.discriminator = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.LeakyReLU(), nn.Linear(16, 1), nn.Flatten(0)
        )
        self.finder = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    def players(self) -> dict[str, list[nn.Module]]:
        return {"discriminator": [self.discriminator], "generator": [self.generator, self.finder]}

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        if turn == "discriminator":
            return None, {}
        error = (self.finder(contest.fake[0]) - contest.drawn[0][:, :2]).square().mean()
        return error, {"code": error.detach()}


class Spectral(Adversarial):
    """A discriminator whose layers remember a power iteration."""

    def __init__(self, spec: DataSpec, **settings: Any) -> None:
        super().__init__(spec, **settings)
        self.generator = to_image(5)
        first, last = spectral_norm(nn.Linear(64, 16)), spectral_norm(nn.Linear(16, 1))
        self.discriminator = nn.Sequential(nn.Flatten(), first, nn.LeakyReLU(), last, nn.Flatten(0))


def gan(**more: Any) -> Callable[..., Adversarial]:
    plain = {
        "network": "dcgan",
        "channels": 4,
        "dense": 0,
        "hidden": [8],
        "norm": "auto",
        "generator_norm": "auto",
    }
    return lambda spec, **settings: GAN(spec, **{**plain, **settings, **more})


def sngan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"channels": 4, "discriminator_channels": 4, "growth": 1, "spectral": True, "objective": "hinge"}
    return lambda spec, **settings: SNGAN(spec, **{**settings, **plain, **more})


def cgan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"label_by": "concatenation", "network": "auto", "channels": 4, "dense": 0, "hidden": [8]}
    return lambda spec, **settings: CGAN(spec, **{**settings, **plain, **more})


def infogan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"codes": ["digit:3", "slant", "kind:2"], "info_weight": 1.0, "channels": 4, "dense": 6}
    return lambda spec, **settings: InfoGAN(spec, **{**settings, **plain, **more})


def bigan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"network": "mlp", "hidden": [12, 10], "channels": 4, "dense": 6, "encoder_norm": True}
    return lambda spec, **settings: BiGAN(spec, **{**settings, **plain, **more})


def biggan(**more: Any) -> Callable[..., Adversarial]:
    plain = {"channels": 4, "discriminator_channels": 4, "growth": 1, "shared": 3, "attention": 4}
    plain |= {"orthogonal_weight": 1e-3, "start": "orthogonal", "objective": "hinge", "latent_dim": 6}
    return lambda spec, **settings: BigGAN(spec, **{**settings, **plain, **more})


#: All that every member can do, on.
EVERYTHING = {"augment": ["colour", "translation", "cutout"], "r1_weight": 1.0, "r1_every": 2}
MODELS: dict[str, Callable[..., Adversarial]] = {
    "dcgan": gan(),
    "mlp": gan(network="mlp"),
    "wgan_gp": gan(objective="wgan_gp", n_critic=2, latent="uniform"),
    "dcgan, everything": gan(**EVERYTHING),
    "sngan": sngan(),
    "sngan, everything": sngan(**EVERYTHING),
    "cgan": cgan(**EVERYTHING),
    "cgan, mlp": cgan(network="mlp"),
    "cgan, projection": cgan(label_by="projection", objective="hinge"),
    "cgan, residual, wgan_gp": cgan(network="residual", objective="wgan_gp"),
    "infogan": infogan(),
    "infogan, everything": infogan(**EVERYTHING, latent="uniform"),
    "infogan, wgan_gp": infogan(objective="wgan_gp"),
    "bigan": bigan(latent="uniform"),
    "bigan, dcgan": bigan(network="dcgan", **EVERYTHING),
    "bigan, wgan_gp": bigan(objective="wgan_gp", encoder_norm=False),
    "biggan": biggan(),
    "biggan, everything": biggan(**EVERYTHING, start="normal"),
    "of classes": OfClasses,
    "of classes, wgan_gp": lambda spec, **settings: OfClasses(spec, **{**settings, "objective": "wgan_gp"}),
    "of pairs": OfPairs,
    "of codes": OfCodes,
    "spectral": Spectral,
    "spectral, wgan_gp": lambda spec, **settings: Spectral(spec, **{**settings, "objective": "wgan_gp"}),
}
#: Those of p(x|y).
CONDITIONAL = [name for name in MODELS if name.startswith(("of classes", "cgan", "biggan"))]
every_model = pytest.mark.parametrize("name", MODELS)


def made(name: str) -> Adversarial:
    torch.manual_seed(0)
    return MODELS[name](SPEC, **SETTINGS)


def batch(n: int = 6) -> Batch:
    g = torch.Generator().manual_seed(1)
    return Batch(torch.randint(0, 17, (n, 1, 8, 8), generator=g, dtype=torch.uint8), torch.arange(n) % 3)


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


# Conditions


@pytest.mark.parametrize("name", [name for name in CONDITIONAL if name.startswith(("cgan", "biggan"))])
def test_the_fakes_have_the_labels_of_the_data(name: str) -> None:
    """All of one label in the data: all of that label are drawn, in both turns."""
    model, one = made(name), batch()._replace(label=torch.full((6,), 2))
    seen: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[1]))
    for turn in model.turns():
        turn.loss(one, 0)
    assert torch.cat(seen).unique().tolist() == [2]


def test_a_condition_may_be_attributes_or_a_caption() -> None:
    attributes = DataSpec((1, 8, 8), levels=17, attributes=("round", "tall"))
    captions = DataSpec((1, 8, 8), levels=17, vocabulary=("a", "one", "two"), caption_length=2)
    x = batch().x
    for spec, given in (
        (attributes, Batch(x, attributes=torch.rand(6, 2) > 0.5)),
        (captions, Batch(x, caption=torch.randint(0, 4, (6, 2)))),
    ):
        for label_by in ("concatenation", "projection"):
            model = cgan(label_by=label_by)(spec, **SETTINGS)
            for turn in model.turns():
                assert turn.loss(given, 0)[0].isfinite()
            assert model.sample(3).shape == (3, 1, 8, 8)


def test_what_conditional_models_refuse() -> None:
    with pytest.raises(ValueError, match="neither labels nor attributes nor captions"):
        cgan()(DataSpec((1, 8, 8)), **SETTINGS)
    with pytest.raises(ValueError, match=r"model\.network must be auto or residual with model\.label_by"):
        cgan(label_by="projection", network="dcgan")(SPEC, **SETTINGS)
    with pytest.raises(ValueError, match=r"model\.label_by must be one of concatenation, projection"):
        cgan(label_by="bias")(SPEC, **SETTINGS)


# Codes


def test_codes_lie_one_after_the_other_and_are_drawn_from_their_priors() -> None:
    model = made("infogan")
    digit, slant, kind = model.codes  # type: ignore[attr-defined]
    assert (digit.place, slant.place, kind.place) == (slice(5, 8), slice(8, 9), slice(9, 11))
    assert model.latent_dim == 11
    z = model.prior_draws(6000)
    for code in (digit, kind):
        c = z[:, code.place]
        assert set(c.unique().tolist()) == {0.0, 1.0}
        assert (c.sum(1) == 1).all()
        torch.testing.assert_close(c.mean(0), torch.full((code.width,), 1 / code.width), atol=0.03, rtol=0)
    assert z[:, slant.place].abs().max() <= 1
    assert z[:, slant.place].var().item() == pytest.approx(1 / 3, abs=0.02)
    assert z[:, :5].std().item() == pytest.approx(1, abs=0.02)
    seen: list[Tensor] = []
    model.generator.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    model.sample(2000, temperature=0.1)
    assert seen[-1][:, :5].std().item() == pytest.approx(0.1, rel=0.1), "the temperature is of the noise"
    assert seen[-1][:, slant.place].abs().max() > 0.9


def test_the_information_by_hand() -> None:
    """Of a Q that is given: H(c) + E log Q(c|x), and what both players minimise."""
    model = made("infogan").double()
    z = torch.cat([torch.zeros(4, 5), torch.eye(3)[[0, 1, 2, 0]], torch.tensor([[-1.0], [0], [0.5], [1]])], 1)
    z = torch.cat([z, torch.eye(2)[[0, 1, 0, 1]]], 1).double()
    answer = torch.randn(4, 6, dtype=torch.float64)
    model.recogniser.forward = lambda h: answer  # type: ignore[union-attr, method-assign, operator]
    for turn in ("discriminator", "generator"):
        loss, terms = model.extra(turn, batch(), Contest((), (), (z,)), torch.zeros(4, 1))
        log_q = answer[:, :3].log_softmax(1)[torch.arange(4), [0, 1, 2, 0]].mean()
        torch.testing.assert_close(terms["information_digit"], math.log(3) + log_q)
        square = (answer[:, 3] - z[:, 8]).square().mean()
        normal = torch.distributions.Normal(answer[:, 3], square.sqrt())
        torch.testing.assert_close(terms["information_slant"], math.log(2) + normal.log_prob(z[:, 8]).mean())
        log_q_kind = answer[:, 4:].log_softmax(1)[torch.arange(4), [0, 1, 0, 1]].mean()
        torch.testing.assert_close(terms["information_kind"], math.log(2) + log_q_kind)
        assert loss is not None
        torch.testing.assert_close(loss, square / 2 - log_q - log_q_kind)


def test_the_trunk_is_passed_once_for_both_answers() -> None:
    model = made("infogan")
    calls: list[int] = []
    first = next(m for m in model.discriminator.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_hook(lambda *_: calls.append(1))
    model.generator_loss(batch(), 0)
    assert len(calls) == 1
    model.discriminator_loss(batch(), 0)
    assert len(calls) == 3  # real, fake
    found = model.codes_of(batch().x)  # type: ignore[attr-defined]
    torch.testing.assert_close(found["digit"].sum(1), torch.ones(6))
    assert found["slant"].shape == (6, 1)


@pytest.mark.parametrize("codes", [[], ["a", "a"], ["a:1"], ["a:x"], ["a b"], [":3"], ["a:"]])
def test_what_is_no_code_is_refused(codes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"model\.codes must be .*found"):
        codes_named(codes, 0)


# Pairs


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_encoder_minimises_the_mirror_of_the_generators_objective(objective: str) -> None:
    """Where a pair's judgement is turned around, what is said of it is the opposite."""
    output = torch.tensor([-3.0, -0.2, 0.0, 0.7, 4.0], dtype=torch.float64)
    expected = {
        "minimax": output.sigmoid().log().mean(),
        "nonsaturating": -(1 - output.sigmoid()).log().mean(),
        "lsgan": output.square().mean() / 2,
        "hinge": output.mean(),
        "wgan_gp": output.mean(),
    }
    torch.testing.assert_close(OBJECTIVES[objective].encoder(output), expected[objective])


@pytest.mark.parametrize("name", ["bigan", "bigan, dcgan"])
def test_pairs_are_judged_as_pairs(name: str) -> None:
    model = made(name)
    contest = model.contestants(batch())
    assert torch.equal(contest.real[0], model.scaled(batch().x))
    assert torch.equal(contest.fake[1], contest.drawn[0])
    assert contest.real[1].shape == contest.fake[1].shape == (6, 5)
    x = contest.real[0][:1].expand(4, -1, -1, -1)
    with torch.no_grad():
        judged = model.discriminator.eval()(x, torch.randn(4, 5))
    assert len(judged.unique()) == 4, "the latent is looked at"


def test_an_encoders_statistics_are_of_images_and_its_latents_like_the_prior() -> None:
    model = made("bigan").train()
    end = model.encoder[-1]  # type: ignore[index]
    for _ in range(2):
        model.generator_loss(batch(), 0)
    assert end.num_batches_tracked == 2
    model.discriminator_loss(batch(), 0)
    assert end.num_batches_tracked == 2
    z = model.contestants(batch()).real[1]
    torch.testing.assert_close(z.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, correction=0), torch.full((5,), 1 / 3), atol=0.02, rtol=0)
    assert list(model.reconstructions(batch())) == ["image", "reconstruction"]  # type: ignore[attr-defined]
    assert set(model.lacks) == {"eval"}


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

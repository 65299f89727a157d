"""Conditions, codes and encoders of adversarial models."""

from __future__ import annotations

import math

import pytest
import torch
from adversaries import CONDITIONAL, SETTINGS, SPEC, batch, bigan, cgan, made
from torch import Tensor, nn

from gentrain.contracts import (
    Batch,
    DataSpec,
)
from gentrain.models.adversarial.game import Contest
from gentrain.models.adversarial.infogan import codes_named
from gentrain.models.adversarial.objectives import OBJECTIVES

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
        torch.testing.assert_close(loss, 0.5 * square / 2 - log_q - log_q_kind)


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


def test_a_latent_is_told_to_each_layer_but_the_first() -> None:
    """D and G of two hidden layers by hand, as in the authors' code."""
    model = made("bigan").eval()
    x, z = model.scaled(batch().x), model.prior_draws(6)
    for name, buffer in model.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 2)
    weights = dict(model.named_parameters()) | dict(model.named_buffers())

    def layer(net: str, i: int, h: Tensor) -> Tensor:
        return h @ weights[f"{net}.layers.{i}.weight"].T + weights[f"{net}.layers.{i}.bias"]

    def ends(net: str, h: Tensor) -> Tensor:
        return h @ weights[f"{net}.output.weight"].T + weights[f"{net}.output.bias"]

    def told(net: str) -> Tensor:
        return z @ weights[f"{net}.beside.0.weight"].T

    def normed(net: str, i: int, h: Tensor) -> Tensor:
        norm = f"{net}.norms.{i}.running_"
        return (h - weights[f"{norm}mean"]) / (weights[f"{norm}var"] + 1e-5).sqrt()

    leaky = lambda h: torch.where(h > 0, h, 0.2 * h)  # noqa: E731
    with torch.no_grad():
        net = "discriminator.net"
        h = leaky(normed(net, 1, layer(net, 1, leaky(layer(net, 0, x.flatten(1)))) + told(net)))
        torch.testing.assert_close(model.discriminator(x, z), ends(net, h)[:, 0])
        net = "generator.net"
        h = normed(net, 1, layer(net, 1, normed(net, 0, layer(net, 0, z)).relu()) + told(net)).relu()
        torch.testing.assert_close(model.generator(z), ends(net, h).tanh().view(6, *SPEC.shape))


def test_one_hidden_layer_is_told_the_latent_too() -> None:
    model = bigan(hidden=[7])(SPEC, **SETTINGS).eval()
    x, z = model.scaled(batch().x)[:1], model.prior_draws(2)
    assert len(model.discriminator(x.expand(2, -1, -1, -1), z).unique()) == 2
    assert model.sample(3).shape == (3, *SPEC.shape)
    with pytest.raises(ValueError, match="empty list"):
        bigan(hidden=[])(SPEC, **SETTINGS)


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_an_encoder_ends_where_the_prior_lives(network: str) -> None:
    """Within [-1, 1] for a uniform prior, 2 sigmoid(a) - 1; on the whole line for a Gaussian one."""
    uniform, gaussian = (
        bigan(network=network)(SPEC, **{**SETTINGS, "latent": prior}) for prior in ("uniform", "gaussian")
    )
    gaussian.load_state_dict(uniform.state_dict())
    for model in (uniform, gaussian):
        for weight in model.encoder.parameters():  # type: ignore[union-attr]
            weight.data *= 50
        model.eval()
    x = uniform.scaled(batch().x)
    bounded, line = uniform.encoder(x), gaussian.encoder(x)  # type: ignore[operator]
    assert line.abs().max() > 1
    torch.testing.assert_close(bounded, (line / 2).tanh())


def test_an_encoders_statistics_are_of_images() -> None:
    model = made("bigan").train()
    norm = next(layer for layer in model.encoder.modules() if isinstance(layer, nn.BatchNorm1d))  # type: ignore[union-attr]
    for _ in range(2):
        model.generator_loss(batch(), 0)
    assert norm.num_batches_tracked == 2
    model.discriminator_loss(batch(), 0)
    assert norm.num_batches_tracked == 2
    assert list(model.reconstructions(batch())) == ["image", "reconstruction"]  # type: ignore[attr-defined]
    assert set(model.lacks) == {"eval"}

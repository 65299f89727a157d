"""GAN-CLS: which pairs are refused and with what weight, that words are read in order, what lies between."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.word_encoder import WordEncoder
from gentrain.models.adversarial.text_gan import TextGAN, mode_distance

SPEC = DataSpec((1, 8, 8), levels=17, vocabulary=("a", "one", "two", "above"), caption_length=5)
SETTINGS: dict[str, Any] = {
    "latent_dim": 5, "latent": "gaussian", "objective": "nonsaturating", "penalty_weight": 10.0,
    "n_critic": 1, "augment": [], "r1_weight": 0.0, "r1_every": 16, "channels": 4,
    "text": 6, "told": 3, "mismatched": True,
    "both_ways": True,
    "interpolate_weight": 0.0,
    "mode_seeking_weight": 0.0,
}  # fmt: skip


def made(**more: Any) -> TextGAN:
    torch.manual_seed(0)
    return TextGAN(SPEC, **SETTINGS | more).double()


def batch(n: int = 6) -> Batch:
    torch.manual_seed(1)
    y = torch.randint(1, 5, (n, 5))
    y[:, 3:] = 0
    return Batch(torch.randint(0, 17, (n, 1, 8, 8), dtype=torch.uint8), caption=y)


def test_matching_pairs_are_real_and_two_kinds_are_fake_with_half_of_the_weight_each() -> None:
    """Reed et al. 2016, algorithm 1, lines 7 to 10."""
    model, b = made(), batch()
    assert b.caption is not None
    torch.manual_seed(2)
    loss, terms = model.discriminator_loss(b, 0)
    torch.manual_seed(2)
    contest = model.contestants(b)
    x, y = contest.real
    right, fake = model.discriminator(x, y), model.discriminator(*contest.fake)
    wrong = model.discriminator(x, y.roll(-1, 0))
    by_hand = softplus(-right).mean() + (softplus(wrong).mean() + softplus(fake).mean()) / 2
    assert loss.item() == pytest.approx(by_hand.item(), abs=1e-10)
    assert terms["d_refused"].item() == pytest.approx(wrong.sigmoid().mean().item())
    loss, terms = made(mismatched=False).discriminator_loss(b, 0)
    assert "d_refused" not in terms


def test_captions_are_read_once_a_turn_and_learnt_from_in_all_pairs() -> None:
    model, b = made(), batch()
    calls = []
    model.discriminator.told.register_forward_hook(lambda *_: calls.append(1))
    model.discriminator_loss(b, 0)[0].backward()
    assert len(calls) == 1
    grown = model.discriminator.told.encoder.words.weight.grad
    assert grown is not None
    assert (grown[1:].abs().sum(1) > 0).all()
    assert not grown[0].any(), "padding says nothing"
    model.generator_loss(b, 0)[0].backward()
    assert len(calls) == 2, "what was read does not outlive its turn"


@pytest.mark.parametrize("both_ways", [False, True])
def test_words_are_read_in_order_and_padding_not_at_all(both_ways: bool) -> None:
    torch.manual_seed(0)
    reads = WordEncoder(4, 6, both_ways).double()
    y = torch.tensor([[2, 4, 3, 0, 0], [3, 4, 2, 0, 0]])
    found = reads(y)
    assert not torch.allclose(found[0], found[1]), "one above two is not two above one"
    assert torch.allclose(reads(y[:, :3]), found)
    assert torch.allclose(reads(y[None]), found.mean(0)), "of several the mean"
    assert torch.isfinite(reads(torch.zeros(1, 5, dtype=torch.int64))).all()


def test_words_read_both_ways_are_those_of_a_bidirectional_unit() -> None:
    torch.manual_seed(0)
    reads = WordEncoder(4, 6, both_ways=True).double()
    assert reads.reads_backwards is not None
    oracle = nn.GRU(6, 3, batch_first=True, bidirectional=True).double()
    forwards = dict(reads.reads.named_parameters())
    backwards = {f"{name}_reverse": value for name, value in reads.reads_backwards.named_parameters()}
    oracle.load_state_dict({**forwards, **backwards})
    captions = [[2, 4, 3], [3, 4, 2, 1, 1], [4]]
    y = torch.tensor([caption + [0] * (5 - len(caption)) for caption in captions])
    for found, caption in zip(reads(y), captions, strict=True):
        states, _ = oracle(reads.words(torch.tensor([caption])))
        assert torch.allclose(found, states[0].mean(0))


def test_the_generator_also_makes_what_lies_between_two_captions() -> None:
    """Reed et al. 2016, equation 5, with beta = 1/2."""
    b = batch()
    torch.manual_seed(2)
    plain, _ = made().generator_loss(b, 0)
    torch.manual_seed(2)
    more, terms = made(interpolate_weight=0.7).generator_loss(b, 0)
    assert more.item() == pytest.approx((plain + 0.7 * terms["between"]).item())
    model = made(interpolate_weight=1.0)
    assert b.caption is not None
    two = torch.stack([b.caption, b.caption.roll(1, 0)], 1)
    told = model.generator.told
    halves = told.small((told.encoder(b.caption) + told.encoder(b.caption.roll(1, 0))) / 2)
    assert torch.allclose(told(two), halves)


def test_fakes_of_one_caption_are_rewarded_for_lying_apart() -> None:
    """Mao et al. 2019: what the generator minimises besides falls as they do."""
    z, z2 = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[2.0, 0.0], [1.0, -3.0]])
    x, x2 = torch.zeros(2, 1, 1, 2), torch.tensor([[[[0.5, 0.5]]], [[[1.0, 0.0]]]])
    assert mode_distance(x, x2, z, z2).item() == pytest.approx((0.5 / 1 + 0.5 / 2) / 2)
    b = batch()
    bare, model = made(), made(mode_seeking_weight=0.7)
    torch.manual_seed(2)
    plain, terms = bare.generator_loss(b, 0)
    assert "apart" not in terms
    torch.manual_seed(2)
    more, terms = model.generator_loss(b, 0)
    assert more.item() == pytest.approx((plain + 0.7 / (terms["apart"] + 1e-5)).item())
    of_plain, of_more, of_apart = (
        torch.autograd.grad(loss, list(net.generator.net.parameters()), retain_graph=True)
        for net, loss in ((bare, plain), (model, more), (model, terms["apart"]))
    )
    slope = -0.7 / (terms["apart"] + 1e-5) ** 2
    torch.manual_seed(2)
    contest = model.contestants(b)
    (z,), y = contest.drawn, contest.real[1]
    other = model._prior_draws(6, y)
    expected = mode_distance(contest.fake[0], model.generator(other, y), z, other)
    by_hand = torch.autograd.grad(expected, list(model.generator.net.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(of_apart, by_hand, strict=True)), "either fake learns"
    for found, without, apart in zip(of_more, of_plain, of_apart, strict=True):
        assert torch.allclose(found, without + slope * apart)
    model = made(mode_seeking_weight=0.7, interpolate_weight=0.3)
    torch.manual_seed(2)
    both, terms = model.generator_loss(b, 0)
    parts = plain + 0.3 * terms["between"] + 0.7 / (terms["apart"] + 1e-5)
    assert both.item() == pytest.approx(parts.item())


def test_captions_of_the_data_are_remembered() -> None:
    model, b = made(), batch()
    model.data_dependent_init(b)
    assert b.caption is not None
    assert torch.equal(model.in_turn(8), b.caption[[0, 1, 2, 3, 4, 5, 0, 1]])
    assert model.sample(3).shape == (3, 1, 8, 8)
    copy = made()
    copy.load_state_dict(model.state_dict())
    assert torch.equal(copy.in_turn(8), model.in_turn(8))


def test_images_without_captions_are_refused() -> None:
    with pytest.raises(ValueError, match="no captions to condition on"):
        TextGAN(DataSpec((1, 8, 8), levels=17, classes=3), **SETTINGS)

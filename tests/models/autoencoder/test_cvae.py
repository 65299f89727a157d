import math

import pytest
import torch
from enumerating import all_images, images, vivid
from surviving import survives
from torch.distributions import Normal

from gentrain.contracts import Batch, DataSpec, ImagesToLatents
from gentrain.models.autoencoder.cvae import CVAE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17, classes=10)
TINY = DataSpec(shape=(1, 2, 2), levels=2, classes=3)
FACES = DataSpec(shape=(1, 2, 2), levels=2, attributes=("Male", "Eyeglasses"))


def cvae(spec=DIGITS, **settings):
    defaults = {
        "network": "mlp",
        "latent_dim": 3,
        "channels": [],
        "hidden": [8],
        "activation": "tanh",
        "dropout": 0.0,
        "likelihood": "auto",
        "mixtures": 2,
        "sample_pixels": False,
    }
    return CVAE(spec, **defaults | settings)


def labels(*values):
    return torch.tensor(values, dtype=torch.int64)


#: Every condition of the two small data sets, as a label of one image.
CONDITIONS = {
    "labels": (TINY, torch.arange(3)),
    "attributes": (FACES, torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.bool)),
}
EITHER = pytest.mark.parametrize("which", CONDITIONS)


def tiny(which, **settings):
    torch.manual_seed(0)
    spec, conditions = CONDITIONS[which]
    model = vivid(cvae(spec, latent_dim=1, **settings), gain=1.5)
    with torch.no_grad():  # a broad q(z|x, y), under which importance sampling converges
        for p in model.encoder.encoder.parameters():
            p.mul_(0.4)
    return model, all_images(spec), conditions


@torch.no_grad()
def integrated_log_p(model, x, label):
    """log p(x|label) of each image under one label, by the trapezoidal rule."""
    z = torch.linspace(-12, 12, 3001, dtype=torch.float64)
    y = label.expand(len(z), *label.shape)
    p = model._likelihood(z[:, None], y)
    log_joint = torch.stack([p.log_prob(one) + Normal(0.0, 1.0).log_prob(z) for one in x])  # [B, 3001]
    return torch.logsumexp(log_joint, 1) + math.log(z[1] - z[0])


# The paper's mathematics


@EITHER
def test_the_probabilities_of_all_images_sum_to_one_for_each_condition(which):
    model, x, conditions = tiny(which)
    tables = torch.stack([integrated_log_p(model, x, one).exp() for one in conditions])
    torch.testing.assert_close(tables.sum(1), torch.ones(len(conditions), dtype=torch.float64))
    for i in range(len(tables)):
        for j in range(i):
            assert (tables[i] - tables[j]).abs().max() > 0.02  # the condition matters


@EITHER
def test_the_loss_is_minus_the_elbo_given_the_condition(which):
    model, x, conditions = tiny(which)
    x = x[:4]
    given = conditions[torch.tensor([2, 0, 1, 2])]
    batch = Batch(x, given) if which == "labels" else Batch(x, None, given)
    torch.manual_seed(1)
    loss, terms = model.loss(batch, 0)
    torch.manual_seed(1)
    y = torch.eye(3, dtype=torch.float64)[given] if which == "labels" else given.double()
    channel = model.encoder.embedding(y)
    mu, log_sigma = model.encoder.encoder(torch.cat([2.0 * x - 1, channel], 1)).chunk(2, 1)
    sigma = (7 * torch.tanh(log_sigma / 7)).exp()
    z = mu + sigma * torch.randn_like(mu)
    logits = model.decoder.decoder(torch.cat([z, y], 1))
    reconstruction = -torch.distributions.Bernoulli(logits=logits).log_prob(x.double()).flatten(1).sum(1)
    kl = -0.5 * (1 + sigma.square().log() - mu.square() - sigma.square()).sum(1)
    torch.testing.assert_close(loss, (reconstruction + kl).mean())
    torch.testing.assert_close(terms["kl"], kl.mean())


@EITHER
def test_bounds_are_bounds_on_the_conditional_and_labels_stay_with_their_images(which, monkeypatch):
    model, x, conditions = tiny(which)
    torch.manual_seed(4)
    x = x[torch.randint(len(x), (len(conditions),))]
    log_p = torch.cat([integrated_log_p(model, a[None], b) for a, b in zip(x, conditions, strict=True)])
    repeats = 1500
    many = x.repeat_interleave(repeats, 0), conditions.repeat_interleave(repeats, 0)
    means, errors = [], []
    for samples in (None, 1, 8):
        bound, kind = model.log_likelihood(many[0], samples, condition=many[1])
        assert kind == f"{'ELBO' if samples is None else f'IWAE-{samples}'} given {which}"
        means.append(bound.view(-1, repeats).mean(1))
        errors.append(bound.view(-1, repeats).std(1) / repeats**0.5)
    assert ((means[0] - means[1]).abs() < 5 * (errors[0] + errors[1])).all()
    assert (means[0] + 3 * errors[0] < means[2]).all()
    assert (means[2] < log_p + 5 * errors[2]).all()
    for pairs in (10**6, 50):  # in one piece, and many
        monkeypatch.setattr(model, "at_once", lambda *_, pairs=pairs, **__: pairs)
        tight, _ = model.log_likelihood(x, 20_000, condition=conditions)
        torch.testing.assert_close(tight, log_p, atol=0.03, rtol=0)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_encoder_and_decoder_both_see_the_label(network):
    torch.manual_seed(0)
    model = cvae(network=network, channels=[4, 6])
    x = images(DIGITS, 1).expand(10, -1, -1, -1)
    y = torch.arange(10)
    assert len(model._posterior(x, y).mean.unique(dim=0)) == 10
    assert len(model._likelihood(torch.zeros(10, 3), y).log_prob(x).unique()) == 10


# Sampling


@EITHER
def test_pixels_drawn_follow_the_model_given_the_condition(which):
    model, x, conditions = tiny(which, sample_pixels=True)
    n = 15_000
    for one in conditions:
        drawn = model.sample(n, condition=one)
        p = integrated_log_p(model, x, one).exp()
        seen = (drawn[:, None] == x).flatten(2).all(2).double().mean(0)
        assert ((seen - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


@pytest.mark.parametrize("pairs", [3, 1000])
def test_without_a_label_all_are_drawn_in_turn(pairs):
    for spec, count in ((DIGITS, 10), (FACES, 2)):
        model = cvae(spec)
        seen = []
        model.decoder.register_forward_hook(lambda _m, inputs, _o, seen=seen: seen.append(inputs[1]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(model, "at_once", lambda *_, **__: pairs)
            drawn = model.sample(23)
        assert drawn.shape == (23, *spec.shape)
        assert drawn.dtype == torch.uint8
        assert max(map(len, seen)) <= pairs
        in_turn = torch.arange(23) % count
        expected = in_turn if spec is DIGITS else torch.eye(count, dtype=torch.bool)[in_turn]
        assert torch.equal(torch.cat(seen), expected)


def test_reconstructions_take_the_labels_of_the_batch():
    torch.manual_seed(0)
    model = cvae()
    x, label = images(DIGITS, 5), labels(3, 1, 4, 1, 5)
    shown = model.reconstructions(Batch(x, label))
    assert list(shown) == ["image", "reconstruction"]
    assert shown["image"] is x
    y = label
    by_hand = model._likelihood(model._posterior(x, y).mean, y).mean.round().to(torch.uint8)
    assert torch.equal(shown["reconstruction"], by_hand)
    with pytest.raises(ValueError, match="needs the label of every image"):
        model.reconstructions(Batch(x))


def test_latents_are_shown_with_another_label():
    torch.manual_seed(0)
    model = vivid(cvae())
    assert isinstance(model, ImagesToLatents)
    assert set(model.lacks) == {"probe"}
    x, label = images(DIGITS, 4), labels(3, 1, 4, 1)
    z = model.images_to_latents(x, condition=label)
    torch.testing.assert_close(z, model.encode(x, condition=label).mean)
    own, other = (model.latents_to_images(z, condition=y) for y in (label, labels(7)[0]))
    assert torch.equal(own, model.reconstructions(Batch(x, label))["reconstruction"])
    assert not torch.equal(own, other)
    assert model.decode(z, condition=label).event_shape == (1, 8, 8)
    with pytest.raises(ValueError, match="needs the label"):
        model.images_to_latents(x)


def test_captions_are_taken_where_there_is_nothing_else():
    spec = DataSpec((1, 8, 8), levels=17, vocabulary=("a", "cat", "dog"), caption_length=2)
    model = cvae(spec)
    assert model.condition.name == "caption"
    assert model.sample(4).shape == (4, 1, 8, 8)
    drawn = model.loss(Batch(images(spec, 2), caption=torch.tensor([[1, 2], [3, 0]])), 0)[0]
    assert drawn.isfinite()


# Mistakes


@pytest.mark.parametrize(
    ("spec", "label"),
    [
        (DIGITS, labels(0, 10)),
        (DIGITS, labels(-1, 3)),
        (DIGITS, labels(1)),
        (DIGITS, torch.zeros(2, 10, dtype=torch.bool)),
        (DIGITS, torch.zeros(2)),
        (FACES, labels(0, 1)),
        (FACES, torch.zeros(2, 3, dtype=torch.bool)),
        (FACES, torch.zeros(2, 2)),
    ],
)
def test_labels_that_the_data_do_not_have_are_refused(spec, label):
    model = cvae(spec)
    name = "label" if spec is DIGITS else "attributes"
    with pytest.raises(ValueError, match=f"{name} must be"):
        model.sample(2, condition=label)
    with pytest.raises(ValueError, match=f"{name} must be"):
        model.log_likelihood(images(spec, 2), condition=label)


def test_other_mistakes_are_refused():
    model = cvae()
    x = images(DIGITS, 2)
    for work in (lambda: model.log_likelihood(x), lambda: model.loss(Batch(x), 0)):
        with pytest.raises(ValueError, match="needs the label of every image"):
            work()
    with pytest.raises(ValueError, match=r"^dataset: .*neither labels nor attributes.*model=vae"):
        cvae(DataSpec(shape=(1, 8, 8), levels=17))
    for setting, value in (("latent_dim", 0), ("hidden", []), ("network", "unet"), ("mixtures", 0)):
        with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
            cvae(**{setting: value})


@pytest.mark.parametrize("settings", [{}, {"network": "conv", "channels": [4, 6]}])
def test_it_survives(settings):
    survives(lambda: cvae(**settings), Batch(images(DIGITS, 10), torch.arange(10)))


def test_it_survives_attributes():
    attributes = torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0]], dtype=torch.bool)
    survives(lambda: cvae(FACES), Batch(images(FACES, 4), attributes=attributes))

import itertools

import pytest
import torch
from enumerating import all_images, images
from surviving import survives

from gentrain.contracts import Batch, DataSpec, EncodesDecodes, HasLikelihood
from gentrain.models.autoencoder.dae import DAE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
PAIR = DataSpec(shape=(1, 1, 2), levels=2)


def dae(spec=DIGITS, **settings):
    defaults = {
        "network": "mlp",
        "latent_dim": 6,
        "channels": [],
        "hidden": [8],
        "activation": "tanh",
        "corruption": "salt_and_pepper",
        "level": 0.3,
        "walkback": 1,
        "chain_steps": 3,
        "likelihood": "auto",
        "mixtures": 2,
        "sample_pixels": True,
    }
    return DAE(spec, **defaults | settings)


def train(model, x, steps, lr):
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.02, steps)
    for step in range(steps):
        loss, _ = model.loss(Batch(x), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


# The chain


def transitions(model, x):
    """T[i, j], the probability of x_j after x_i, by summing over every corrupted image; masking or salt."""
    level = {"masking": (0.4, 0.0), "salt_and_pepper": (0.2, 0.2)}
    to_zero, to_one = level[model.kind]
    keep = 1 - to_zero - to_one
    corrupted = torch.tensor(list(itertools.product([0.0, 1.0], repeat=2)), dtype=torch.float64)
    chance = torch.ones(len(x), len(corrupted), dtype=torch.float64)
    for i, j, d in itertools.product(range(len(x)), range(len(corrupted)), range(2)):
        now, then = x[i].flatten()[d].item(), corrupted[j, d].item()
        chance[i, j] *= (to_one if then else to_zero) + keep * (now == then)
    restored = torch.stack(
        [
            torch.cat([model.restore(c.view(1, 1, 1, 2)).log_prob(one[None]) for one in x]).exp()
            for c in corrupted
        ]
    )
    return (chance @ restored).detach()  # [4, 4]


@pytest.mark.parametrize("kind", ["masking", "salt_and_pepper"])
def test_the_chain_has_the_distribution_of_its_transition_matrix(kind):
    torch.manual_seed(1)
    x = all_images(PAIR)
    model = dae(PAIR, corruption=kind, level=0.4).double()
    model.kind = kind
    data = x.repeat_interleave(torch.tensor([50, 5, 15, 30]), 0)  # learnt, the chain stays for a while
    train(model, data, steps=60, lr=0.03)
    matrix = transitions(model, x)
    torch.testing.assert_close(matrix.sum(1), torch.ones(4, dtype=torch.float64))
    n = 40_000

    def seen(steps):
        model.chain_steps = steps
        drawn = model.sample(n)
        return (drawn[:, None] == x).flatten(2).all(2).double().mean(0)

    def near(found, p):
        return ((found - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()

    start = torch.full((4,), 0.25, dtype=torch.float64)  # uniform noise
    for steps in (1, 2):
        assert near(seen(steps), start @ torch.matrix_power(matrix, steps))
    values, vectors = torch.linalg.eig(matrix.T)
    at = (values - 1).abs().argmin()
    stationary = (vectors[:, at] / vectors[:, at].sum()).real
    assert (stationary - start @ matrix).abs().max() > 0.03  # not reached at once
    assert near(seen(40), stationary)


def test_trained_it_samples_the_distribution_of_the_data():
    """Theorem 1 of Bengio et al. 2013, where p(x|x~) can be learnt exactly: one pixel of three levels."""
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, 1, 1), levels=3)
    p = torch.tensor([0.6, 0.1, 0.3])
    data = torch.repeat_interleave(torch.arange(3), (p * 1000).round().long()).to(torch.uint8)
    model = dae(spec, likelihood="categorical", level=0.6, hidden=[16], chain_steps=30)
    train(model, data.view(-1, 1, 1, 1), steps=300, lr=0.03)
    drawn = model.sample(20_000).flatten().long()
    seen = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(seen, p, atol=0.04, rtol=0)


def test_pixels_drawn_or_their_mean(monkeypatch):
    torch.manual_seed(0)
    model = dae(sample_pixels=False)
    drawn = dae(sample_pixels=True)
    drawn.load_state_dict(model.state_dict())
    calls = []
    real = DAE.restore
    monkeypatch.setattr(DAE, "restore", lambda self, c: calls.append(real(self, c)) or calls[-1])
    model.sample(2)  # measured
    calls.clear()
    torch.manual_seed(1)
    means = model.sample(5)
    assert torch.equal(means, calls[-1].mean.round().to(torch.uint8))
    assert len(calls) == 3  # chain_steps
    drawn.sample(2)
    del calls[3:]
    torch.manual_seed(1)
    states = drawn.sample(5)
    assert not torch.equal(states, means)
    for a, b in zip(calls[:3], calls[3:], strict=True):  # the same chains, seen differently
        assert torch.equal(a.mean, b.mean)


def test_chunks_are_bounded(monkeypatch):
    model = dae()
    monkeypatch.setattr(model, "at_once", lambda *_, **__: 3)
    sizes = []
    model.decoder.register_forward_hook(lambda _m, _i, out: sizes.append(len(out)))
    assert model.sample(7).shape == (7, 1, 8, 8)
    assert sizes == [3] * 6 + [1] * 3


# Training


def test_the_loss_restores_the_clean_image_from_the_corrupted_one():
    torch.manual_seed(0)
    model = dae()
    x = images(DIGITS, 6)
    torch.manual_seed(2)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(2)
    u = torch.rand(x.shape)
    corrupted = x / 16
    corrupted[u < 0.3] = 1.0
    corrupted[u < 0.15] = 0.0
    p = model.restore(corrupted)
    torch.testing.assert_close(loss, -p.base_dist.log_prob(x).flatten(1).sum(1).mean())
    torch.testing.assert_close(terms["first"], loss.detach())
    torch.testing.assert_close(terms["last"], loss.detach())


def test_walkback_goes_along_the_chain_and_always_asks_for_the_clean_image():
    torch.manual_seed(0)
    model = dae(walkback=3)
    x = images(DIGITS, 6)
    torch.manual_seed(2)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(2)
    state, errors = x, []
    for _ in range(3):
        p = model.restore(model.corrupt(state))
        errors.append(-p.log_prob(x).mean())
        state = p.sample() if len(errors) < 3 else None
    torch.testing.assert_close(loss, sum(errors) / 3)
    assert terms["first"] == errors[0]
    assert terms["last"] == errors[-1]
    assert errors[0] != errors[1]
    assert all(not term.requires_grad for term in terms.values())


@pytest.mark.parametrize("settings", [{"walkback": 2}, {"network": "conv", "channels": [4, 6]}])
def test_it_survives(settings):
    survives(lambda: dae(**settings), Batch(images(DIGITS, 8)), rel=0.1 if "walkback" in settings else 0.02)


# What commands ask for


@pytest.mark.parametrize("kind", ["masking", "gaussian", "salt_and_pepper"])
def test_reconstructions_are_corrupted_restored_clean(kind):
    torch.manual_seed(0)
    spec = DataSpec(shape=(3, 8, 8), levels=256)
    model = dae(spec, corruption=kind)
    x = images(spec, 4)
    torch.manual_seed(1)
    shown = model.reconstructions(Batch(x))
    assert list(shown) == ["corrupted", "restored", "clean"]
    assert all(part.dtype == torch.uint8 and part.shape == x.shape for part in shown.values())
    assert shown["clean"] is x
    torch.manual_seed(1)
    corrupted = model.corrupt(x)
    cut = (corrupted.clamp(0, 1) * 255).round().to(torch.uint8)
    assert torch.equal(shown["corrupted"], cut)
    assert not torch.equal(cut, x)
    assert torch.equal(shown["restored"], model.restore(corrupted).mean.round().to(torch.uint8))


def test_latents_are_the_code_of_the_clean_image():
    torch.manual_seed(0)
    model = dae()
    x = images(DIGITS, 4)
    z = model.images_to_latents(x)
    assert z.shape == (4, model.latent_dim) == (4, 6)
    again = model.latents_to_images(z)
    assert torch.equal(again, model.restore(x / 16).mean.round().to(torch.uint8))
    assert model.latent_prior == "none"
    assert not isinstance(model, (HasLikelihood, EncodesDecodes))
    assert "no density" in model.lacks["eval"]


def test_a_temperature_and_wrong_settings_are_refused():
    model = dae()
    with pytest.raises(ValueError, match=r"temperature must be 1, found 0\.5"):
        model.sample(1, temperature=0.5)
    for setting, value in (
        ("latent_dim", 0),
        ("walkback", 0),
        ("chain_steps", 0),
        ("level", 2.0),
        ("corruption", "blur"),
        ("likelihood", "gauss"),
        ("network", "unet"),
    ):
        with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
            dae(**{setting: value})

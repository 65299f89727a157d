import math
from functools import partial

import pytest
import torch
from enumerating import all_images, images, vivid
from hypothesis import given, settings
from hypothesis import strategies as st
from latent_variables import CONV, DIGITS, TINY, integrated_log_p, vae
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.gaussian import LOG_SIGMA_BOUND

conv_vae = partial(vae, base=CONV)
mlp_vae = partial(vae, hidden=[8, 7])


BOTH = pytest.mark.parametrize("build", [conv_vae, mlp_vae])


# The paper's mathematics


@BOTH
@pytest.mark.parametrize(("levels", "likelihood"), [(2, "auto"), (17, "auto"), (5, "categorical")])
def test_loss_is_minus_the_elbo_by_hand(build, levels, likelihood):
    torch.manual_seed(0)
    spec = DataSpec(shape=(2, 9, 8), levels=levels)
    model = build(spec, likelihood=likelihood)
    x = images(spec, 5)
    torch.manual_seed(3)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(3)
    q = model.encode(x)
    mu, sigma = q.mean, q.stddev
    z = mu + sigma * torch.randn_like(mu)  # reparametrised
    base = model.decode(z).base_dist
    reconstruction = -base.log_prob(x).flatten(1).sum(1)
    kl = -0.5 * (1 + sigma.square().log() - mu.square() - sigma.square()).sum(1)  # appendix B
    torch.testing.assert_close(loss, (reconstruction + kl).mean())
    assert set(terms) == {"reconstruction", "kl"}
    torch.testing.assert_close(terms["reconstruction"], reconstruction.mean())
    torch.testing.assert_close(terms["kl"], kl.mean())
    assert not any(term.requires_grad for term in terms.values())


def test_kl_is_the_closed_form_and_its_monte_carlo_estimate():
    torch.manual_seed(0)
    model = vivid(mlp_vae(), gain=1.5)
    x = images(DIGITS, 4)
    q = model.encode(x)
    _, kl = model.elbo_terms(x)
    standard = Independent(Normal(torch.zeros(4, 3), torch.ones(4, 3)), 1)
    torch.testing.assert_close(kl, kl_divergence(q, standard).double())
    z = q.sample((100_000,))
    ratio = q.log_prob(z) - standard.log_prob(z)
    assert ((ratio.mean(0) - kl).abs() < 5 * ratio.std(0) / len(z) ** 0.5).all()


def test_gradients_through_the_draw_equal_finite_differences():
    torch.manual_seed(0)
    model = vivid(mlp_vae(TINY, latent_dim=1, hidden=[3]), gain=1.0)
    x = images(TINY, 2)

    def loss(*parameters):
        torch.manual_seed(1)
        named = dict(zip(dict(model.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(Loss(model), {f"model.{k}": v for k, v in named.items()}, (x,))

    assert torch.autograd.gradcheck(loss, [p.detach().requires_grad_() for p in model.parameters()])


class Loss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.loss(Batch(x), 0)[0]


# Likelihoods


@pytest.mark.parametrize(("levels", "likelihood"), [(2, "auto"), (3, "logistic_mixture"), (3, "categorical")])
def test_the_probabilities_of_all_images_sum_to_one(levels, likelihood):
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, 2, 2), levels=levels)
    model = vivid(mlp_vae(spec, latent_dim=1, likelihood=likelihood))
    x = all_images(spec)
    assert len(x) == levels**4
    for z in (-2.0, 0.0, 1.5):
        p_x_given_z = model.decode(torch.full((len(x), 1), z)).log_prob(x).exp()
        assert p_x_given_z.sum().item() == pytest.approx(1, abs=1e-10)
        assert p_x_given_z.max() > 2 / len(x)  # not uniform


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 9),
    hidden=st.integers(1, 12),
    count=st.integers(1, 5),
    samples=st.integers(1, 40),
    pairs=st.integers(1, 60),
    likelihood=st.sampled_from(["bernoulli", "logistic_mixture", "categorical"]),
)
def test_the_bound_is_that_of_the_log_weights_of_the_same_noise(
    height, hidden, count, samples, pairs, likelihood
):
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, height, 5), levels=2)
    model = vivid(mlp_vae(spec, hidden=[hidden], likelihood=likelihood).double())
    x = images(spec, count)
    q, noise = model._posterior(x), torch.randn(samples, count, 3, dtype=torch.float64)
    z = (q.mean + q.stddev * noise).detach()
    p = model.decode(z.flatten(0, 1))  # with gradient: torch's own operations
    log_w = p.log_prob(x.repeat(samples, 1, 1, 1)).unflatten(0, (samples, count))
    expected = (log_w + model.prior().log_prob(z) - q.log_prob(z)).logsumexp(0) - math.log(samples)
    used = torch.zeros(count, dtype=torch.int64)

    def given_noise(self, shape):
        first = int((used < samples).nonzero()[0])
        at = slice(first, first + self.batch_shape[0])
        start = int(used[first])
        used[at] += shape[0]
        return self.mean + self.stddev * noise[start : start + shape[0], at]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "at_once", lambda *_, **__: pairs)
        patch.setattr(Independent, "rsample", given_noise)
        found, _ = model.log_likelihood(x, samples=samples)
    assert (used == samples).all()
    assert not found.is_inference()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-10, atol=1e-10)


# Encoding, decoding, sampling


def test_two_levels_are_split_at_a_half():
    model = mlp_vae(TINY)
    z = torch.randn(50, 3)
    assert torch.equal(model.latents_to_images(z), (model.decode(z).mean > 0.5).to(torch.uint8))


# Construction


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(8, 23),
    width=st.integers(8, 23),
    levels=st.integers(2, 256),
    stages=st.integers(1, 4),
)
def test_any_image_of_eight_pixels_and_more_fits(channels, height, width, levels, stages):
    spec = DataSpec(shape=(channels, height, width), levels=levels)
    model = conv_vae(spec, channels=[3, 4, 5, 6][:stages])
    x = images(spec, 2)
    loss, _ = model.loss(Batch(x), 0)
    loss.backward()
    assert loss.isfinite()
    assert loss > 0  # discrete: no probability is above one
    assert model.sample(2).shape == x.shape


@pytest.mark.parametrize("shape", [(1, 7, 28), (3, 28, 7)])
def test_images_too_small_are_refused(shape):
    with pytest.raises(ValueError, match=rf"images are {shape[1]}x{shape[2]}, .*8x8.* dataset\.image_size=8"):
        conv_vae(DataSpec(shape=shape))
    assert mlp_vae(DataSpec(shape=(1, 1, 1))).sample(1).shape == (1, 1, 1, 1)


@pytest.mark.parametrize(
    ("build", "setting", "value"),
    [
        (conv_vae, "latent_dim", 0),
        (conv_vae, "hidden", 0),
        (conv_vae, "channels", []),
        (conv_vae, "channels", [8, 0]),
        (conv_vae, "dropout", 1.0),
        (conv_vae, "activation", "sine"),
        (conv_vae, "likelihood", "bernoulli"),
        (conv_vae, "mixtures", 0),
        (mlp_vae, "latent_dim", 0),
        (mlp_vae, "hidden", []),
        (mlp_vae, "hidden", [-3]),
        (mlp_vae, "activation", "sine"),
        (mlp_vae, "likelihood", "gauss"),
        (mlp_vae, "mixtures", 0),
    ],
)
def test_settings_out_of_range_are_named(build, setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
        build(**{setting: value})


# Training


def test_wild_encoder_outputs_stay_finite_and_a_bound():
    torch.manual_seed(0)
    model = mlp_vae(TINY, latent_dim=1)
    x = images(TINY, 200)
    with torch.no_grad():
        for wild in (60_000.0, -60_000.0):  # near the largest float16
            model.encoder[1][-1].bias[1] = wild
            q = model.encode(x)
            assert q.stddev.log().abs().max() <= LOG_SIGMA_BOUND + 1e-4
            reconstruction, kl = model.elbo_terms(x)
            assert reconstruction.isfinite().all()
            assert kl.isfinite().all()
            log_p = integrated_log_p(model.double(), x)
            assert -(reconstruction + kl).mean() < log_p.mean()
            model.float()


def test_a_few_steps_on_real_digits_teach_it_something():
    torch.manual_seed(0)
    x = torch.tensor(load_digits().images[:256, None]).to(torch.uint8)
    model = conv_vae(channels=[16, 32], hidden=64, latent_dim=8)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(80):
        loss, _ = model.loss(Batch(x), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 64 * math.log(17) * 1.1  # starts about as good as knowing nothing
    assert losses[-1] < 0.75 * losses[0]

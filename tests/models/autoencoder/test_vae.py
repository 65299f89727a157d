import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import Independent, Normal, kl_divergence

from gentrain.contracts import Batch, DataSpec, chunks
from gentrain.layers.gaussian import LOG_SIGMA_BOUND
from gentrain.models.autoencoder.vae import VAE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
TINY = DataSpec(shape=(1, 2, 2), levels=2)


def conv_vae(spec=DIGITS, **settings):
    defaults = {
        "latent_dim": 3,
        "channels": [4, 6],
        "hidden": 8,
        "activation": "silu",
        "dropout": 0.0,
        "likelihood": "auto",
        "mixtures": 2,
        "sample_pixels": False,
    }
    return VAE(spec, **{"network": "conv"} | defaults | settings)


def mlp_vae(spec=DIGITS, **settings):
    defaults = {
        "latent_dim": 3,
        "hidden": [8, 7],
        "activation": "tanh",
        "likelihood": "auto",
        "mixtures": 2,
        "sample_pixels": False,
    }
    return VAE(spec, **{"network": "mlp", "channels": [], "dropout": 0.0} | defaults | settings)


BOTH = pytest.mark.parametrize("build", [conv_vae, mlp_vae])


def images(spec, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8)


def all_images(spec):
    every = itertools.product(range(spec.levels), repeat=spec.dims)
    return torch.tensor(list(every), dtype=torch.uint8).view(-1, *spec.shape)


def vivid(model, gain=3.0):
    """The model in float64 with larger weights, so that p(x|z) and q(z|x) depend on their conditions."""
    model = model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(gain).add_(0.3 * torch.randn_like(p))
    return model


def integrated_log_p(model, x):
    """log p(x) with one latent dimension, by the trapezoidal rule."""
    z = torch.linspace(-12, 12, 6001, dtype=torch.float64)
    log_joint = torch.stack(
        [
            model.decode(z[:, None]).log_prob(one.expand(len(z), *one.shape)) + Normal(0.0, 1.0).log_prob(z)
            for one in x
        ]
    )  # [B, 6001]
    return torch.logsumexp(log_joint, 1) + math.log(z[1] - z[0])


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


@BOTH
def test_every_parameter_gets_a_gradient(build):
    torch.manual_seed(0)
    model = build()
    model.loss(Batch(images(DIGITS, 8)), 0)[0].backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


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
    with torch.no_grad():
        assert integrated_log_p(model, x).exp().sum().item() == pytest.approx(1, abs=1e-8)


def test_bounds_rise_with_samples_and_stay_below_the_integral():
    torch.manual_seed(2)
    model = vivid(mlp_vae(TINY, latent_dim=1), gain=2.0)
    x = images(TINY, 3, seed=5)
    repeats = 4000
    many = x.repeat_interleave(repeats, 0)
    log_p = integrated_log_p(model, x).detach()
    means, errors = [], []
    for k in (None, 1, 5, 50):
        bound, kind = model.log_likelihood(many, samples=k)
        assert kind == ("ELBO" if k is None else f"IWAE-{k}")
        bound = bound.view(3, repeats)
        means.append(bound.mean(1))
        errors.append(bound.std(1) / repeats**0.5)
    elbo, one, five, fifty = means
    # One sample gives the ELBO, whether its KL is in closed form or drawn.
    assert ((elbo - one).abs() < 5 * (errors[0] + errors[1])).all()
    assert (one + 5 * errors[1] < five).all()
    assert (five + 5 * errors[2] < fifty).all()
    assert (fifty < log_p + 5 * errors[3]).all()
    tight, _ = model.log_likelihood(x, samples=200_000)
    torch.testing.assert_close(tight, log_p, atol=0.03, rtol=0)


@pytest.mark.parametrize("pairs", [1, 3, 10, 1000])
def test_chunks_are_bounded_and_change_nothing(monkeypatch, pairs):
    torch.manual_seed(0)
    model = mlp_vae(TINY, latent_dim=1)
    monkeypatch.setattr(model, "at_once", lambda *_, **__: pairs)
    x = images(TINY, 7)
    log_w = torch.randn(23, 7)
    used = torch.zeros(7, dtype=torch.int64)  # how many weights of each image are drawn

    def fixed(piece, q, k):
        assert k * len(piece) <= max(pairs, 1)
        torch.testing.assert_close(q.mean, model.encode(piece).mean)
        start = next(i for i in range(7) if used[i] < 23)
        at = slice(start, start + len(piece))
        rows = log_w[used[start] : used[start] + k, at]
        used[at] += k
        return rows

    monkeypatch.setattr(model, "log_weights", fixed)
    found, kind = model.log_likelihood(x, samples=23)
    assert kind == "IWAE-23"
    assert (used == 23).all()
    torch.testing.assert_close(found, log_w.logsumexp(0) - math.log(23))
    monkeypatch.undo()
    decoded = []
    model.decoder.register_forward_hook(lambda _m, _i, output: decoded.append(len(output)))
    monkeypatch.setattr(model, "at_once", lambda *_, **__: pairs)
    for work in (
        lambda: model.log_likelihood(x, samples=23),
        lambda: model.log_likelihood(x),
        lambda: model.sample(40),
        lambda: model.latents_to_images(torch.randn(40, 1)),
    ):
        decoded.clear()
        work()
        assert max(decoded) <= pairs
        assert sum(decoded) in (7, 40, 7 * 23)


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


def test_chunks_of_importance_samples_stay_in_the_caches_of_a_cpu(monkeypatch):
    torch.manual_seed(0)
    model = mlp_vae()
    seen = []
    model.decoder.register_forward_hook(lambda _m, _i, output: seen.append(len(output)))
    x = images(DIGITS, 3)
    monkeypatch.setattr(chunks, "CACHE_BYTES", 1)
    model.log_likelihood(x, samples=500)  # measured
    seen.clear()
    model.log_likelihood(x, samples=500)
    assert max(seen) == chunks.MIN_AT_ONCE
    assert sum(seen) == 1500
    monkeypatch.setattr(chunks, "CACHE_BYTES", 10**9)
    model._at_once.clear()
    model.log_likelihood(x, samples=500)
    assert max(seen) > 100


def test_chunked_estimates_have_the_same_distribution(monkeypatch):
    torch.manual_seed(0)
    model = vivid(mlp_vae(TINY, latent_dim=1), gain=2.0)
    many = images(TINY, 1).repeat(2000, 1, 1, 1)
    whole, _ = model.log_likelihood(many, samples=6)
    monkeypatch.setattr(model, "at_once", lambda *_, **__: 2)  # two pairs at a time
    parts, _ = model.log_likelihood(many[:600], samples=6)
    error = (whole.var() / 2000 + parts.var() / 600).sqrt()
    assert (whole.mean() - parts.mean()).abs() < 5 * error
    assert parts.std().item() == pytest.approx(whole.std().item(), rel=0.25)


# Encoding, decoding, sampling


@BOTH
def test_types_and_shapes_of_what_commands_ask_for(build):
    torch.manual_seed(0)
    spec = DataSpec(shape=(2, 9, 11), levels=7)
    model = build(spec)
    x = images(spec, 4)
    q = model.encode(x)
    assert isinstance(q, Independent)
    assert isinstance(q.base_dist, Normal)
    assert (q.batch_shape, q.event_shape) == ((4,), (3,))
    p = model.decode(torch.randn(4, 3))
    assert (p.batch_shape, p.event_shape) == ((4,), spec.shape)
    assert model.latent_dim == 3
    assert model.latent_prior == "gaussian"
    latents = model.images_to_latents(x)
    assert torch.equal(latents, q.mean)
    made = model.latents_to_images(latents)
    assert made.shape == x.shape
    assert made.dtype == torch.uint8
    assert torch.equal(made, model.decode(latents).mean.round().to(torch.uint8))
    drawn = model.sample(5)
    assert drawn.shape == (5, *spec.shape)
    assert drawn.dtype == torch.uint8
    assert drawn.max() < 7
    assert model.sample(0).shape == (0, *spec.shape)


def test_two_levels_are_split_at_a_half():
    model = mlp_vae(TINY)
    z = torch.randn(50, 3)
    assert torch.equal(model.latents_to_images(z), (model.decode(z).mean > 0.5).to(torch.uint8))


def test_pixels_drawn_follow_the_model():
    torch.manual_seed(0)
    model = vivid(mlp_vae(TINY, latent_dim=1, sample_pixels=True), gain=2.0)
    n = 40_000
    drawn = model.sample(n)
    x = all_images(TINY)
    p = integrated_log_p(model, x).exp().detach()
    seen = (drawn[:, None] == x).flatten(2).all(2).double().mean(0)
    assert ((seen - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()
    assert p.max() > 2 * p.median()


def test_temperature_scales_the_latents():
    model = mlp_vae()
    for temperature in (0.1, 1.0, 2.5):
        seen = []
        hook = model.decoder.register_forward_hook(lambda _m, inputs, _o, seen=seen: seen.append(inputs[0]))
        model.sample(4000, temperature=temperature)
        hook.remove()
        z = torch.cat(seen)
        assert z.std().item() == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        mlp_vae().sample(1, temperature=temperature)


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


# Other precisions, copies


@BOTH
def test_double_copies_and_evaluation(build):
    torch.manual_seed(0)
    model = build().double().eval()
    twin = copy.deepcopy(model)
    x = images(DIGITS, 3)
    outputs = []
    for m in (model, twin):
        torch.manual_seed(2)
        outputs.append([m.loss(Batch(x), 0)[0], m.log_likelihood(x, samples=3)[0], m.sample(2)])
        assert m.decode(torch.zeros(2, 3)).mean.dtype == torch.float64  # float32 latents are widened
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)
    assert outputs[0][0].dtype == outputs[0][1].dtype == torch.float64
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    torch.manual_seed(2)
    assert torch.equal(model.loss(Batch(x), 0)[0], outputs[0][0])


@BOTH
@pytest.mark.parametrize("levels", [2, 17])
def test_under_autocast_both_terms_are_float32(build, levels):
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, 8, 8), levels=levels)
    model = build(spec)
    x = images(spec, 16)
    torch.manual_seed(1)
    full, _ = model.loss(Batch(x), 0)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        half, terms = model.loss(Batch(x), 0)
        q = model.encode(x)
    assert q.mean.dtype == q.stddev.dtype == torch.float32
    assert half.dtype == terms["kl"].dtype == terms["reconstruction"].dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)
    half.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


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

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import (
    AffineTransform,
    Independent,
    SigmoidTransform,
    TransformedDistribution,
    Uniform,
)

from gentrain.distributions import (
    Bernoulli,
    Categorical,
    DiscretizedLogisticMixture,
    Pixels,
)


def mixture(levels, components=3, batch=(5,), log_scale=-2.0, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda: torch.randn(*batch, components, generator=g, dtype=torch.float64).to(dtype)  # noqa: E731
    return DiscretizedLogisticMixture(draw(), draw() * 0.7, log_scale + draw(), levels)


def probabilities(d, levels):
    """P of every level, [levels, ...]."""
    values = torch.arange(levels).view(-1, *[1] * len(d.batch_shape))
    return d.log_prob(values.expand(levels, *d.batch_shape)).exp()


@settings(max_examples=60, deadline=None)
@given(
    levels=st.integers(2, 256),
    components=st.integers(1, 5),
    log_scale=st.floats(-30, 30),
    seed=st.integers(0, 2**31),
)
def test_probabilities_of_all_levels_sum_to_one(levels, components, log_scale, seed):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        d = mixture(levels, components, log_scale=log_scale, dtype=dtype, seed=seed)
        total = probabilities(d, levels).double().sum(0)
        assert total.sub(1).abs().max() < tolerance


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_log_prob_is_the_difference_of_logistic_cdfs(levels):
    d = mixture(levels, components=2, log_scale=-1.5)
    base = Uniform(torch.zeros_like(d.means), torch.ones_like(d.means), validate_args=False)
    logistic = TransformedDistribution(
        base, [SigmoidTransform().inv, AffineTransform(d.means, d.log_scales.exp())], validate_args=False
    )
    half_bin = 1 / (levels - 1)
    weights = torch.softmax(d.logits, -1)
    for level in range(levels):
        centre = 2 * level / (levels - 1) - 1
        upper = torch.full_like(d.means, centre + half_bin)
        lower = torch.full_like(d.means, centre - half_bin)
        above = logistic.cdf(upper) if level < levels - 1 else 1.0
        below = logistic.cdf(lower) if level > 0 else 0.0
        expected = (weights * (above - below)).sum(-1)
        torch.testing.assert_close(d.log_prob(torch.full((5,), level)).exp(), expected, rtol=1e-9, atol=1e-14)


def test_the_outermost_bins_reach_to_infinity():
    one = torch.ones(1, dtype=torch.float64)
    d = DiscretizedLogisticMixture(one, -50 * one, 0 * one, 256)  # everything far below level 0
    assert d.log_prob(torch.tensor(0)).item() == pytest.approx(0, abs=1e-12)
    # sigma((m - lower edge) / s) with the lower edge of level 255 at 1 - 1/255, on the scale of [-1, 1].
    expected = torch.nn.functional.logsigmoid(torch.tensor(-50 - (1 - 1 / 255), dtype=torch.float64))
    assert d.log_prob(torch.tensor(255)).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_gradients_equal_finite_differences(levels):
    d = mixture(levels, batch=(4,))
    value = torch.tensor([0, levels - 1, levels // 2, 1])
    inputs = [t.detach().clone().requires_grad_() for t in (d.logits, d.means, d.log_scales)]
    assert torch.autograd.gradcheck(
        lambda *p: DiscretizedLogisticMixture(*p, levels, validate_args=False).log_prob(value), inputs
    )
    assert torch.autograd.gradcheck(
        lambda *p: DiscretizedLogisticMixture(*p, levels, validate_args=False).mean, inputs
    )


@pytest.mark.parametrize("log_scale", [-1e4, -50.0, -20.0, -7.0, 0.0, 20.0, 50.0, 1e4])
@pytest.mark.parametrize("mean", [-1e4, -1.0, 0.3, 1.0, 1e4])
def test_values_and_gradients_are_finite_in_float32_at_extremes(log_scale, mean):
    value = torch.tensor([0, 1, 100, 254, 255], dtype=torch.uint8)
    inputs = [torch.full((5, 2), v, requires_grad=True) for v in (0.0, mean, log_scale)]
    log_p = DiscretizedLogisticMixture(*inputs, 256).log_prob(value)
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert (log_p <= 0).all()
    for t in inputs:
        assert t.grad.isfinite().all()


def test_a_far_value_keeps_a_gradient_towards_it():
    # The difference of two float32 sigmoids is 0 here, and its logarithm's gradient is lost.
    mean = torch.tensor([-1.0], requires_grad=True)
    d = DiscretizedLogisticMixture(torch.zeros(1), mean, torch.tensor([-5.0]), 256)
    log_p = d.log_prob(torch.tensor(200))
    log_p.backward()
    assert log_p.item() == pytest.approx(-(2 * 199.5 / 255) * math.exp(5), rel=0.01)
    assert mean.grad.item() == pytest.approx(math.exp(5), rel=0.01)


@pytest.mark.parametrize(("levels", "log_scale"), [(2, 0.0), (4, -1.0), (17, -3.0)])
def test_sampling_frequencies_are_the_probabilities(levels, log_scale):
    torch.manual_seed(1)
    d = mixture(levels, batch=(3,), log_scale=log_scale, dtype=torch.float32)
    n = 200_000
    draws = d.sample((n,))
    assert draws.shape == (n, 3)
    p = probabilities(d, levels)
    seen = torch.stack([(draws == v).float().mean(0) for v in range(levels)])
    error = (p * (1 - p) / n).sqrt()
    assert ((seen - p).abs() < 5 * error + 1e-6).all()


def test_means_are_expectations_over_the_levels():
    levels = 17
    for d in (mixture(levels), Categorical(logits=torch.randn(5, levels, dtype=torch.float64))):
        p = probabilities(d, levels)
        torch.testing.assert_close(d.mean, (p * torch.arange(levels).view(-1, 1)).sum(0))
    logits = torch.randn(5, dtype=torch.float64)
    torch.testing.assert_close(Bernoulli(logits=logits).mean, torch.sigmoid(logits))


def test_integers_and_floats_are_the_same_values():
    value = torch.tensor([0, 1, 1, 0, 1], dtype=torch.uint8)
    for d in (mixture(2), Bernoulli(logits=torch.randn(5)), Categorical(logits=torch.randn(5, 2))):
        torch.testing.assert_close(d.log_prob(value), d.log_prob(value.float()), rtol=0, atol=0)


def test_what_a_distribution_promises():
    d = mixture(4, batch=(2, 3))
    assert d.batch_shape == (2, 3)
    assert d.event_shape == ()
    assert d.support.check(torch.tensor([0.0, 3.0, 3.5, 4.0])).tolist() == [True, True, False, False]
    wider = d.expand((6, 2, 3))
    value = torch.randint(0, 4, (6, 2, 3))
    torch.testing.assert_close(wider.log_prob(value), d.log_prob(value))
    assert wider.sample().shape == (6, 2, 3)
    images = Independent(d, 1)
    assert images.event_shape == (3,)
    torch.testing.assert_close(images.log_prob(value), d.log_prob(value).sum(-1))
    with pytest.raises(ValueError, match="support"):
        d.log_prob(torch.full((2, 3), 4))
    with pytest.raises(ValueError, match="levels must be at least 2, found 1"):
        DiscretizedLogisticMixture(d.logits, d.means, d.log_scales, 1)


LIKELIHOODS = [("auto", 2), ("auto", 17), ("bernoulli", 2), ("logistic_mixture", 256), ("categorical", 5)]


@pytest.mark.parametrize(("likelihood", "levels"), LIKELIHOODS)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_distributions_are_over_images(likelihood, levels, channels):
    torch.manual_seed(0)
    per_value = Pixels.of(likelihood, levels, 2).parameters
    params = torch.randn(6, per_value * channels, 4, 5)
    p = Pixels.of(likelihood, levels, 2).distribution(params)
    assert p.batch_shape == (6,)
    assert p.event_shape == (channels, 4, 5)
    x = torch.randint(0, levels, (6, channels, 4, 5), dtype=torch.uint8)
    assert p.log_prob(x).shape == (6,)
    draws = p.sample()
    assert draws.shape == x.shape
    assert ((draws >= 0) & (draws < levels) & (draws == draws.round())).all()
    assert ((p.mean >= 0) & (p.mean <= levels - 1)).all()
    assert Pixels.of(likelihood, levels, 2).start(channels).shape == (per_value * channels,)
    # Parameter i of channel c is channel i * C + c: it moves this channel's mean and no other's.
    shift = params.clone()
    shift[:, per_value // 2 * channels] += 1
    changed = Pixels.of(likelihood, levels, 2).distribution(shift).mean != p.mean
    assert changed[:, 0].any()
    assert not changed[:, 1:].any()


@pytest.mark.parametrize(("likelihood", "levels"), LIKELIHOODS)
def test_pixel_distributions_compute_in_float32_at_least(likelihood, levels):
    per_value = Pixels.of(likelihood, levels, 2).parameters
    x = torch.randint(0, levels, (6, 1, 4, 5), dtype=torch.uint8)
    params = torch.randn(6, per_value, 4, 5)
    for dtype, expected in (
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float64, torch.float64),
    ):
        narrow = params.to(dtype)
        log_p = Pixels.of(likelihood, levels, 2).distribution(narrow).log_prob(x)
        assert log_p.dtype == expected
        wide = Pixels.of(likelihood, levels, 2).distribution(narrow.to(expected)).log_prob(x)
        torch.testing.assert_close(log_p, wide, rtol=0, atol=0)


def test_the_initial_mixture_covers_the_levels_with_distinct_components():
    levels, mixtures = 17, 4
    pixels = Pixels.of("logistic_mixture", levels, mixtures)
    p = pixels.distribution(pixels.start(1).double().view(1, -1, 1, 1)).base_dist
    assert probabilities(p, levels).min() > 0.2 / levels
    assert len(set(p.means.flatten().tolist())) == mixtures


def test_likelihoods_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"model\.likelihood=bernoulli expects images of 2 levels, found 17"):
        Pixels.of("bernoulli", 17, 1)
    with pytest.raises(
        ValueError, match=r"model\.likelihood must be one of .*logistic_mixture.*, found 'gauss'"
    ):
        Pixels.of("gauss", 17, 1)
    with pytest.raises(ValueError, match=r"model\.mixtures must be at least 1, found 0"):
        Pixels.of("auto", 17, 0)
    assert Pixels.of("auto", 2, 0).parameters == 1  # bernoulli has no mixtures
    with pytest.raises(ValueError, match="params"):
        Pixels.of("auto", 17, 1).distribution(torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (3, 32, 32), (1, 3, 3), (1, 1, 1), (2, 64, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_compiled_bernoulli_is_the_bernoulli(shape, dtype, monkeypatch):
    torch.manual_seed(0)
    # Up to where one pixel's probability underflows, and a whole event of zeros, whose product is largest.
    logits = (
        torch.randn(6, *shape, dtype=dtype) * torch.tensor([0, 0.1, 1, 10, 100, 1000])[:, None, None, None]
    )
    logits.requires_grad_()
    p = Pixels.of("bernoulli", 2, 0).distribution(logits)
    x = torch.randint(0, 2, (6, *shape), dtype=torch.uint8)
    weight = torch.randn(6, dtype=dtype)
    exact = Pixels.of("bernoulli", 2, 0).distribution(logits.double()).log_prob(x)
    (gradient,) = torch.autograd.grad(exact @ weight.double(), logits)
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    ours = p.log_prob(x)
    assert ours.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance * math.prod(shape))
    (found,) = torch.autograd.grad(ours @ weight, logits)
    torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-6)
    assert p.log_prob(x[:1]).shape == (6,)  # an image for every distribution


def test_the_compiled_bernoulli_knows_the_gradient_of_its_values(monkeypatch):
    monkeypatch.setattr("torch.compiler.is_compiling", lambda: True)
    logits = torch.randn(2, 1, 4, 8, dtype=torch.float64, requires_grad=True)
    x = torch.rand(2, 1, 4, 8, dtype=torch.float64, requires_grad=True)

    def log_prob(logits, x):
        return Pixels.of("bernoulli", 2, 0).distribution(logits).log_prob(x)

    assert torch.autograd.gradcheck(log_prob, (logits, x))
    assert torch.autograd.gradgradcheck(log_prob, (logits, x))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 29), st.integers(1, 29)),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0, 100.0, 1000.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_the_bernoulli_of_inference_mode_is_the_bernoulli(shape, scale, dtype, seed):
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(4, *shape, generator=g, dtype=dtype)
    kept = logits.clone()
    x = torch.randint(0, 2, (4, *shape), generator=g, dtype=torch.uint8)
    exact = Pixels.of("bernoulli", 2, 0).distribution(logits.double()).log_prob(x)
    p = Pixels.of("bernoulli", 2, 0).distribution(logits)
    with torch.inference_mode():
        ours, against_one = p.log_prob(x), p.log_prob(x[:1])
        each = p.log_prob(x[:1].expand_as(x))
    assert ours.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    torch.testing.assert_close(ours.double(), exact, rtol=tolerance, atol=tolerance * math.prod(shape))
    assert torch.equal(against_one, each)
    assert torch.equal(logits, kept)


@pytest.mark.parametrize(("likelihood", "levels"), LIKELIHOODS)
def test_a_level_is_the_inverse_of_the_distribution_function(likelihood, levels):
    torch.manual_seed(0)
    pixels = Pixels.of(likelihood, levels, 2)
    params = 2 * torch.randn(1, pixels.parameters, dtype=torch.float64)
    p = pixels.distribution(params.view(1, -1, 1, 1)).base_dist
    below = probabilities(p, levels).flatten().cumsum(0)  # P(x <= v)
    u = (torch.arange(5000, dtype=torch.float64) + 0.5) / 5000
    drawn = pixels.level(params.expand(5000, -1), u).long()
    assert drawn.min() >= 0
    assert drawn.max() < levels
    assert torch.equal(drawn, (below[:-1] <= u[:, None]).sum(1))
    cold = pixels.level(params.expand(5000, -1), u, temperature=0.05).long()
    assert cold.double().std() < drawn.double().std()
    assert torch.equal(
        pixels.level(params, torch.zeros(1, dtype=torch.float64)).long(), torch.zeros(1).long()
    )


def test_the_levels_at_the_ends():
    two = Pixels.of("categorical", 3, 0)
    logits = torch.log(torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64))
    u = torch.tensor([0.0, 0.249, 0.251, 0.749, 0.751, 1 - 2**-24], dtype=torch.float64)
    assert two.level(logits.expand(6, 3), u).tolist() == [0, 0, 1, 1, 2, 2]
    never = torch.tensor([[-math.inf, 0.0, -math.inf]])
    assert two.level(never.expand(2, 3), torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 1]
    one = Pixels.of("bernoulli", 2, 0)
    assert one.level(torch.tensor([[math.inf], [-math.inf]]), torch.tensor([0.0, 1 - 2**-24])).tolist() == [
        True,
        False,
    ]

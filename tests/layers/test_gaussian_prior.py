import pytest
import torch
from flows import jacobian_log_det, values, vivid
from torch.distributions import Normal

from gentrain.layers.gaussian import LOG_SIGMA_BOUND
from gentrain.layers.gaussian_prior import ConditionalPrior, StandardPrior, TopPrior

PRIORS = pytest.mark.parametrize("build", [lambda: ConditionalPrior(2, 3), lambda: TopPrior(3)])


@PRIORS
def test_whitening_gives_the_density_of_the_gaussian(build):
    torch.manual_seed(0)
    prior = vivid(build())
    z, h = values(4, 3, 2, 2), values(4, 2, 2, 2, seed=1)
    mu, log_sigma = prior.moments(h)
    assert log_sigma.abs().min() > 1e-3
    expected = Normal(mu, log_sigma.exp()).log_prob(z).flatten(1).sum(1)
    eps, log_det = prior.whiten(z, h)
    torch.testing.assert_close(Normal(0.0, 1.0).log_prob(eps).flatten(1).sum(1) + log_det, expected)


@PRIORS
def test_colouring_is_the_inverse_of_whitening(build):
    prior = vivid(build())
    z, h = values(2, 3, 2, 2), values(2, 2, 2, 2, seed=1)
    eps, log_det = prior.whiten(z, h)
    assert (prior.colour(eps, h) - z).abs().max() < 1e-9
    for i in range(2):
        one = h[i : i + 1]
        expected = jacobian_log_det(lambda t, one=one: prior.whiten(t, one)[0], z[i : i + 1])
        torch.testing.assert_close(log_det[i : i + 1], expected, atol=1e-6, rtol=0)


@PRIORS
def test_it_starts_standard_normal(build):
    prior = build()
    z, h = torch.randn(2, 3, 2, 2), torch.randn(2, 2, 2, 2)
    eps, log_det = prior.whiten(z, h)
    assert torch.equal(eps, z)
    assert torch.equal(log_det, torch.zeros(2))


def test_what_is_kept_decides_the_conditional_prior():
    prior = vivid(ConditionalPrior(2, 3))
    h = values(1, 2, 2, 2)
    mu, log_sigma = prior.moments(h)
    other_mu, other_log_sigma = prior.moments(h + 1)
    assert (mu != other_mu).all()
    assert (log_sigma != other_log_sigma).all()


def test_sigma_stays_in_range_whatever_the_network_says():
    prior = ConditionalPrior(2, 3)
    with torch.no_grad():
        prior.net.bias[3:] = torch.tensor([-1e6, 0.0, 1e6])
    z, h = torch.randn(2, 3, 1, 1), torch.randn(2, 2, 1, 1)
    eps, log_det = prior.whiten(z, h)
    assert prior.moments(h)[1].abs().max() <= LOG_SIGMA_BOUND
    assert eps.isfinite().all()
    assert log_det.isfinite().all()


def test_the_standard_prior_learns_nothing():
    prior = StandardPrior()
    z, h = torch.randn(2, 3, 2, 2), torch.empty(2, 0, 2, 2)
    eps, log_det = prior.whiten(z, h)
    assert torch.equal(eps, z)
    assert torch.equal(log_det, torch.zeros(2))
    assert torch.equal(prior.colour(z, h), z)
    assert not list(prior.parameters())

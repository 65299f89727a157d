import pytest
import torch
from enumerating import images, vivid
from latent_variables import DIGITS, MLP, vae

from gentrain.contracts import Batch
from gentrain.layers.gaussian import kl_from_standard
from gentrain.models.autoencoder.beta_vae import BetaVAE


def beta_vae(**settings):
    return BetaVAE(DIGITS, **{**MLP, "beta": 4.0, "free_bits": 0.0, **settings})


def with_weights_of(model, **settings):
    other = beta_vae(**settings).double()
    other.load_state_dict(model.state_dict())
    return other


def test_at_beta_1_without_free_bits_it_is_the_vae():
    torch.manual_seed(0)
    model = beta_vae(beta=1.0)
    plain = vae()
    plain.load_state_dict(model.state_dict())
    losses = []
    for m in (model, plain):
        torch.manual_seed(1)
        loss, terms = m.loss(Batch(images(DIGITS, 6)), 0)
        loss.backward()
        losses.append((loss, terms))
    torch.testing.assert_close(losses[0][0], losses[1][0])
    torch.testing.assert_close(losses[0][1]["kl"], losses[1][1]["kl"])
    torch.testing.assert_close(losses[0][1]["reconstruction"], losses[1][1]["reconstruction"])
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    ("beta", "free_bits"), [(0.0, 0.0), (0.5, 0.0), (4.0, 0.0), (4.0, 0.7), (1.0, 100.0)]
)
def test_the_loss_is_made_of_what_is_logged(beta, free_bits):
    """KL and weighted KL side by side: neither averaged over pixels, nor one in place of the other."""
    torch.manual_seed(0)
    model = vivid(beta_vae(beta=beta, free_bits=free_bits), gain=1.5)
    x = images(DIGITS, 5)
    torch.manual_seed(1)
    loss, terms = model.loss(Batch(x), 0)
    torch.manual_seed(1)
    reconstruction, kl = model.elbo_terms(x)
    assert set(terms) == {"reconstruction", "kl", "weighted_kl"}
    torch.testing.assert_close(terms["reconstruction"], reconstruction.mean())
    torch.testing.assert_close(terms["kl"], kl.mean())
    per_dimension = kl_from_standard(model.encode(x)).mean(0)
    torch.testing.assert_close(per_dimension.sum(), kl.mean())
    weighted = beta * sum(max(free_bits, one) for one in per_dimension.tolist())
    assert terms["weighted_kl"].item() == pytest.approx(weighted)
    torch.testing.assert_close(loss, terms["reconstruction"] + terms["weighted_kl"])
    assert not any(term.requires_grad for term in terms.values())


def test_free_bits_are_a_floor_per_dimension_after_the_mean_over_the_batch():
    model = beta_vae(beta=3.0, free_bits=0.5)
    kl = torch.tensor([[0.0, 0.2, 2.0], [0.9, 0.3, 4.0]], requires_grad=True)  # means 0.45, 0.25, 3
    weighted = model.weighted_kl(kl)
    assert weighted.item() == pytest.approx(3.0 * (0.5 + 0.5 + 3.0))
    weighted.backward()
    assert torch.equal(kl.grad, torch.tensor([[0.0, 0.0, 1.5], [0.0, 0.0, 1.5]]))


def test_neither_weight_reaches_the_evaluation():
    torch.manual_seed(0)
    model = vivid(beta_vae(beta=1.0), gain=1.5)
    x = images(DIGITS, 7)
    for samples in (None, 5):
        torch.manual_seed(1)
        expected, kind = model.log_likelihood(x, samples=samples)
        for settings in ({"beta": 0.0}, {"beta": 9.0}, {"beta": 9.0, "free_bits": 3.0}):
            other = with_weights_of(model, **settings)
            torch.manual_seed(1)
            found, same_kind = other.log_likelihood(x, samples=samples)
            assert torch.equal(found, expected)
            assert kind == same_kind
    torch.manual_seed(1)
    reconstruction, kl = model.elbo_terms(x)
    torch.manual_seed(1)
    torch.testing.assert_close(model.log_likelihood(x)[0], -(reconstruction + kl))


def test_beta_trades_the_kl_for_the_reconstruction():
    torch.manual_seed(0)
    x = images(DIGITS, 64) // 8 * 8
    found = {}
    for beta in (0.1, 20.0):
        torch.manual_seed(0)
        model = beta_vae(beta=beta, hidden=[32])
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for step in range(60):
            loss, terms = model.loss(Batch(x), step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        found[beta] = terms["kl"].item()
    assert found[20.0] < 0.1 * found[0.1]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("beta", -1.0), ("free_bits", -0.1), ("latent_dim", 0), ("hidden", []), ("likelihood", "gauss")],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
        beta_vae(**{setting: value})

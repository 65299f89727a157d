import pytest
import torch
from enumerating import images
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from surviving import survives

from gentrain.contracts import Batch, DataSpec, EncodesDecodes, HasLikelihood, Samples
from gentrain.models.autoencoder.ae import AE

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
NETWORKS = {
    "linear": {"network": "linear", "channels": [], "hidden": []},
    "mlp": {"network": "mlp", "channels": [], "hidden": [128, 64]},
    "conv": {"network": "conv", "channels": [16, 32], "hidden": [64]},
}
EACH = pytest.mark.parametrize("network", NETWORKS)


def ae(network="mlp", spec=DIGITS, **settings):
    return AE(spec, **{"latent_dim": 3, "activation": "silu"} | NETWORKS[network] | settings)


def digits():
    return torch.tensor(load_digits().images[:, None]).to(torch.uint8)  # [1797, 1, 8, 8]


def pca_error(x, held_out, components):
    """Squared error per image of `held_out` in [0, 1], by scikit-learn's PCA fitted to `x`."""
    fit, test = (t.flatten(1).double().numpy() / 16 for t in (x, held_out))
    pca = PCA(components, svd_solver="full").fit(fit)
    return ((pca.inverse_transform(pca.transform(test)) - test) ** 2).sum(1).mean(), pca


@EACH
def test_the_loss_is_the_squared_error_of_pixels_in_0_to_1(network):
    torch.manual_seed(0)
    spec = DataSpec(shape=(2, 8, 9), levels=5)
    model = ae(network, spec)
    x = images(spec, 4)
    loss, terms = model.loss(Batch(x), 0)
    again = model.decoder(model.images_to_latents(x))
    by_hand = torch.stack([((a - b.float() / 4) ** 2).sum() for a, b in zip(again, x, strict=True)]).mean()
    torch.testing.assert_close(loss, by_hand)
    torch.testing.assert_close(terms["mse"], by_hand / spec.dims)
    assert not terms["mse"].requires_grad


def test_the_linear_one_is_principal_component_analysis():
    """Baldi & Hornik 1989: the same error to 0.01 %, never below it, and the same subspace."""
    torch.manual_seed(0)
    x = digits()[:300]
    model = ae("linear", latent_dim=6).double()
    optimiser = torch.optim.LBFGS(
        model.parameters(), max_iter=300, history_size=30, line_search_fn="strong_wolfe"
    )

    def closure():
        optimiser.zero_grad()
        loss, _ = model.loss(Batch(x), 0)
        loss.backward()
        return loss

    optimiser.step(closure)
    found = model.loss(Batch(x), 0)[0].item()
    best, pca = pca_error(x, x, 6)
    assert best * (1 - 1e-9) <= found <= best * (1 + 1e-4)
    basis = torch.linalg.qr(model.decoder[0][0].weight.detach()).Q  # [64, 6]
    cosines = torch.linalg.svdvals(basis.T @ torch.tensor(pca.components_.T))
    assert cosines.min() > 0.999


@pytest.mark.parametrize(("network", "steps"), [("mlp", 400), ("conv", 300)])
def test_a_deep_one_beats_principal_components_on_the_same_width(network, steps):
    torch.manual_seed(0)
    x = digits()
    train, test = x[:1500], x[1500:]
    model = ae(network, latent_dim=4)
    optimiser = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, steps)
    for step in range(steps):
        loss, _ = model.loss(Batch(train[torch.randint(len(train), (64,))]), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        assert model.loss(Batch(train), 0)[0] < 0.8 * pca_error(train, train, 4)[0]
        assert model.loss(Batch(test), 0)[0] < 0.9 * pca_error(train, test, 4)[0]


@EACH
def test_images_and_latents(network):
    torch.manual_seed(0)
    spec = DataSpec(shape=(3, 9, 8), levels=256)
    model = ae(network, spec)
    z = model.images_to_latents(images(spec, 4))
    assert z.shape == (4, model.latent_dim) == (4, 3)
    made = model.latents_to_images(z)
    assert (made.dtype, made.shape) == (torch.uint8, (4, *spec.shape))


def test_values_beyond_the_range_are_cut_not_wrapped():
    model = ae("linear", DataSpec(shape=(1, 1, 3), levels=5), latent_dim=1)
    with torch.no_grad():
        model.decoder[0][0].weight.zero_()
        model.decoder[0][0].bias.copy_(torch.tensor([-0.4, 0.6, 1.7]))
    assert model.latents_to_images(torch.zeros(1, 1)).flatten().tolist() == [0, 2, 4]  # 0.6 * 4 = 2.4


def test_it_has_no_density_and_says_why():
    model = ae()
    assert not isinstance(model, (Samples, HasLikelihood, EncodesDecodes))
    assert model.latent_prior == "none"
    assert "no density" in model.lacks["sample"]
    assert "no log-likelihood" in model.lacks["eval"]


@EACH
def test_it_survives(network):
    survives(lambda: ae(network), Batch(images(DIGITS, 8)))


def test_wrong_settings_are_refused():
    for setting, value in (("latent_dim", 0), ("hidden", [0]), ("activation", "sine")):
        with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
            ae(**{setting: value})


def test_the_command_line_says_why_there_is_nothing_to_sample(gentrain, workplace):
    trained = gentrain("train", "model=ae_linear", "dataset=digits", "train.steps=2", "run_dir=run")
    assert trained.status == 0, trained.err
    for verb in ("sample", "eval"):
        refused = gentrain(verb, "ckpt=run")
        assert refused.status == 2
        assert refused.one_line().startswith(f"gentrain: {verb}: ae_linear ")
        assert AE.lacks[verb] in refused.one_line()
    shown = gentrain("reconstruct", "ckpt=run")
    assert shown.status == 0, shown.err
    without_images = gentrain("interpolate", "ckpt=run")  # without a prior it goes between test images
    assert without_images.status == 0, without_images.err
    assert "2 rows between images" in without_images.out
    assert gentrain("interpolate", "ckpt=run", "images=0,1").status == 0
    said = gentrain("arithmetic", "ckpt=run").one_line()
    assert gentrain("arithmetic", "ckpt=run", *said.rpartition(": ")[2].split()).status == 0

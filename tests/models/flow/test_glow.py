import copy
import math

import pytest
import torch
from flows import check_transform, jacobian_log_det, values, vivid
from sklearn.datasets import load_digits
from torch.distributions import Normal

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.actnorm import DataInitialised
from gentrain.layers.gaussian_prior import ConditionalPrior
from gentrain.layers.transform import Chain
from gentrain.models.flow.glow import FlowStep, Glow

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
TINY = DataSpec(shape=(1, 4, 4), levels=5)

COUPLINGS = pytest.mark.parametrize("coupling", ["affine", "additive"])


def glow(spec=TINY, **settings):
    small = {"scales": 2, "depth": 2, "hidden": 6, "coupling": "affine", "dropout": 0.0}
    return Glow(spec, **small | {"logit": None, "label_by": "none", "dequantisation": "uniform"} | settings)


def vivid_glow(spec=TINY, std=0.1, **settings):
    """In float64, with all parameters away from where they start."""
    torch.manual_seed(0)
    return vivid(glow(spec, **settings), std=std)


def images(spec, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8)


def dequantised(spec, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(n, *spec.shape, generator=g, dtype=torch.float64)


def real_digits(n):
    return torch.tensor(load_digits().images[:n, None]).to(torch.uint8)


@pytest.fixture(scope="module")
def trained():
    """A small model after some steps on digits, float32, with its losses."""
    torch.manual_seed(0)
    x = real_digits(256)
    model = glow(DIGITS, depth=3, hidden=16)
    model.data_dependent_init(Batch(x))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    losses = []
    for step in range(120):
        loss, _ = model.loss(Batch(x), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model.eval(), losses


# The map


@COUPLINGS
def test_a_step_of_flow(coupling):
    torch.manual_seed(0)
    check_transform(vivid(FlowStep(3, 5, coupling, 0.0)), values(2, 3, 3, 2))


@COUPLINGS
def test_a_density_on_two_dimensions_integrates_to_one(coupling):
    torch.manual_seed(0)
    flow = vivid(Chain([FlowStep(2, 6, coupling, 0.0) for _ in range(3)]), std=0.2)
    with torch.no_grad():
        # A rectangle around what the disc of radius 6 is made of, which has all but exp(-18) of the mass.
        reach = flow.inverse(6 * torch.nn.functional.normalize(values(2000, 2, 1, 1)))
        low, high = reach.amin(0).flatten() - 0.1, reach.amax(0).flatten() + 0.1
        sides = [torch.linspace(low[i], high[i], 400, dtype=torch.float64) for i in range(2)]
        z, log_det = flow(torch.cartesian_prod(*sides)[:, :, None, None])
        log_p = Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1) + log_det
    cell = math.prod((side[1] - side[0]).item() for side in sides)
    assert (log_p.exp().sum() * cell).item() == pytest.approx(1, abs=1e-4)
    assert log_det.max() - log_det.min() > 0.1 or coupling == "additive"  # it is not linear


def test_the_density_is_the_papers_with_unwhitened_gaussians():
    spec = DataSpec(shape=(2, 8, 8), levels=9)
    model = vivid_glow(spec, scales=3)
    y = dequantised(spec, 3)
    h, expected = y - 0.5, torch.zeros(3).double()
    for i, (scale, prior) in enumerate(zip(model.multiscale.scales, model.multiscale.priors, strict=True)):
        h, log_det = scale(h)
        z = h
        if i < 2:
            z, h = h.chunk(2, dim=1)
            assert isinstance(prior, ConditionalPrior)
        mu, log_sigma = prior.moments(h)
        expected += log_det + Normal(mu, log_sigma.exp()).log_prob(z).flatten(1).sum(1)
    log_prior, log_det = model.log_prob(y)
    torch.testing.assert_close(log_prior + log_det, expected)
    z, of_map = model.to_latent(y)
    torch.testing.assert_close(log_prior, Normal(0.0, 1.0).log_prob(z).sum(1))
    assert torch.equal(log_det, of_map)


def test_latents_leave_at_every_scale():
    model = vivid_glow(DataSpec(shape=(3, 8, 16)), scales=3)
    assert model.multiscale.latent_shapes == [(6, 4, 8), (12, 2, 4), (48, 1, 2)]
    assert sum(math.prod(shape) for shape in model.multiscale.latent_shapes) == model.latent_dim == 3 * 8 * 16


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 8, 8), (1, 4, 4), (3, 4, 8), (2, 12, 20)])
def test_the_default_scales_take_these_sizes(shape):
    spec = DataSpec(shape=shape, levels=17)
    model = glow(spec)
    x = images(spec, 3)
    loss, _ = model.loss(Batch(x), 0)
    assert loss.isfinite()
    assert model.sample(2).shape == (2, *shape)


# Likelihood


# Images and latents


def test_samples_come_from_the_prior_that_was_trained():
    """The latents of samples, found by the map, are standard normal, and split priors are used."""
    model = vivid_glow()
    torch.manual_seed(0)
    seen = []
    whole = model._from_latent
    model._from_latent = lambda z: seen.append(z) or whole(z)
    model.sample(4000)
    z = torch.cat(seen)
    assert z.mean(0).abs().max() < 5 / 4000**0.5
    assert (z.var(0) - 1).abs().max() < 5 * (2 / 4000) ** 0.5
    again, _ = model.to_latent(whole(z))
    torch.testing.assert_close(again, z, atol=1e-9, rtol=0)
    # The unwhitened value at the first scale has the moments that the prior says.
    h, _ = model.multiscale.scales[0](whole(z) - 0.5)
    value, kept = h.chunk(2, dim=1)
    mu, log_sigma = model.multiscale.priors[0].moments(kept)
    assert mu.std() > 0.05
    torch.testing.assert_close((value - mu) / log_sigma.exp(), z[:, :8].view(-1, 2, 2, 2))


# Construction


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scales", 0),
        ("depth", 0),
        ("hidden", -1),
        ("coupling", "spline"),
        ("dropout", 1.0),
        ("logit", 0.0),
        ("logit", 1.0),
        ("label_by", "class"),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=rf"model\.{setting}.*found"):
        glow(**{setting: value})


@pytest.mark.parametrize(
    ("shape", "scales", "ways"),
    [
        ((1, 28, 28), 3, ["model.scales=2", "dataset.image_size=24", "dataset.image_size=32"]),
        ((1, 8, 12), 3, ["model.scales=2", "dataset.image_size=8", "dataset.image_size=16"]),
        ((3, 7, 7), 1, ["dataset.image_size=6", "dataset.image_size=8"]),
        ((1, 3, 3), 2, ["dataset.image_size=4"]),
        ((1, 6, 4), 2, ["model.scales=1", "dataset.image_size=4", "dataset.image_size=8"]),
    ],
)
def test_sizes_that_cannot_be_halved_so_often_say_what_would_do(shape, scales, ways):
    with pytest.raises(
        ValueError, match=rf"images are {shape[1]}x{shape[2]}.*model\.scales={scales}"
    ) as error:
        glow(DataSpec(shape=shape), scales=scales)
    for way in ways:
        key, value = way.split("=")
        assert key in str(error.value)
        assert value in str(error.value).partition("set ")[2]
        if key == "model.scales":
            glow(DataSpec(shape=shape), scales=int(value))
            with pytest.raises(ValueError, match="images are"):
                glow(DataSpec(shape=shape), scales=int(value) + 1)
        else:
            glow(DataSpec(shape=(shape[0], int(value), int(value))), scales=scales)
    assert "=0" not in str(error.value)


# Initialisation from data


def norms(model):
    return [m for m in model.modules() if isinstance(m, DataInitialised)]


@pytest.mark.parametrize("spec", [DIGITS, DataSpec(shape=(1, 4, 4)), DataSpec(shape=(3, 8, 4), levels=2)])
def test_every_actnorm_starts_from_the_first_batch(spec):
    torch.manual_seed(0)
    model = glow(spec).double()
    x = images(spec, 64)
    if spec is DIGITS:
        x = real_digits(64)
    assert len(norms(model)) == 2 * 2 * 3  # scales x depth x (one in the flow, two in the network)
    seen = {}
    for norm in norms(model):
        norm.register_forward_hook(lambda m, _i, out: seen.__setitem__(m, out))
    model.data_dependent_init(Batch(x))
    assert all(norm.initialised for norm in norms(model))
    for out in seen.values():
        flat = (out[0] if isinstance(out, tuple) else out).transpose(0, 1).flatten(1)
        std = flat.std(1, correction=0)
        torch.testing.assert_close(flat.mean(1), torch.zeros(len(flat)).double(), atol=1e-8, rtol=0)
        assert ((std - 1).abs().lt(1e-8) | std.lt(1e-4)).all()


def test_a_loaded_or_second_batch_does_not_initialise_again():
    model = glow(DIGITS)
    model.data_dependent_init(Batch(real_digits(64)))
    before = copy.deepcopy(model.state_dict())
    model.data_dependent_init(Batch(images(DIGITS, 64)))
    again = glow(DIGITS)
    again.load_state_dict(before)
    again.data_dependent_init(Batch(images(DIGITS, 64)))
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value), name
        assert torch.equal(again.state_dict()[name], value), name


def test_images_of_one_colour_leave_everything_finite():
    model = glow(DataSpec(shape=(1, 8, 8)))
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    model.data_dependent_init(Batch(x))
    loss, _ = model.loss(Batch(x), 0)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.examine(Batch(x))["inverse_error"] < 1e-4


# Health


def test_a_sound_model_is_healthy():
    assert glow().healthy() is None
    assert vivid_glow().healthy() is None


def test_a_badly_conditioned_convolution_is_named():
    model = glow(DIGITS)
    with torch.no_grad():
        model.multiscale.scales[1].transforms[2].conv.log_s[0] -= 30
    trouble = model.healthy()
    assert "1x1 convolution of scale 2, step 2 (multiscale.scales.1.transforms.2.conv)" in trouble
    assert "badly conditioned" in trouble
    assert (
        model.get_submodule("multiscale.scales.1.transforms.2.conv")
        is model.multiscale.scales[1].transforms[2].conv
    )
    found = float(trouble.split("condition number ")[1].split(",")[0])
    expected = torch.linalg.cond(model.multiscale.scales[1].transforms[2].conv.weight().double())
    assert math.log(found) == pytest.approx(math.log(expected.item()), abs=2)
    assert "\n" not in trouble


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["lower", "upper", "log_s"])
def test_a_convolution_that_is_not_finite_or_singular_is_named(part, value):
    model = glow(DIGITS)
    with torch.no_grad():
        weight = getattr(model.multiscale.scales[0].transforms[1].conv, part)
        weight[(1, 0) if part == "lower" else (0, 1) if part == "upper" else 0] = value
    trouble = model.healthy()
    assert "scale 1, step 1 (multiscale.scales.0.transforms.1.conv)" in trouble
    assert ("badly conditioned" if (part, value) == ("log_s", -math.inf) else "not finite") in trouble


def test_the_inverse_error_is_measured():
    model = vivid_glow(DIGITS, std=0.02).float()
    found = model.examine(Batch(images(DIGITS, 50)))
    assert set(found) == {"inverse_error"}
    assert found["inverse_error"].shape == ()
    assert 0 < found["inverse_error"] < 1e-4
    whole = model._from_latent
    model._from_latent = lambda z: whole(z) + 0.25
    assert model.examine(Batch(images(DIGITS, 50)))["inverse_error"].item() == pytest.approx(0.25, abs=1e-3)


def test_dropout_is_for_training_only():
    model = vivid_glow(DIGITS, dropout=0.5)
    y = dequantised(DIGITS, 4)
    assert not torch.equal(model.to_latent(y)[0], model.to_latent(y)[0])
    model.eval()
    assert torch.equal(model.to_latent(y)[0], model.to_latent(y)[0])
    assert (model.from_latent(model.to_latent(y)[0]) - y).abs().max() < 1e-9


# After training


def test_a_few_steps_on_real_digits_teach_it_something(trained):
    model, losses = trained
    assert losses[0] < 64 * math.log(17) * 1.5
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] < 0.75 * 64 * math.log(17)
    assert model.healthy() is None


def test_the_round_trip_after_training(trained):
    model, _ = trained
    x = real_digits(500)
    torch.manual_seed(0)
    y = model.dequantise(x)
    with torch.no_grad():
        assert (model.from_latent(model.to_latent(y)[0]) - y).abs().max() < 1e-4
        assert torch.equal(model.latents_to_images(model.images_to_latents(x)), x)
        z = torch.randn(200, 64)
        assert (model.to_latent(model.from_latent(z))[0] - z).abs().max() < 1e-3
        twin = copy.deepcopy(model).double()
        y = y.double()
        assert (twin.from_latent(twin.to_latent(y)[0]) - y).abs().max() < 1e-9
        few = y[:2]
        expected = jacobian_log_det(lambda t: twin.to_latent(t)[0], few)
        torch.testing.assert_close(twin.to_latent(few)[1], expected, atol=1e-6, rtol=0)


# Other precisions, copies


def test_double_copies_and_evaluation():
    torch.manual_seed(0)
    model = vivid_glow(std=0.05).eval()
    twin = copy.deepcopy(model)
    x = images(TINY, 3)
    outputs = []
    for m in (model, twin):
        torch.manual_seed(2)
        outputs.append([m.loss(Batch(x), 0)[0], m.log_likelihood(x)[0], m.sample(2), m.images_to_latents(x)])
    for a, b in zip(*outputs, strict=True):
        assert torch.equal(a, b)
    assert outputs[0][0].dtype == outputs[0][1].dtype == outputs[0][3].dtype == torch.float64
    assert model.from_latent(torch.zeros(2, 16)).dtype == torch.float64  # float32 latents are widened
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    torch.manual_seed(2)
    assert torch.equal(model.loss(Batch(x), 0)[0], outputs[0][0])


@COUPLINGS
def test_under_autocast_only_the_networks_are_in_half_precision(coupling):
    torch.manual_seed(0)
    model = vivid_glow(DIGITS, std=0.05, coupling=coupling).float()
    x = real_digits(16)
    model.data_dependent_init(Batch(x))
    torch.manual_seed(1)
    full, _ = model.loss(Batch(x), 0)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        half, terms = model.loss(Batch(x), 0)
        z, log_det = model.to_latent(model.dequantise(x))
    assert z.dtype == log_det.dtype == half.dtype == terms["prior"].dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)
    half.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from gentrain.contracts import Batch, DataSpec, chunks
from gentrain.distributions import BernoulliPixels
from gentrain.layers.masked_conv import MaskedConv2d
from gentrain.layers.raster import waves
from gentrain.models.autoregressive.pixelcnn import PixelCNN

DIGITS = DataSpec(shape=(1, 8, 8), levels=17)
#: Small enough that all images can be listed.
LISTED = [
    DataSpec(shape=(1, 3, 3), levels=2),
    DataSpec(shape=(3, 1, 2), levels=2),
    DataSpec(shape=(1, 2, 2), levels=4),
    DataSpec(shape=(3, 2, 1), levels=3),
]
EVERY_LISTED = pytest.mark.parametrize("spec", LISTED, ids=lambda s: f"{s.shape}-{s.levels}")
#: As published.
FULL = {"channels": 32, "depth": 15, "first_kernel": 7, "kernel": 3, "head_channels": 32, "skips": False}


def model_of(spec=DIGITS, **more):
    small = {"channels": 12, "depth": 2, "first_kernel": 7, "kernel": 3, "head_channels": 12, "skips": False}
    return PixelCNN(spec, **small | more)


def vivid(model):
    """The model in float64, with pixels that depend on those before them, and noise where masks hide it."""
    model = model.double()
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, MaskedConv2d):
                layer.weight.add_(torch.randn_like(layer.weight) * ~layer.mask)
                layer.bias.add_(0.2 * torch.randn_like(layer.bias))
        model.network[-1].weight.mul_(30)
    return model


def images(spec, n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, spec.levels, (n, *spec.shape), generator=g, dtype=torch.uint8)


def all_images(spec):
    every = itertools.product(range(spec.levels), repeat=spec.dims)
    return torch.tensor(list(every), dtype=torch.uint8).view(-1, *spec.shape)


def number_of(x, levels):
    """Which of `all_images` each image is."""
    place = levels ** torch.arange(x[0].numel()).flip(0)
    return (x.flatten(1).long() * place).sum(1)


# Likelihood


@pytest.mark.parametrize(("shape", "levels"), [((1, 5, 4), 2), ((3, 3, 3), 2), ((2, 3, 4), 5)])
def test_causality_by_gradient_for_every_pixel_and_channel(shape, levels):
    """Each logit depends on exactly the values before it in raster order; green on red, blue on both.

    The images are no wider than the first kernel reaches to the right: beyond, a row's first pixels do not
    see the last ones of the row above.
    """
    torch.manual_seed(0)
    spec = DataSpec(shape=shape, levels=levels)
    model = vivid(model_of(spec, depth=3))
    channels, height, width = shape
    for module in model.modules():  # smooth, so that no gradient is zero by chance
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.Softplus())
    x = torch.randn(1, *shape, dtype=torch.float64, requires_grad=True)
    params = model.network(x).unflatten(1, (-1, channels))[0]  # [P, C, H, W]
    order = torch.arange(height * width * channels).view(height, width, channels).permute(2, 0, 1)
    for parameters in params:
        for c, i, j in itertools.product(range(channels), range(height), range(width)):
            (gradient,) = torch.autograd.grad(parameters[c, i, j], x, retain_graph=True)
            assert torch.equal(gradient[0] != 0, order < order[c, i, j]), (c, i, j)


def test_log_likelihood_by_hand():
    """The sum over values of the log probability of the one that is there."""
    torch.manual_seed(0)
    for levels in (2, 5):
        spec = DataSpec(shape=(2, 3, 4), levels=levels)
        model = vivid(model_of(spec))
        x = images(spec, 3)
        params = model.network(x.double() * 2 / (levels - 1) - 1).unflatten(1, (-1, 2))  # [n, P, C, H, W]
        if levels == 2:
            params = torch.cat([torch.zeros_like(params), params], 1)
        log_p = params.log_softmax(1).gather(1, x[:, None].long()).flatten(1).sum(1)
        torch.testing.assert_close(model.log_likelihood(x)[0], log_p.detach())


# Sampling


@pytest.mark.parametrize("shape", [(1, 7, 6), (3, 4, 5)])
@pytest.mark.parametrize("levels", [2, 17])
def test_cached_and_naive_draw_the_same_images(shape, levels):
    """With the same noise, of the published network: identical in float64."""
    torch.manual_seed(0)
    model = vivid(PixelCNN(DataSpec(shape=shape, levels=levels), **FULL))
    noise = torch.rand(3, *shape, dtype=torch.float64)
    for temperature in (1.0, 0.7):
        fast = model.sample_from(noise, temperature)
        assert torch.equal(fast, model.sample_from(noise, temperature, naive=True))
        assert len(fast.unique()) > 1


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 5, 6)])
def test_cached_and_naive_in_float32(shape, monkeypatch):
    """Logits within 1e-5, and at two levels identical images."""
    torch.manual_seed(0)
    model = PixelCNN(DataSpec(shape=shape, levels=2), **FULL)
    noise = torch.rand(8, *shape)
    seen = []

    def level(_self, logits, u, temperature=1.0):
        seen.append(logits)
        return torch.sigmoid(-logits[:, 0]) <= u

    in_waves = model.sample_from(noise)
    monkeypatch.setattr(BernoulliPixels, "level", level)
    monkeypatch.setattr(PixelCNN, "stagger", None)
    fast = model.sample_from(noise)
    assert torch.equal(fast, in_waves)
    cached, seen = seen, []
    slow = model.sample_from(noise, naive=True)
    torch.testing.assert_close(torch.stack(cached), torch.stack(seen), atol=1e-5, rtol=0)
    assert torch.equal(fast, slow)


def test_what_is_measured_of_drawing_is_what_drawing_takes():
    """Two rows of it; the others take the same memory again."""
    model = PixelCNN(DataSpec(shape=(3, 12, 20), levels=4), **FULL).eval()
    with torch.no_grad(), chunks.PeakBytes() as all_rows:
        model._sample(6, 1.0)
    with torch.no_grad(), chunks.PeakBytes() as two_rows:
        model._measure_sample(6)
    assert two_rows.peak <= all_rows.peak <= chunks.UNSEEN * two_rows.peak


@pytest.mark.parametrize(("first", "kernel"), [(3, 3), (5, 3), (3, 5), (1, 1)])
def test_a_row_begins_when_all_that_it_sees_is_drawn(first, kernel):
    """By gradient: in time, and not a column sooner."""
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, 5, 9), levels=3)
    model = vivid(model_of(spec, first_kernel=first, kernel=kernel))
    when = torch.full((5, 9), -1)
    for t, wave in enumerate(waves(5, 9, model.stagger)):
        assert torch.equal(wave.of(when), torch.full((wave.length,), -1))
        wave.of(when).fill_(t)
    x = torch.randn(1, 1, 5, 9, dtype=torch.float64, requires_grad=True)
    params = model.params(x)[0].sum(0)
    sooner = torch.arange(9) + (model.stagger - 1) * torch.arange(5)[:, None]
    late = 0
    for i, j in itertools.product(range(5), range(9)):
        (gradient,) = torch.autograd.grad(params[i, j], x, retain_graph=True)
        seen = gradient[0, 0] != 0
        assert not (seen & (when >= when[i, j])).any()
        late += int((seen & (sooner >= sooner[i, j])).any())
    assert late or kernel > first or kernel == 1  # features see less of their row than of those above


def test_temperature_divides_the_logits():
    torch.manual_seed(0)
    spec = LISTED[2]
    model = vivid(model_of(spec))
    cold = copy.deepcopy(model)
    with torch.no_grad():
        for p in cold.network[-1].parameters():
            p.div_(0.5)
    noise = torch.rand(500, *spec.shape, dtype=torch.float64)
    assert torch.equal(model.sample_from(noise, temperature=0.5), cold.sample_from(noise))
    assert not torch.equal(model.sample_from(noise), cold.sample_from(noise))


# Construction


@settings(max_examples=15, deadline=None)
@given(
    channels=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    levels=st.integers(2, 256),
    depth=st.integers(0, 2),
    half=st.integers(4, 6),
)
def test_images_of_any_size_fit(channels, height, width, levels, depth, half):
    spec = DataSpec(shape=(channels, height, width), levels=levels)
    model = model_of(spec, depth=depth, channels=2 * half, head_channels=5)
    x = images(spec, 2)
    loss, _ = model.loss(Batch(x), 0)
    loss.backward()
    assert loss.isfinite()
    assert 0 < loss < spec.dims * math.log(levels) * 5
    drawn = model.sample(2)
    assert drawn.shape == x.shape
    assert int(drawn.max()) < levels


def test_the_published_network():
    """Table 1 for MNIST: a 7x7 mask A, 15 blocks h = 16, two 1x1 layers; its parameters counted by hand."""
    model = PixelCNN(DataSpec(shape=(1, 28, 28), levels=2), **FULL)
    live = sum(int(m.mask.sum()) + len(m.bias) for m in model.modules() if isinstance(m, MaskedConv2d))
    first = 32 * (3 * 7 + 3) + 32
    block = (32 * 16 + 16) + (5 * 16 * 16 + 16) + (16 * 32 + 32)
    assert live == first + 15 * block + (32 * 32 + 32) * 2 + 33
    assert len([m for m in model.modules() if isinstance(m, MaskedConv2d)]) == 1 + 3 * 15 + 3


def test_a_block_adds_its_input_once():
    model = model_of()
    block = model.network[1]
    with torch.no_grad():
        for p in block.parameters():
            p.zero_()
    h = torch.randn(1, 12, 4, 4)
    assert torch.equal(block(h), h)


@pytest.mark.parametrize(
    ("setting", "value", "shape"),
    [
        ("channels", 0, (1, 8, 8)),
        ("channels", 7, (1, 8, 8)),
        ("channels", 4, (3, 8, 8)),
        ("head_channels", 2, (3, 8, 8)),
        ("head_channels", 0, (1, 8, 8)),
        ("depth", -1, (1, 8, 8)),
        ("first_kernel", 4, (1, 8, 8)),
        ("first_kernel", -3, (1, 8, 8)),
        ("kernel", 0, (1, 8, 8)),
    ],
)
def test_settings_out_of_range_are_named(setting, value, shape):
    with pytest.raises(ValueError, match=rf"model\.{setting} must be .*found {value}"):
        model_of(DataSpec(shape=shape, levels=4), **{setting: value})


def test_a_few_steps_on_real_digits_teach_it_something():
    torch.manual_seed(0)
    x = torch.tensor(load_digits().images[:128, None]).to(torch.uint8)
    model = model_of(channels=16, head_channels=16)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss, _ = model.loss(Batch(x), step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] < 64 * math.log(17) * 1.3  # starts about as good as knowing nothing
    assert losses[-1] < 0.75 * losses[0]

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from gentrain.contracts import Batch, DataSpec
from gentrain.layers.masked_conv import MaskedConv2d
from gentrain.models.autoregressive import pixelcnn
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
FULL = {"channels": 32, "depth": 15, "first_kernel": 7, "kernel": 3, "head_channels": 32}


def model_of(spec=DIGITS, **more):
    small = {"channels": 12, "depth": 2, "first_kernel": 7, "kernel": 3, "head_channels": 12}
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


@EVERY_LISTED
def test_the_probabilities_of_all_images_sum_to_one(spec):
    torch.manual_seed(0)
    model = vivid(model_of(spec))
    log_p, kind = model.log_likelihood(all_images(spec))
    assert kind == "exact"
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-8)
    assert log_p.exp().max() > 3 * log_p.exp().median()  # far from uniform


@EVERY_LISTED
def test_samples_follow_the_probabilities(spec):
    """The total variation stays within what the number of samples allows."""
    torch.manual_seed(1)
    model = vivid(model_of(spec))
    p = model.log_likelihood(all_images(spec))[0].exp()
    n = 40_000
    seen = torch.bincount(number_of(model.sample(n), spec.levels), minlength=len(p)) / n
    # E |seen_i - p_i| <= sqrt(p_i (1 - p_i) / n); McDiarmid bounds the rest: P(beyond) < exp(-2 n t^2).
    expected = (p * (1 - p) / n).sqrt().sum() / 2
    assert (seen - p).abs().sum() / 2 < expected + math.sqrt(math.log(1e6) / (2 * n))
    uniform = torch.full_like(p, 1 / len(p))
    assert (uniform - p).abs().sum() / 2 > 0.2


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


def test_the_loss_is_the_mean_of_minus_log_likelihood():
    torch.manual_seed(0)
    for spec in (DIGITS, DataSpec(shape=(3, 5, 4), levels=2)):
        model = model_of(spec)
        x = images(spec, 5)
        loss, terms = model.loss(Batch(x), 0)
        log_p, _ = model.log_likelihood(x)
        torch.testing.assert_close(loss.detach(), -log_p.mean())
        bits = -log_p.mean() / (spec.dims * math.log(2))
        torch.testing.assert_close(terms, {"bits_per_dim": bits})
        assert loss.requires_grad
        assert not log_p.requires_grad


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


def test_likelihood_in_chunks_of_any_label(monkeypatch):
    torch.manual_seed(0)
    model = model_of()
    x = images(DIGITS, 7)
    whole, _ = model.log_likelihood(x)
    sizes = []
    model.network.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    monkeypatch.setattr(pixelcnn, "CHUNK_BYTES", 3 * model._floats_per_image * 4)
    parts, _ = model.log_likelihood(x, torch.zeros(7, dtype=torch.int64), samples=5)
    torch.testing.assert_close(parts, whole)
    assert sizes == [3, 3, 1]
    monkeypatch.setattr(pixelcnn, "CHUNK_BYTES", 1)
    torch.testing.assert_close(model.log_likelihood(x)[0], whole)
    assert model.log_likelihood(x[:0])[0].shape == (0,)


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

    def level(logits, u):
        seen.append(logits)
        return torch.sigmoid(-logits[:, 0]) <= u

    monkeypatch.setattr(pixelcnn, "bernoulli_level", level)
    fast = model.sample_from(noise)
    cached, seen = seen, []
    slow = model.sample_from(noise, naive=True)
    torch.testing.assert_close(torch.stack(cached), torch.stack(seen), atol=1e-5, rtol=0)
    assert torch.equal(fast, slow)


def test_sampling_in_chunks_changes_nothing(monkeypatch):
    torch.manual_seed(0)
    model = vivid(model_of())
    torch.manual_seed(4)
    whole = model.sample(7)
    assert model.sample(7).ne(whole).any()
    monkeypatch.setattr(pixelcnn, "CHUNK_BYTES", 2 * model._floats_to_draw * 8)
    torch.manual_seed(4)
    assert torch.equal(model.sample(7), whole)
    assert whole.dtype == torch.uint8
    assert whole.shape == (7, 1, 8, 8)
    assert model.sample(0).shape == (0, 1, 8, 8)


def test_what_is_drawn_fits_the_estimates_of_memory():
    """Tensors alive while a sample is drawn, against the floats that bound a chunk."""
    spec = DataSpec(shape=(3, 6, 20), levels=4)
    model = PixelCNN(spec, **FULL)
    n, largest = 50, 0
    from torch.utils._python_dispatch import TorchDispatchMode

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and out.dtype == torch.float32:
                largest = max(largest, out.numel())
            return out

    with Sizes():
        model.log_likelihood(images(spec, n))
    assert 2 * largest <= n * model._floats_per_image


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


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_out_of_range_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        model_of().sample(1, temperature=temperature)


def test_wrong_requests_are_refused():
    model = model_of()
    with pytest.raises(ValueError, match="label"):
        model.sample(1, label=torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match="n must be at least 0, found -1"):
        model.sample(-1)
    with pytest.raises(ValueError, match=r"noise must be \[n, 1, 8, 8\], found \[2, 8, 8\]"):
        model.sample_from(torch.rand(2, 8, 8))
    known = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    for x in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9, dtype=torch.uint8), images(DIGITS, 1) + 17):
        with pytest.raises(ValueError, match=r"images must be|pixel values must be"):
            model.log_likelihood(x)
        with pytest.raises(ValueError, match=r"images must be|pixel values must be"):
            model.complete(x, known)


# Completing


@EVERY_LISTED
def test_completions_of_what_comes_first_follow_the_conditional(spec):
    """Known: the first values in the order of drawing, so that p(rest | known) is exact."""
    torch.manual_seed(2)
    model = vivid(model_of(spec))
    x = all_images(spec)
    p = model.log_likelihood(x)[0].exp()
    channels, height, width = spec.shape
    order = torch.arange(spec.dims).view(height, width, channels).permute(2, 0, 1)
    known = order < spec.dims // 2
    original = images(spec, 1, seed=3)
    agree = ((x == original) | ~known).flatten(1).all(1)
    p = torch.where(agree, p, 0.0)
    p = p / p.sum()
    n = 20_000
    made = model.complete(original.expand(n, -1, -1, -1), known.expand(n, -1, -1, -1))
    seen = torch.bincount(number_of(made, spec.levels), minlength=len(p)) / n
    expected = (p * (1 - p) / n).sqrt().sum() / 2
    assert (seen - p).abs().sum() / 2 < expected + math.sqrt(math.log(1e6) / (2 * n))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1), levels=st.sampled_from([2, 9]))
def test_any_mask_keeps_what_is_known_and_nothing_else_counts(seed, share, levels):
    torch.manual_seed(seed)
    spec = DataSpec(shape=(3, 3, 4), levels=levels)
    model = model_of(spec)
    x, known = images(spec, 4, seed), torch.rand(4, *spec.shape) < share
    torch.manual_seed(seed)
    made = model.complete(x, known)
    assert made.dtype == torch.uint8
    assert torch.equal(made[known], x[known])
    torch.manual_seed(seed)
    blanked = torch.where(known, x, levels - 1 - x)
    assert torch.equal(model.complete(blanked, known), made)
    torch.manual_seed(seed)
    noise = torch.rand(4, *spec.shape)
    assert torch.equal(model.sample_from(noise, given=x, known=known, naive=True), made)


def test_all_and_nothing_known():
    model = model_of()
    x = images(DIGITS, 3)
    assert torch.equal(model.complete(x, torch.ones_like(x, dtype=torch.bool)), x)
    torch.manual_seed(1)
    drawn = model.sample(3)
    torch.manual_seed(1)
    assert torch.equal(model.complete(x, torch.zeros_like(x, dtype=torch.bool)), drawn)
    assert model.complete(x[:0], x[:0].bool()).shape == (0, 1, 8, 8)


def test_a_mask_of_the_wrong_kind_is_refused():
    model, x = model_of(), images(DIGITS, 2)
    with pytest.raises(ValueError, match=r"known must be bool, found torch\.uint8"):
        model.complete(x, torch.ones_like(x))
    for shape in ((2, 8, 8), (1, 1, 8, 8), (2, 1, 8, 7)):
        with pytest.raises(ValueError, match=r"known must be \[2, 1, 8, 8\], like the images, found"):
            model.complete(x, torch.ones(shape, dtype=torch.bool))


def test_it_notes_what_it_cannot_use():
    spec = DataSpec(shape=(3, 4, 4), levels=2)
    model = model_of(spec)
    known = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    assert model.note(known) is None
    known[:, :, :2] = True  # above
    assert model.note(known) is None
    known[:, 0, 2, 0] = True  # red of the next pixel
    assert model.note(known) is None
    assert model.note(torch.ones_like(known)) is None
    left = torch.zeros_like(known)
    left[..., :2] = True
    blue = known.clone()
    blue[1, 2, 2, 0] = True  # blue, without green
    for mask in (left, blue, known.flip(2)):
        assert "reading order: what is known after a pixel cannot inform it" in model.note(mask)


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


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    for spec in (DIGITS, DataSpec(shape=(3, 6, 6), levels=2)):
        model = model_of(spec)
        model.loss(Batch(images(spec, 8)), 0)[0].backward()
        for name, p in model.named_parameters():
            assert p.grad.abs().sum() > 0, name


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


# Other precisions, copies


def test_double_copies_and_state():
    torch.manual_seed(0)
    model = model_of().double().eval()
    twin = copy.deepcopy(model)
    fresh = model_of().double()
    fresh.load_state_dict(model.state_dict())
    x = images(DIGITS, 3)
    outputs = []
    for m in (model, twin, fresh):
        torch.manual_seed(2)
        outputs.append([m.loss(Batch(x), 0)[0], m.log_likelihood(x)[0], m.sample(2)])
    for other in outputs[1:]:
        for a, b in zip(outputs[0], other, strict=True):
            assert torch.equal(a, b)
    assert outputs[0][0].dtype == outputs[0][1].dtype == torch.float64


@pytest.mark.parametrize("levels", [2, 17])
def test_under_autocast_the_loss_is_float32(levels):
    torch.manual_seed(0)
    spec = DataSpec(shape=(1, 8, 8), levels=levels)
    model = model_of(spec)
    x = images(spec, 16)
    full, _ = model.loss(Batch(x), 0)
    torch.manual_seed(1)
    drawn = model.sample(3)
    with torch.autocast("cpu", torch.bfloat16):
        half, terms = model.loss(Batch(x), 0)
        torch.manual_seed(1)
        assert torch.equal(model.sample(3), drawn)
    assert half.dtype == terms["bits_per_dim"].dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.01)
    half.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


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

import time
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gentrain import progress
from gentrain.distributions import Pixels
from gentrain.layers import raster
from gentrain.layers.masked_conv import MaskedConv2d, colour_groups
from gentrain.layers.raster import (
    Canvas,
    Incremental,
    IncrementalModule,
    Residual,
    draw,
    draw_naively,
    incremental,
)

bernoulli_level = Pixels.of("bernoulli", 2, 0).level
categorical_level = Pixels.of("categorical", 5, 0).level


def network(channels, levels, seed=0, features=6, kernel=3):
    """Two residual blocks deep; vivid, so that every pixel depends on those before it."""
    torch.manual_seed(seed)
    image, inside = colour_groups(channels, channels), colour_groups(features, channels)
    per_value = 1 if levels == 2 else levels
    return nn.Sequential(
        MaskedConv2d(image, inside, 5, "A"),
        Residual(nn.Sequential(nn.ReLU(), MaskedConv2d(inside, inside, kernel, "B"))),
        Residual(nn.Sequential(nn.SiLU(), MaskedConv2d(inside, inside, 1, "B"), nn.Tanh())),
        MaskedConv2d(inside, image * per_value, 1, "B"),
    ).double()


def scaled(levels):
    return lambda x: x.double() * (2 / (levels - 1)) - 1


def level_of(levels):
    return bernoulli_level if levels == 2 else categorical_level


def both(net, noise, levels, **more):
    fast = draw(partial(incremental, net), noise, level_of(levels), scaled(levels), **more)
    slow = draw_naively(net, noise, level_of(levels), scaled(levels), **more)
    return fast, slow


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 3),
    levels=st.sampled_from([2, 3, 17, 256]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    n=st.integers(0, 4),
    completing=st.booleans(),
    seed=st.integers(0, 100),
)
def test_the_same_noise_gives_the_same_images(channels, levels, height, width, n, completing, seed):
    net = network(channels, levels, seed)
    shape = (n, channels, height, width)
    noise = torch.rand(shape, dtype=torch.float64)
    more = {}
    if completing:
        more = {"given": torch.randint(0, levels, shape).to(torch.uint8), "known": torch.rand(shape) < 0.5}
    fast, slow = both(net, noise, levels, **more)
    assert fast.dtype == slow.dtype == torch.uint8
    assert fast.shape == slow.shape == shape
    assert torch.equal(fast, slow)
    if completing:
        assert torch.equal(fast[more["known"]], more["given"][more["known"]])
    if n:
        assert int(fast.max()) < levels


def test_each_pixel_is_the_inverse_of_the_distribution_function_at_its_noise():
    """From the finished image alone: the network sees all of it, and gives each pixel's probabilities."""
    net = network(2, 5)
    noise = torch.rand(30, 2, 3, 4, dtype=torch.float64)
    images = draw(partial(incremental, net), noise, categorical_level, scaled(5))
    logits = net(scaled(5)(images)).unflatten(1, (5, 2))
    below = logits.softmax(1).cumsum(1)  # [n, levels, C, H, W]
    at = images[:, None].long()
    upper = below.gather(1, at)[:, 0]
    lower = torch.where(images > 0, below.gather(1, (at - 1).clamp_min(0))[:, 0], 0.0)
    assert (lower <= noise + 1e-12).all()
    assert (noise < upper + 1e-12).all()
    assert images.unique().numel() == 5


class Counting(IncrementalModule):
    """A ReLU that notes what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        return x.relu()

    def incremental(self, canvas):
        outer = self

        class Steps(Incremental):
            def at(self, column, group, x):
                outer.seen.append((column, group, x.shape))
                return x.relu()

        return Steps()


def test_every_activation_is_computed_once():
    counting = Counting()
    net = network(3, 4)
    net = nn.Sequential(net[0], Residual(nn.Sequential(counting, *net[1:3])), net[3])
    noise = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    fast, slow = both(net, noise, 4)
    assert torch.equal(fast, slow)
    expected = [(j, g, (2, 2)) for _ in range(4) for j in range(5) for g in range(3)]  # 6 features, 3 groups
    assert counting.seen == expected


class Previous(IncrementalModule):
    """Logits of level 1 from the pixel before alone; sees the image, within a residual."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, x):
        flat = x.flatten(1)
        before = torch.cat([torch.ones_like(flat[:, :1]), flat[:, :-1]], 1)
        return self.weight * before.view_as(x)

    def incremental(self, canvas):
        weight = self.weight

        class Steps(Incremental):
            sees_image = True
            before = canvas.like.new_ones(canvas.n)

            def at(self, column, group, x):
                return weight * self.before[:, None]

            def observe(self, column, group, pixel):
                self.before = pixel

        return Steps()


@pytest.mark.parametrize("build", [nn.Sequential, lambda net: Residual(nn.Sequential(net))])
def test_any_layer_joins_with_its_own_steps(build):
    """What is drawn reaches it through every container."""
    net = Previous().double()
    noise = torch.rand(6, 1, 3, 4, dtype=torch.float64)
    if build is nn.Sequential:
        assert torch.equal(*both(build(net), noise, 2))
    steps = incremental(build(net), Canvas(6, 1, noise.shape[2], 4, noise))
    assert steps.sees_image
    with torch.inference_mode():
        pixel = torch.rand(6, dtype=torch.float64)
        steps.observe(0, 0, pixel)
        zero = noise.new_zeros(6, 1)
        torch.testing.assert_close(steps.at(1, 0, zero)[:, 0], 3 * pixel)


def test_what_cannot_be_computed_in_steps_is_refused():
    with pytest.raises(TypeError, match="BatchNorm2d cannot be computed position by position"):
        incremental(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), Canvas(1, 1, 1, 1, torch.zeros(1)))


def test_the_surroundings_are_left_as_they_were():
    """Threads, grad mode, random state; images may be changed in place, and autocast changes nothing."""
    net = network(1, 2).float()
    noise = torch.rand(3, 1, 4, 4)
    scale = lambda x: x.float()  # noqa: E731
    torch.manual_seed(5)
    state = torch.get_rng_state()
    expected = draw(partial(incremental, net), noise, bernoulli_level, scale)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    for n in (1, 3):  # one image lies in memory as it is drawn
        drawn = draw(partial(incremental, net), noise[:n], bernoulli_level, scale)
        assert not drawn.is_inference()
        assert drawn.is_contiguous()
        assert torch.equal(drawn.add_(0), expected[:n])
    with torch.autocast("cpu", torch.bfloat16):
        for again in (
            draw(partial(incremental, net), noise, bernoulli_level, scale),
            draw_naively(net, noise, bernoulli_level, scale),
        ):
            assert torch.equal(again, expected)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen = []

        def choose(logits, u):
            seen.append(torch.get_num_threads())
            return bernoulli_level(logits, u)

        draw(partial(incremental, net), noise, choose, scale)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError):
            draw(partial(incremental, net), noise, lambda logits, u: logits @ logits, scale)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    with torch.no_grad():
        first = net(scale(expected))
    for p in net.parameters():
        assert not p.is_inference()
    net(scale(expected)).sum().backward()  # inference mode has left nothing in the weights
    assert torch.equal(net(scale(expected)), first)


def test_rows_are_what_a_bar_counts(monkeypatch):
    tracked = []

    def track(items, unit, total=None):
        tracked.append((list(items), unit, total))
        return items

    monkeypatch.setattr(raster, "track", track)
    both(network(1, 2), torch.rand(1, 1, 5, 3, dtype=torch.float64), 2)
    assert tracked == [(list(range(5)), "row", 5), (list(range(15)), "pixel", 15)]
    tracked.clear()
    both(network(1, 2), torch.rand(1, 1, 1, 4, dtype=torch.float64), 2)
    assert tracked[0] == (list(range(4)), "sample", 4), "a sound has one row"
    assert progress.track(range(3), "row") == range(3)


def test_cached_is_much_faster():
    """Far from the real margin, so that a busy machine does not fail it."""
    net = network(1, 2, features=16)
    noise = torch.rand(4, 1, 16, 16, dtype=torch.float64)
    times = {}
    for name, work in (
        ("cached", lambda: draw(partial(incremental, net), noise, bernoulli_level, scaled(2))),
        ("naive", lambda: draw_naively(net, noise, bernoulli_level, scaled(2))),
    ):
        work()
        start = time.process_time()
        work()
        times[name] = time.process_time() - start
    assert times["cached"] < times["naive"] / 2

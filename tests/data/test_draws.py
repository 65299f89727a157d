from __future__ import annotations

import numpy as np
import pytest
import torch

from gentrain.data.draws import (
    bernoulli,
    bernoulli_by_index,
    bernoulli_on_device,
    generator,
    permutation,
    seed_of,
)


def test_probability_of_every_pixel_value_is_exact_to_24_bits() -> None:
    # The draw is k / 2^24 with k uniform: the number of k below x / (levels - 1) is the probability.
    # It is found by bisection on what `bernoulli` itself answers.
    for levels in range(2, 257):
        x = np.arange(levels, dtype=np.uint8)
        low, high = np.zeros(levels, np.int64), np.full(levels, 2**24)
        for _ in range(25):
            middle = (low + high) // 2
            one = bernoulli(x, levels, (middle / 2**24).astype(np.float32)).astype(bool) & (middle < 2**24)
            low, high = np.where(one & (low < high), middle + 1, low), np.where(one, high, middle)
        error = np.abs(low / 2**24 - x / (levels - 1))
        assert error.max() <= 2**-24, (levels, error.argmax())


def test_uniform_draws_have_24_bits() -> None:
    u = generator("test").random(100_000, dtype=np.float32).astype(np.float64) * 2**24
    assert (u == np.floor(u)).all()
    assert u.min() >= 0
    assert u.max() < 2**24
    assert (u % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)  # the last bit is used


def test_on_device_is_the_same_rule() -> None:
    x = generator("x").integers(0, 256, (50, 1, 8, 8), dtype=np.uint8)
    u = generator("u").random(x.shape, dtype=np.float32)
    drawn = bernoulli_on_device(torch.from_numpy(x), 256, torch.from_numpy(u))
    assert drawn.dtype == torch.uint8
    assert (drawn.numpy() == bernoulli(x, 256, u)).all()


def test_draw_by_index_depends_on_the_index_alone() -> None:
    x = np.full((6, 1, 4, 4), 8, dtype=np.uint8)
    whole = bernoulli_by_index(x, 17, range(6), "test", 3)
    assert (bernoulli_by_index(x[:2], 17, [4, 1], "test", 3) == whole[[4, 1]]).all()
    assert (bernoulli_by_index(x, 17, range(6), "test", 4) != whole).any()
    assert len({row.tobytes() for row in whole}) == 6


def test_seeds_of_neighbours_are_unrelated() -> None:
    seeds = {seed_of("order", seed, epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of("order", 1, 23) != seed_of("order", 12, 3)


def test_permutation() -> None:
    order = permutation(100, "order", -5, 0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(100))
    assert (order == permutation(100, "order", -5, 0)).all()
    assert (order != permutation(100, "order", -5, 1)).any()

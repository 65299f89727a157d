"""Agreement of what is said and seen, against counting."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from gentrain.metrics.captions import agreement


def test_shuffled_is_the_mean_over_all_ways_to_shuffle() -> None:
    said = torch.tensor([[0, 1], [1, 1], [0, 2], [2, 0]])
    seen = torch.tensor([[0, 1], [1, 0], [0, 1], [2, 0]])
    found = agreement(said, seen)
    ways = [(said[list(order)] == seen).all(1).double().mean() for order in itertools.permutations(range(4))]
    assert found.accuracy == 0.5
    assert found.shuffled == pytest.approx(float(torch.stack(ways).mean()))
    assert found.score == pytest.approx(found.accuracy - found.shuffled)
    assert found.stderr == pytest.approx(0.25)


def test_what_says_nothing_does_not_count() -> None:
    found = agreement(torch.tensor([[0, -1], [1, 2], [-1, -1]]), torch.tensor([[0, 0], [1, 2], [0, 0]]))
    assert (found.images, found.accuracy) == (1, 1.0)
    assert math.isnan(agreement(torch.tensor([-1]), torch.tensor([0])).accuracy)
    with pytest.raises(ValueError, match="as many"):
        agreement(torch.tensor([0]), torch.tensor([0, 1]))


def test_images_that_are_all_alike_score_nothing() -> None:
    said = torch.arange(100) % 4
    assert agreement(said, torch.zeros_like(said)).score == 0
    assert agreement(said, said).score == pytest.approx(0.75)

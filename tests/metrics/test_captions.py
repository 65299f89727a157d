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
    found = agreement(said, seen, torch.arange(4))
    ways = [(said[list(order)] == seen).all(1).double().mean() for order in itertools.permutations(range(4))]
    assert found.accuracy == 0.5
    assert found.shuffled == pytest.approx(float(torch.stack(ways).mean()))
    assert found.score == pytest.approx(found.accuracy - found.shuffled)
    assert found.stderr == pytest.approx(0.5 / math.sqrt(3)), "that of a proportion, where each is drawn once"


def test_the_error_is_over_captions_not_over_draws() -> None:
    """Four captions of five draws, of which all, all, none and two fifths are right: m = 0.6."""
    caption = torch.arange(20) % 4
    seen = torch.zeros(20, dtype=torch.int64)
    seen[caption == 2] = 1
    seen[torch.tensor([3, 7, 11])] = 1
    found = agreement(torch.zeros_like(seen), seen, caption)
    means = torch.tensor([1, 1, 0, 0.4], dtype=torch.float64)
    assert (found.images, found.captions, found.accuracy) == (20, 4, pytest.approx(0.6))
    assert found.stderr == pytest.approx(float(means.std()) / 2)
    assert found.stderr > 2 * math.sqrt(0.6 * 0.4 / 20), "draws of a caption are no independent evidence"
    twice = agreement(torch.zeros(40, dtype=torch.int64), seen.repeat(2), caption.repeat(2))
    assert twice.stderr == pytest.approx(found.stderr), (
        "more draws of the same captions tell no more of others"
    )


def test_the_error_of_captions_drawn_unequally_often() -> None:
    """3, 2 and 1 draws, of which 2, 0 and 1 are right: each weighs as often as it was drawn."""
    found = agreement(torch.zeros(6), torch.tensor([0, 0, 1, 1, 1, 0]), torch.tensor([7, 7, 7, 9, 9, 4]))
    expected = 3 / 2 * sum((n / 6) ** 2 * (m - 0.5) ** 2 for n, m in ((3, 2 / 3), (2, 0), (1, 1)))
    assert found.stderr == pytest.approx(math.sqrt(expected))
    alone = agreement(torch.zeros(6), torch.tensor([0, 0, 1, 1, 1, 0]), torch.zeros(6))
    assert alone.accuracy == 0.5
    assert math.isnan(alone.stderr), "of one caption nothing is known of others"


def test_what_says_nothing_does_not_count() -> None:
    said, seen = torch.tensor([[0, -1], [1, 2], [-1, -1]]), torch.tensor([[0, 0], [1, 2], [0, 0]])
    found = agreement(said, seen, torch.arange(3))
    assert (found.images, found.captions, found.accuracy) == (1, 1, 1.0)
    assert math.isnan(agreement(torch.tensor([-1]), torch.tensor([0]), torch.tensor([0])).accuracy)
    for seen, caption in ((torch.tensor([0, 1]), torch.tensor([0])), (torch.tensor([0]), torch.arange(2))):
        with pytest.raises(ValueError, match="as many"):
            agreement(torch.tensor([0]), seen, caption)


def test_images_that_are_all_alike_score_nothing() -> None:
    said = torch.arange(100) % 4
    assert agreement(said, torch.zeros_like(said), said).score == 0
    assert agreement(said, said, said).score == pytest.approx(0.75)

"""The metric `crossing`, of mixtures that are known, and as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from running import Ended
from torch import Tensor, nn

from gentrain.commands.measures.crossing import SHARES, log_odds
from gentrain.metrics.codes import rank_correlation

LABELS = 3


class Mixes:
    """An image is its mixture of labels, three pixels of it, or what `turned` makes of that."""

    latent_prior = "gaussian"

    def __init__(self, turned: Callable[[Tensor], Tensor] = lambda w: w) -> None:
        self.turned = turned

    def prior_draws(self, n: int, *, condition: Tensor) -> Tensor:
        return torch.randn(n, 4)

    def conditions_to_mixtures(self, y: Tensor) -> Tensor:
        return nn.functional.one_hot(y, LABELS).float()

    def mixed_to_images(self, z: Tensor, weights: Tensor) -> Tensor:
        return (200 * self.turned(weights)).to(torch.uint8)[:, None, None]


class Sees(nn.Module):
    """Logits that rise with a label's pixel."""

    def __init__(self, sure: float = 1.0) -> None:
        super().__init__()
        self.sure = sure

    def forward(self, x: Tensor) -> Tensor:
        return self.sure * x.flatten(1).float() / 50


def ranks(model: Mixes) -> list[float]:
    first = torch.tensor([0, 1, 2, 0])
    likely = log_odds(model, Sees(), first, (first + 1) % LABELS, size=3)
    assert likely.shape == (4, SHARES)
    return [rank_correlation(torch.linspace(0, 1, SHARES), row) for row in likely]


def test_the_more_of_a_parent_the_more_like_it() -> None:
    assert ranks(Mixes()) == pytest.approx([1.0] * 4)
    assert ranks(Mixes(lambda w: 1 - w)) == pytest.approx([-1.0] * 4)
    assert max(ranks(Mixes(lambda w: (2 * w - 1).square()))) < 0.6  # as like at both ends
    assert ranks(Mixes(torch.zeros_like)) == [0.0] * 4, "a model that ignores the mixture"


def test_a_sure_classifier_still_tells_more_from_less() -> None:
    """Where every probability is 1 in float64."""
    labels = torch.tensor([0, 1, 2, 0])
    odds = log_odds(Mixes(), Sees(sure=20.0), labels, (labels + 1) % LABELS, size=4)
    assert (odds.sigmoid()[:, -2:] == 1).all()
    assert (odds.diff(dim=1) > 0).all()


def test_as_typed(gentrain: Callable[..., Ended]) -> None:
    little = ["dataset=digits", "train.steps=2", "train.batch_size=8", "train.sample_every=2"]
    assert gentrain("train", "model=cgan", "model.channels=2", *little, "run_dir=cgan").status == 0
    done = gentrain("eval", "ckpt=cgan", "metrics=[crossing]", "n=40")
    assert done.status == 0, done.err
    assert "4 pairs of parents" in done.out
    found = json.loads(Path("cgan/eval_crossing_40.json").read_text())
    assert -1 <= found["correlation"] <= 1
    assert len(found["probability"]) == SHARES
    assert gentrain("train", "model=gan", "model.channels=2", *little, "run_dir=gan").status == 0
    refused = gentrain("eval", "ckpt=gan", "metrics=[crossing]")
    assert refused.status == 2
    assert "metrics=[crossing]: gan has no mixtures of labels" in refused.one_line()

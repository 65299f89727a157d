"""What codes say: as labels, matched one to one, and in nats.

1. Chen et al. 2016, InfoGAN, arXiv:1606.03657, sections 5 and 7.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Match:
    """How categories of a code go with labels.

    error: share of images whose label is not the one that their category is matched with, one to one.
    majority_error: the same where each category means its most frequent label, so that two may mean one.
    label_of: of each category, the label that it is matched with; -1: none is left for it.
    """

    error: float
    majority_error: float
    label_of: tuple[int, ...]


def matched(categories: Tensor, labels: Tensor, count: int, classes: int) -> Match:
    """int64 [N] each -> the match of `count` categories with `classes` labels.

    Raises:
        ValueError: no images.
    """
    from scipy.optimize import linear_sum_assignment

    if not len(labels):
        raise ValueError("there are no images to match")
    table = contingency(categories, labels, count, classes)
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    label_of = [-1] * count
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        label_of[row] = column
    total = len(labels)
    right = int(table[torch.as_tensor(rows), torch.as_tensor(columns)].sum())
    return Match(1 - right / total, 1 - int(table.max(1).values.sum()) / total, tuple(label_of))


def contingency(categories: Tensor, labels: Tensor, count: int, classes: int) -> Tensor:
    """How often each of `count` categories goes with each of `classes` labels: int64 [N] each -> [K, L]."""
    table = torch.zeros(count, classes, dtype=torch.int64)
    return table.index_put_((categories, labels), torch.ones_like(labels), accumulate=True)


def information_of_category(drawn: Tensor, probabilities: Tensor) -> tuple[float, float]:
    """ln K + E log Q(c|x), [1] equation 4, in nats, and its standard error.

    Args:
        drawn: int64 [N], the categories that images were made from, all equally frequent.
        probabilities: Q(c|x) [N, K].
    """
    found = probabilities.double().gather(1, drawn[:, None]).clamp_min(1e-300).log().squeeze(1)
    error = float(found.std()) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return math.log(probabilities.shape[1]) + float(found.mean()), error


def information_of_number(drawn: Tensor, means: Tensor) -> float:
    """ln 2 - ln(2 pi e v) / 2: the same of a number on [-1, 1], with the best variance v of a normal Q.

    Args:
        drawn, means: float [N], the numbers that images were made from, and those found.
    """
    variance = float((drawn - means).double().square().mean())
    return math.log(2) - math.log(2 * math.pi * math.e * max(variance, 1e-300)) / 2


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's, of two [N]; equal values share a rank, and values that are all one have no order: 0."""
    from scipy.stats import rankdata

    ranks = [torch.from_numpy(rankdata(x.detach().cpu().numpy())) for x in (a, b)]
    if any(bool((rank == rank[0]).all()) for rank in ranks):
        return 0.0
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])

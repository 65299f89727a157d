"""Whether images have what their captions say, and how much of that is owed to the caption.

Accuracy alone flatters where most captions say the same. Beside it stands the accuracy against shuffled
captions: its mean over all ways to give the images one another's, which has a closed form.

Images of one caption are right or wrong together more than images of two. The standard error is therefore
that of captions: the mean within each first, then the spread between them.

[1] Cochran 1977, "Sampling Techniques", third edition, section 3.12 (ratio to size of clusters).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """How often what is seen is what was said.

    images: how many images' captions say something; captions: how many different ones; accuracy: share of
    images that are right; stderr: its standard error over captions, NaN of a single one; shuffled: that share
    with the captions shuffled; score: accuracy - shuffled.
    """

    images: int
    captions: int
    accuracy: float
    stderr: float
    shuffled: float

    @property
    def score(self) -> float:
        """What the caption has to do with it: 0 for images that do not depend on it."""
        return self.accuracy - self.shuffled


def agreement(said: Tensor, seen: Tensor, caption: Tensor) -> Agreement:
    """How often `seen` is `said`, [N] or [N, F], all F of which are to be right.

    Images of whose captions a part says nothing do not count.

    Args:
        said, seen: int64; said below 0: nothing is said.
        caption: int64 [N], equal for images of one caption.

    Raises:
        ValueError: different shapes.
    """
    if said.shape != seen.shape or caption.shape != said.shape[:1]:
        shapes = ", ".join(str(list(part.shape)) for part in (said, seen, caption))
        raise ValueError(f"expected as many said as seen and a caption of each, found {shapes}")
    said, seen = (part.reshape(len(part), -1) for part in (said, seen))
    told = (said >= 0).all(1)
    said, seen, caption = said[told], seen[told], caption[told]
    count = len(said)
    if not count:
        return Agreement(0, 0, math.nan, math.nan, math.nan)
    right = (said == seen).all(1).double()
    _, kinds = torch.unique(torch.cat([said, seen]), dim=0, return_inverse=True)
    size = int(kinds.max()) + 1
    a, b = (torch.bincount(part, minlength=size).double() / count for part in (kinds[:count], kinds[count:]))
    captions, stderr = _over_groups(right, caption)
    return Agreement(count, captions, float(right.mean()), stderr, float((a * b).sum()))


def _over_groups(values: Tensor, group: Tensor) -> tuple[int, float]:
    """(how many groups there are, the standard error of the mean of `values` [N] over them), [1].

    With w_g the share of the values in group g, m_g their mean and m that of all:
    sqrt(G / (G - 1) sum_g w_g^2 (m_g - m)^2), which for groups of one size is the deviation of the means over
    sqrt(G); NaN of one group.
    """
    _, number, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    groups = len(sizes)
    if groups < 2:
        return groups, math.nan
    away = torch.zeros(groups, dtype=torch.float64, device=values.device)
    away.index_add_(0, number, values - values.mean())
    return groups, math.sqrt(groups / (groups - 1) * float(away.square().sum())) / len(values)

"""Whether images have what their captions say, and how much of that is owed to the caption.

Accuracy alone flatters where most captions say the same. Beside it stands the accuracy against shuffled
captions: its mean over all ways to give the images one another's, which has a closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """How often what is seen is what was said.

    images: how many captions say something; accuracy, stderr: share that are right; shuffled: that share with
    the captions shuffled; score: accuracy - shuffled.
    """

    images: int
    accuracy: float
    stderr: float
    shuffled: float

    @property
    def score(self) -> float:
        """What the caption has to do with it: 0 for images that do not depend on it."""
        return self.accuracy - self.shuffled


def agreement(said: Tensor, seen: Tensor) -> Agreement:
    """said, seen int64 [N] or [N, F], all F of which are to be right; said below 0: nothing is said.

    Images of whose captions a part says nothing do not count.

    Raises:
        ValueError: two shapes.
    """
    if said.shape != seen.shape:
        raise ValueError(f"expected as many said as seen, found {list(said.shape)} and {list(seen.shape)}")
    said, seen = (part.reshape(len(part), -1) for part in (said, seen))
    told = (said >= 0).all(1)
    said, seen = said[told], seen[told]
    count = len(said)
    if not count:
        return Agreement(0, math.nan, math.nan, math.nan)
    right = float((said == seen).all(1).double().mean())
    _, kinds = torch.unique(torch.cat([said, seen]), dim=0, return_inverse=True)
    size = int(kinds.max()) + 1
    a, b = (torch.bincount(part, minlength=size).double() / count for part in (kinds[:count], kinds[count:]))
    return Agreement(count, right, math.sqrt(right * (1 - right) / count), float((a * b).sum()))

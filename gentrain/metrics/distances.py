"""How far two sets of images are from one another by their features: Frechet distance, KID, four shares.

Everything in float64, whatever the features are in: differences of large sums.

1. Heusel et al. 2017, GANs trained by a two time-scale update rule, arXiv:1706.08500, equation 6.
2. Binkowski et al. 2018, Demystifying MMD GANs, arXiv:1801.01401, section 4.
3. Kynkaanniemi et al. 2019, Improved precision and recall metric, arXiv:1904.06991, equation 2.
4. Naeem et al. 2020, Reliable fidelity and diversity metrics, arXiv:2002.09797, equations 5 and 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Rows of a matrix of distances at once.
_CHUNK = 1000


def frechet(a: Tensor, b: Tensor) -> float:
    """The Frechet distance between the normals with the means and covariances of `a` and `b` [1].

    |m_a - m_b|^2 + tr A + tr B - 2 tr (A B)^(1/2). With centred rows X = Q R, a covariance is R^T R / (n - 1)
    and the last trace the sum of the singular values of R_a R_b^T over the root of (n_a - 1)(n_b - 1). No
    root of a matrix is taken, it is never imaginary, and fewer images than features are no special case.

    Args:
        a, b: [N, D] and [M, D], N and M at least 2.

    Raises:
        ValueError: fewer than two rows, or other features.
    """
    _check(a, b, 2)
    a, b = a.double(), b.double()
    means = [x.mean(0) for x in (a, b)]
    factors = [torch.linalg.qr(x - m, mode="r").R / math.sqrt(len(x) - 1) for x, m in zip((a, b), means)]  # noqa: B905
    traces = sum(r.square().sum() for r in factors)
    common = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    return float((means[0] - means[1]).square().sum() + traces - 2 * common)


#: Of the kernel distance's estimate, by default.
BLOCKS = 10


def kid(a: Tensor, b: Tensor, size: int = 1000, blocks: int = BLOCKS) -> tuple[float, float]:
    """The kernel inception distance [2], unbiased, and its standard error.

    The squared maximum mean discrepancy under (x . y / D + 1)^3. Over disjoint blocks, whose estimates are
    independent: their mean, and its standard error. It may be slightly negative. Rows are shuffled first, the
    same way each time: where labels follow one another in turn, a block has too few pairs of one label.

    Args:
        a, b: [N, D] and [M, D]; what is left over of a block is left out.
        size: images in a block, fewer where there are fewer than `blocks` such blocks.
        blocks: the least number of blocks.

    Raises:
        ValueError: fewer than two rows for each block, or other features.
    """
    _check(a, b, 2 * blocks)
    count = min(len(a), len(b))
    size = min(size, count // blocks)
    dice = np.random.default_rng(0)
    a, b = (x[torch.from_numpy(dice.permutation(len(x))).to(x.device)] for x in (a, b))
    found = torch.tensor(
        [_mmd2(a[i : i + size].double(), b[i : i + size].double()) for i in range(0, count - size + 1, size)]
    )
    return float(found.mean()), float(found.std() / math.sqrt(len(found)))


def _mmd2(a: Tensor, b: Tensor) -> float:
    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = []
    for x in (a, b):
        k = kernel(x, x)
        within.append((k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1)))
    return float(within[0] + within[1] - 2 * kernel(a, b).mean())


@dataclass(frozen=True)
class Shares:
    """Precision and recall [3], density and coverage [4].

    precision: of generated images, how many lie among the real ones; recall: the other way round.
    density: how many real balls a generated image lies in, on average over k; may be above 1.
    coverage: of real images, how many have a generated one in their ball.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def shares(real: Tensor, fake: Tensor, k: int = 5) -> Shares:
    """The four shares; a ball reaches from an image to its `k`-th nearest other one of the same set.

    Args:
        real, fake: [N, D] and [M, D], more than `k` rows each.
        k: 5 in [4].

    Raises:
        ValueError: too few rows, or other features.
    """
    _check(real, fake, k + 1)
    real, fake = real.double(), fake.double()
    of_real, of_fake = _radii(real, k), _radii(fake, k)
    inside = torch.zeros(len(fake), dtype=torch.int64, device=real.device)  # in how many real balls
    recalled, covered = [], []
    for start in range(0, len(real), _CHUNK):
        part = slice(start, start + _CHUNK)
        distances = torch.cdist(real[part], fake)  # [chunk, M]
        within = distances < of_real[part, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((distances < of_fake).any(1))
    return Shares(
        precision=float((inside > 0).double().mean()),
        recall=float(torch.cat(recalled).double().mean()),
        density=float(inside.double().mean()) / k,
        coverage=float(torch.cat(covered).double().mean()),
    )


def _radii(x: Tensor, k: int) -> Tensor:
    """[N, D] -> the distance of each row to its k-th nearest other: [N]."""
    found = []
    for start in range(0, len(x), _CHUNK):
        distances = torch.cdist(x[start : start + _CHUNK], x)
        rows = torch.arange(len(distances), device=x.device)
        distances[rows, start + rows] = math.inf  # its own, which rounding need not leave at 0
        found.append(distances.kthvalue(k, dim=1).values)
    return torch.cat(found)


def pairwise_mean(x: Tensor) -> float:
    """[N, D] -> the mean distance between two different rows; not-a-number of fewer than two."""
    if len(x) < 2:
        return math.nan
    total = sum(float(torch.cdist(part.double(), x.double()).sum()) for part in x.split(_CHUNK))
    return total / (len(x) * (len(x) - 1))


def _check(a: Tensor, b: Tensor, least: int) -> None:
    if min(len(a), len(b)) < least:
        raise ValueError(f"this takes at least {least} images on both sides, found {len(a)} and {len(b)}")
    if a.ndim != 2 or a.shape[1:] != b.shape[1:]:
        raise ValueError(f"features must be [N, D] of one D, found {list(a.shape)} and {list(b.shape)}")

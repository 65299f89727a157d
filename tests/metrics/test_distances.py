"""Distances between sets of features: closed forms, definitions written out, and what they are blind to."""

from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from gentrain.metrics.distances import _mmd2, frechet, kid, pairwise_mean, shares


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 6), (10, 8, 20), (300, 5, 6)])
def test_frechet_is_that_of_a_root_of_a_matrix(n: int, m: int, d: int) -> None:
    """As scipy's sqrtm computes it, where there are more images than features and where not."""
    a = normal(n, d) @ normal(d, d, 2) + 0.3
    b = normal(m, d, 1)
    covariances = [np.atleast_2d(np.cov(x.numpy().T)) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1])
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root.real)
    assert frechet(a, b) == pytest.approx(float(expected), rel=1e-4)
    assert frechet(b, a) == pytest.approx(frechet(a, b), rel=1e-9)
    assert abs(frechet(a, a)) < 1e-9


def test_frechet_of_two_normals_on_a_line() -> None:
    """(m - m')^2 + (s - s')^2, exactly: of samples whose mean and variance are known."""
    x = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)  # variance 2
    assert frechet(x, 3 * x + 5) == pytest.approx(25 + (math.sqrt(2) - 3 * math.sqrt(2)) ** 2)
    with pytest.raises(ValueError, match="at least 2 images on both sides, found 1 and 2"):
        frechet(x[:1], x)
    with pytest.raises(ValueError, match="of one D"):
        frechet(x, normal(3, 2))


def test_frechet_needs_float64() -> None:
    """Features far from zero: in float32 the sums lose what the distance is made of; here they do not."""
    a, b = normal(500, 8) + 1000, normal(500, 8, 1) + 1000
    assert frechet(a.float(), b.float()) == pytest.approx(frechet(a, b), rel=0.02)


def test_kid_is_the_unbiased_estimate_of_each_block() -> None:
    a, b = normal(60, 4), normal(60, 4, 1) + 0.2
    value, error = kid(a, b, size=6, blocks=10)

    def kernel(x: Tensor, y: Tensor) -> float:
        return (float(x @ y) / 4 + 1) ** 3

    dice = np.random.default_rng(0)
    p, q = (x[dice.permutation(60)] for x in (a, b))
    found = []
    for i in range(0, 60, 6):
        u, v = p[i : i + 6], q[i : i + 6]
        within = [sum(kernel(x[j], x[k]) for j in range(6) for k in range(6) if j != k) / 30 for x in (u, v)]
        across = sum(kernel(x, y) for x in u for y in v) / 36
        found.append(sum(within) - 2 * across)
    assert value == pytest.approx(np.mean(found))
    assert error == pytest.approx(np.std(found, ddof=1) / math.sqrt(10))


def test_kid_is_unbiased_and_its_error_says_how_much_it_varies() -> None:
    """Over many pairs of sets of one distribution, sorted by label: mean 0, deviation as said."""
    centres = 3 * torch.eye(10, dtype=torch.float64)
    found = []
    for seed in range(40):
        sets = []
        for k in (0, 1):
            labels = torch.randint(10, (200,), generator=torch.Generator().manual_seed(2 * seed + k))
            sets.append(centres[labels.sort().values] + normal(200, 10, 2 * seed + k))
        a, b = sets
        found.append(kid(a, b))
    values, errors = np.array(found).T
    assert abs(values.mean()) < 4 * values.std() / math.sqrt(40)
    assert errors.mean() == pytest.approx(values.std(), rel=0.5)
    with pytest.raises(ValueError, match="at least 20 images"):
        kid(a[:19], b)


def test_shares_by_their_definitions() -> None:
    real, fake = normal(40, 3), 1.3 * normal(30, 3, 1) + 0.4
    k = 3

    def radius(x: Tensor, i: int) -> float:
        return float((x - x[i]).norm(dim=1).sort().values[k])  # itself is the 0th

    inside = torch.tensor(
        [[float((f - r).norm()) < radius(real, i) for i, r in enumerate(real)] for f in fake]
    )
    recalled = [any(float((f - r).norm()) < radius(fake, j) for j, f in enumerate(fake)) for r in real]
    found = shares(real, fake, k)
    assert found.precision == pytest.approx(float(inside.any(1).double().mean()))
    assert found.density == pytest.approx(float(inside.sum()) / (k * 30))
    assert found.coverage == pytest.approx(float(inside.any(0).double().mean()))
    assert found.recall == pytest.approx(sum(recalled) / 40)


def test_a_collapsed_generator_is_precise_and_recalls_nothing() -> None:
    """So that the two cannot be mistaken for one another."""
    real = normal(500, 5)
    fake = 0.001 * normal(500, 5, 1)
    found = shares(real, fake)
    assert found.precision == 1
    assert found.recall < 0.02
    assert found.coverage < 0.3
    swapped = shares(fake, real)
    assert (swapped.precision, swapped.recall) == (found.recall, found.precision)
    same = shares(real, normal(500, 5, 1))
    assert min(same.precision, same.recall, same.coverage) > 0.8
    assert same.density == pytest.approx(1, abs=0.15)


def test_the_mean_distance_of_two() -> None:
    x = normal(30, 3)
    expected = np.mean([float((x[i] - x[j]).norm()) for i in range(30) for j in range(30) if i != j])
    assert pairwise_mean(x) == pytest.approx(expected)
    assert math.isnan(pairwise_mean(x[:1]))


@pytest.mark.parametrize(("n", "m", "d"), [(120, 100, 7), (40, 60, 50)])
def test_frechet_and_kid_are_torch_fidelitys(n: int, m: int, d: int) -> None:
    """Of the same features; its KID on all images at once, which a single block is."""
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd

    a, b = normal(n, d) + 0.2, 1.3 * normal(m, d, 1)
    theirs = [fid_features_to_statistics(x) for x in (a, b)]
    expected = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)
    one, other = normal(60, d), normal(60, d, 1) + 0.1
    with_kernel = kernel_mmd(
        one.numpy(),
        other.numpy(),
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        verbose=False,
    )
    assert _mmd2(one, other) == pytest.approx(float(with_kernel), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "shift"), [(80, 80, 0.3), (50, 90, 1.0)])
def test_shares_are_prdcs(n: int, m: int, shift: float) -> None:
    from prdc import compute_prdc

    a, b = normal(n, 6), normal(m, 6, 1) + shift
    theirs = compute_prdc(a.numpy(), b.numpy(), nearest_k=5)
    assert asdict(shares(a, b, 5)) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.slow
def test_shares_of_two_normals_are_those_that_prdcs_readme_prints() -> None:
    """N(0, I) of 1,000 dimensions, 10,000 draws each, k = 5. Its draws are not ours: few images are near many
    others in so many dimensions, so that the density moves most."""
    found = shares(normal(10_000, 1000).float(), normal(10_000, 1000, 1).float(), 5)
    assert (found.precision, found.recall) == pytest.approx((0.4772, 0.4705), abs=0.02)
    assert (found.density, found.coverage) == pytest.approx((1.0555, 0.9735), abs=0.05)

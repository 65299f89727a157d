"""How far translations are from the truth, against formulas and another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, TranslatesBack
from gentrain.metrics.translation import (
    colourfulness,
    correlation,
    distances,
    evaluate_translation,
    structural_similarity,
)


class Doubles(TranslatesBack):
    """Twice as light, and half as light."""

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        return 2 * source

    def _translate_back(self, x: Tensor, *y: Tensor) -> Tensor:
        return x // 2


def test_the_figures_of_a_known_map() -> None:
    spec = DataSpec((3, 12, 12), 256, source_shape=(3, 12, 12), paired=True)
    source = torch.randint(0, 100, (6, 3, 12, 12), dtype=torch.uint8)
    batches = [Batch(x=2 * source + 10, source=source)]
    found = evaluate_translation(Doubles(spec), batches, spec, truth=True)
    assert found.of["translation"]["l1"] == pytest.approx(10 / 255)
    assert found.of["translation"]["psnr"] == pytest.approx(20 * math.log10(25.5))
    assert found.of["translation"]["alike"] == pytest.approx(1)
    assert found.of["translation"]["cycle"] == 0
    assert found.of["source"]["l1"] == pytest.approx(float((source.double() + 10).mean()) / 255)
    assert found.of["source"]["l1"] > found.of["translation"]["l1"]
    without = evaluate_translation(Doubles(spec), batches, spec, truth=False)
    assert set(without.of["translation"]) == {"alike", "cycle", "colourfulness"}


def test_ssim_is_that_of_its_formula_by_another_filter() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((1, 1, 30, 24))
    y = np.clip(x + 0.2 * rng.standard_normal(x.shape), 0, 1)

    def mean(z: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(z, 1.5, truncate=3.34)[5:-5, 5:-5]  # a radius of 5

    a, b = x[0, 0], y[0, 0]
    m_a, m_b = mean(a), mean(b)
    v_a, v_b, c = mean(a * a) - m_a**2, mean(b * b) - m_b**2, mean(a * b) - m_a * m_b
    expected = ((2 * m_a * m_b + 1e-4) * (2 * c + 9e-4)) / ((m_a**2 + m_b**2 + 1e-4) * (v_a + v_b + 9e-4))
    found = structural_similarity(torch.from_numpy(y), torch.from_numpy(x))
    assert found.item() == pytest.approx(expected.mean(), abs=1e-6)
    same = structural_similarity(torch.from_numpy(x), torch.from_numpy(x))
    assert same.item() == pytest.approx(1)


def test_grey_has_no_colour_and_red_has() -> None:
    grey = torch.rand(2, 1, 5, 5, dtype=torch.float64)
    assert colourfulness(grey).tolist() == [0, 0]
    assert colourfulness(grey.expand(-1, 3, -1, -1)).abs().max() < 1e-9
    red = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    red[:, 0] = 1
    assert colourfulness(red).item() == pytest.approx(0.3 * math.hypot(255, 127.5))


def test_equal_images_and_their_negatives() -> None:
    x = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    found = distances(x, x)
    assert found["psnr"].tolist() == [100] * 3
    assert found["l1"].tolist() == [0] * 3
    assert correlation(x.mean(1), 1 - x.mean(1)).tolist() == pytest.approx([-1] * 3)
    assert correlation(torch.zeros(1, 8, 8), torch.rand(1, 8, 8)).tolist() == [0]

"""How far translations are from the truth, against formulas and another library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, Translates, TranslatesBack
from gentrain.metrics.translation import (
    chroma,
    colourfulness,
    correlation,
    distances,
    evaluate_translation,
    share,
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
    assert set(without.of["translation"]) == {"alike", "cycle", "colourfulness", "chroma"}
    assert without.shares == {}


class Noisy(Translates):
    """The source with noise."""

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        return source + torch.randint_like(source, 30)


def test_another_model_stands_beside_and_leaves_the_figures_what_they_are() -> None:
    spec = DataSpec((3, 12, 12), 256, source_shape=(3, 12, 12), paired=True)
    sources = torch.randint(0, 100, (2, 6, 3, 12, 12), dtype=torch.uint8)
    batches = [Batch(x=2 * source + 10, source=source) for source in sources]

    def measured(beside: Translates | None) -> dict[str, dict[str, float]]:
        torch.manual_seed(0)
        found = evaluate_translation(Noisy(spec), batches, spec, truth=True, beside=beside)
        assert (("l1", "beside") in found.shares) == (beside is not None)
        if beside is not None:
            assert found.shares["l1", "beside"][0] == pytest.approx(
                found.of["translation"]["l1"] / found.of["beside"]["l1"]
            )
            assert found.shares["chroma", "truth"][0] == pytest.approx(
                found.of["translation"]["chroma"] / found.of["truth"]["chroma"]
            )
        return found.of

    alone, both = measured(None), measured(Noisy(spec))
    assert "beside" not in alone
    assert {whose: figures for whose, figures in both.items() if whose != "beside"} == alone
    doubled = measured(Doubles(spec))["beside"]
    assert doubled["l1"] == pytest.approx(10 / 255)
    assert doubled["cycle"] == 0


def test_the_error_of_a_share() -> None:
    """By hand: ratio 2 with residuals -1, 1, 1, -1; of one image, and of nothing, none is known."""
    a, b = torch.tensor([1.0, 5.0, 7.0, 7.0]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    found, error = share(a.double(), b.double())
    assert found == 2
    assert error == pytest.approx(math.sqrt(4 / 3) / 2.5 / 2)
    assert math.isnan(share(a[:1], b[:1])[1])
    assert math.isnan(share(a, 0 * b)[0])


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


def test_chroma_of_the_primaries() -> None:
    """CIE L*a*b* of sRGB's red, green and blue, as colour libraries have it; grey has none, however light."""
    x = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(-1, -1, 4, 5)
    assert chroma(x).tolist() == pytest.approx([104.55, 119.78, 133.81], abs=0.05)
    grey = torch.linspace(0, 1, 50, dtype=torch.float64).expand(1, 3, 1, -1)
    assert chroma(grey).abs().max() < 1e-9
    half = x.clone()
    half[..., :2] = 0.5
    assert chroma(half)[0] == pytest.approx(104.55 * 3 / 5, abs=0.05), "the mean over pixels"


def test_equal_images_and_their_negatives() -> None:
    x = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    found = distances(x, x)
    assert found["psnr"].tolist() == [100] * 3
    assert found["l1"].tolist() == [0] * 3
    assert correlation(x.mean(1), 1 - x.mean(1)).tolist() == pytest.approx([-1] * 3)
    assert correlation(torch.zeros(1, 8, 8), torch.rand(1, 8, 8)).tolist() == [0]

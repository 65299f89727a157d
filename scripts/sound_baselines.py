"""What simple models need for the sounds of a data set: `python scripts/sound_baselines.py ROOT`.

In bits per sample, of all test samples: how often each level comes (unigram), given the one before (first
order), and by linear prediction from the last 16, whose error is logistic with a scale that follows the
last errors. A model of sounds that needs more has learnt little.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.signal import lfilter
from scipy.special import expit

from gentrain.data.audio import Audio
from gentrain.data.mu_law import LEVELS, expanded

ORDER = 16
_PSEUDO = 16.0  # counts by which the first order leans on the unigram
_FEW = 2_000_000  # training samples that the scale is chosen on


def unigram(train: np.ndarray) -> np.ndarray:
    """P(level), float64 [256], of levels uint8 [M], each seen once more."""
    counts = np.bincount(train, minlength=LEVELS) + 1.0
    return counts / counts.sum()


def first_order(train: np.ndarray) -> np.ndarray:
    """P(level | the one before), float64 [256, 256]."""
    counts = np.zeros((LEVELS, LEVELS))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    leaning = counts + _PSEUDO * unigram(train)
    return leaning / leaning.sum(1, keepdims=True)


def lagged(wave: np.ndarray) -> np.ndarray:
    """The `ORDER` samples before each: [M] -> [M, ORDER], zeros before the first."""
    padded = np.concatenate([np.zeros(ORDER, wave.dtype), wave[:-1]])
    return np.lib.stride_tricks.sliding_window_view(padded, ORDER)


def edges() -> np.ndarray:
    """The amplitudes between which each level lies, float64 [257]."""
    f = (np.arange(LEVELS + 1) - 0.5) * (2 / (LEVELS - 1)) - 1
    return np.sign(f) * np.expm1(np.abs(f) * np.log(LEVELS)) / (LEVELS - 1)


def predicted(levels: np.ndarray, weights: np.ndarray, decay: float, factor: float) -> float:
    """Bits per sample by linear prediction: the scale is `factor` times the mean of the last errors."""
    wave, q, bounds = expanded(levels), levels.astype(np.int64), edges()
    mean = lagged(wave) @ weights
    before = np.concatenate([[0.0], np.abs(wave - mean)[:-1]])
    scale = factor * lfilter([1 - decay], [1, -decay], before) + 1e-5
    above = np.where(q == LEVELS - 1, 1.0, expit((bounds[q + 1] - mean) / scale))
    below = np.where(q == 0, 0.0, expit((bounds[q] - mean) / scale))
    return float(-np.log2(np.maximum(above - below, 1e-12)).mean())


def results(train: np.ndarray, test: np.ndarray) -> Iterator[tuple[str, float]]:
    """(name, bits per sample of the test samples)."""
    yield "unigram", float(-np.log2(unigram(train)[test]).mean())
    yield "first order", float(-np.log2(first_order(train)[test[:-1], test[1:]]).mean())
    wave = expanded(train)
    weights = np.linalg.lstsq(lagged(wave), wave, rcond=None)[0]
    choices = product((0.8, 0.9, 0.95, 0.98), (0.4, 0.6, 0.8))
    best = min(choices, key=lambda choice: predicted(train[:_FEW], weights, *choice))
    yield f"linear prediction of order {ORDER}", predicted(test, weights, *best)


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", help="a folder or .zip of recordings, as dataset=audio takes it")
    root = parser.parse_args().root
    settings = {"length": 8192, "context": 0, "sample_rate": None, "on_error": "raise", "test_fraction": 0.1}
    data = Audio(root=root, cache=None, validation=0, split_seed=0, license=None, **settings).load()
    train, test = (np.array(split.images.samples) for split in (data.train, data.test))
    print(f"{len(train):,} training and {len(test):,} test samples, {data.pixels}")
    for name, bits in results(train, test):
        print(f"{name:36}{bits:.3f} bits per sample")


if __name__ == "__main__":
    main()

"""How much of the labels a model's latents show: a linear classifier fitted to them, tested on other images.

The latents of the training images, standardised, are what a multinomial logistic regression is fitted to
(a linear probe [1]: features extracted without labels, for a supervised task that comes later); its accuracy
on other images says how far the labels can be told apart by planes in the space of latents. The same recipe
on the pixels is what to compare with: an encoder that has learnt something for this task is above it.

1. Alain & Bengio 2016, Understanding intermediate layers using linear classifier probes, arXiv:1610.01644.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

#: L-BFGS stops after so many iterations. MNIST's pixels take 150, in 22 s on one core.
MOST_ITERATIONS = 500


@dataclass(frozen=True)
class Probe:
    """A fitted linear classifier of standardised features.

    classifier: scikit-learn's pipeline of the standardisation and the regression.
    features: D, how many it sees of each image; images: how many it was fitted to.
    iterations: of L-BFGS; converged: whether it ended before they ran out.
    """

    classifier: Any
    features: int
    images: int
    iterations: int
    converged: bool


def fit(features: np.ndarray, labels: np.ndarray) -> Probe:
    """Fit the standardisation and the regression; both are a function of what is given here alone.

    The weights have scikit-learn's default penalty, |w|^2 / 2 beside the sum of the images' losses.

    Args:
        features: float32 [N, D], finite.
        labels: int64 [N].

    Raises:
        ValueError: fewer than two different labels.
    """
    # At the top it would cost every command half a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    different = len(np.unique(labels))
    if different < 2:
        raise ValueError(f"a classifier needs images with at least two labels, found {different}")
    regression = LogisticRegression(max_iter=MOST_ITERATIONS)
    classifier = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(features, labels)
    converged = True
    for warning in caught:
        if issubclass(warning.category, ConvergenceWarning):
            converged = False
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return Probe(classifier, features.shape[1], len(features), int(regression.n_iter_.max()), converged)


def accuracy(probe: Probe, features: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The fraction p of N images whose label `probe` finds, and its standard error, sqrt(p (1 - p) / N).

    Args:
        probe: what `fit` gave.
        features: float32 [N, D], finite.
        labels: int64 [N].

    Raises:
        ValueError: no images at all.
    """
    if not len(features):
        raise ValueError("there are no images to test the classifier on")
    right = float(np.mean(probe.classifier.predict(features) == labels))
    return right, math.sqrt(right * (1 - right) / len(features))

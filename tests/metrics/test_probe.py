"""The linear classifier of features: what it is fitted to, what its figures are."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gentrain.metrics import probe


def clouds(seed: int = 0, count: int = 300, apart: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping Gaussian clouds, dimensions of very different scales: float32 [N, 5], int64 [N]."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, count)
    centres = apart * np.eye(3, 5)
    features = centres[labels] + draw.normal(size=(count, 5))
    return (features * [1, 100, 0.01, 1, 1] + [0, 5, 0, -7, 0]).astype(np.float32), labels


def test_it_is_scikit_learns_regression_of_standardised_features() -> None:
    (train, labels), (test, wanted) = clouds(0), clouds(1)
    fitted = probe.fit(train, labels)
    scaler = StandardScaler().fit(train)
    direct = LogisticRegression(max_iter=probe.MOST_ITERATIONS).fit(scaler.transform(train), labels)
    right = direct.predict(scaler.transform(test)) == wanted
    assert 0.8 < right.mean() < 1, "neither trivial nor hopeless"
    found, stderr = probe.accuracy(fitted, test, wanted)
    assert found == right.mean()
    assert stderr == pytest.approx(math.sqrt(found * (1 - found) / 300))
    assert (fitted.features, fitted.images, fitted.converged) == (5, 300, True)
    assert fitted.iterations == direct.n_iter_.max()


def test_scales_and_offsets_do_not_count() -> None:
    (train, labels), (test, _) = clouds(0), clouds(1)
    plain = probe.fit(train, labels).classifier.predict(test)
    moved = probe.fit(train * 1000 - 3, labels).classifier.predict(test * 1000 - 3)
    assert (plain == moved).mean() > 0.99  # but for rounding


def test_what_it_is_tested_on_does_not_change_it() -> None:
    """Neither the labels nor the scale: the standardisation is the training images' too."""
    (train, labels), (test, wanted) = clouds(0), clouds(1)
    fitted = probe.fit(train, labels)
    weights = fitted.classifier[-1].coef_.copy()
    expected = [fitted.classifier.predict(row[None])[0] for row in test[:40]]
    assert probe.accuracy(fitted, test[:40], np.array(expected))[0] == 1, "one at a time or together"
    probe.accuracy(fitted, test * 50, np.random.default_rng(2).permutation(wanted))
    assert np.array_equal(fitted.classifier[-1].coef_, weights)
    assert np.array_equal(fitted.classifier[0].mean_, StandardScaler().fit(train).mean_)


def test_a_feature_that_never_changes() -> None:
    (train, labels), (test, wanted) = clouds(0), clouds(1)
    fitted = probe.fit(np.pad(train, ((0, 0), (0, 1))), labels)
    padded = np.pad(test, ((0, 0), (0, 1)), constant_values=9)  # but changes in the test images
    assert probe.accuracy(fitted, padded, wanted) == probe.accuracy(probe.fit(train, labels), test, wanted)


def test_a_fit_that_did_not_converge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said in a word, not by a warning (which would be an error here)."""
    monkeypatch.setattr(probe, "MOST_ITERATIONS", 2)
    fitted = probe.fit(*clouds())
    assert (fitted.iterations, fitted.converged) == (2, False)


def test_other_warnings_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = LogisticRegression.fit

    def grumbling(self: LogisticRegression, *given: object) -> LogisticRegression:
        warnings.warn("something else", stacklevel=1)
        return plain(self, *given)

    monkeypatch.setattr(LogisticRegression, "fit", grumbling)
    with pytest.warns(UserWarning, match="something else"):
        assert probe.fit(*clouds()).converged


def test_nothing_to_tell_apart() -> None:
    features, labels = clouds()
    with pytest.raises(ValueError, match="at least two labels, found 1"):
        probe.fit(features, np.zeros_like(labels))
    with pytest.raises(ValueError, match="no images"):
        probe.accuracy(probe.fit(features, labels), features[:0], labels[:0])


def test_all_right_and_all_wrong_have_no_error() -> None:
    features, labels = clouds(apart=100)
    fitted = probe.fit(features, labels)
    assert probe.accuracy(fitted, features, labels) == (1, 0)
    assert probe.accuracy(fitted, features, (labels + 1) % 3) == (0, 0)

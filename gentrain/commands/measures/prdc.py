"""The metric `prdc`: precision, recall, density and coverage of samples."""

from __future__ import annotations

from dataclasses import asdict

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.features import compared, of_features
from gentrain.commands.measures.frame import Measured
from gentrain.metrics.distances import shares

#: Neighbours that a ball reaches to (Naeem et al. 2020).
K = 5


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The four shares of `n` samples and a split, and of as many training images.

    Raises:
        UserError: missing data, or too few images.
    """
    found = compared(loaded, config)
    of_samples, of_train = (asdict(shares(found.real, x, K)) for x in (found.fake, found.rungs["none"]))
    lines = [
        "prdc    " + ", ".join(f"{value:.4f} {name}" for name, value in of_samples.items()),
        "        of as many training images " + ", ".join(f"{value:.4f}" for value in of_train.values()),
        f"        balls to the {K}th neighbour, {found.line}",
    ]
    figures = {**found.facts, "k": K, **of_samples, **{f"{k}_train": v for k, v in of_train.items()}}
    return Measured(lines, figures, f"eval_prdc_{config.n}.json")


METRIC = of_features(
    measure,
    {
        "precision": "Of the samples, how many lie among real images, 0 to 1.",
        "recall": "Of the real images, how many lie among samples, 0 to 1.",
        "density": "How many real images are near a sample, relative to what is near a real one.",
        "coverage": "Of the real images, how many have a sample near, 0 to 1: what is left out is missing.",
    },
    least=K + 1,
)

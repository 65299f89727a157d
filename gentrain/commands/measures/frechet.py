"""The metric `frechet`: how far samples are from real images, beside what training images would have."""

from __future__ import annotations

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.features import BLUR, NOISE, compared, of_features
from gentrain.commands.measures.frame import Measured
from gentrain.metrics.distances import frechet


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The Frechet distance of `n` samples from a split, and of as many training images.

    Raises:
        UserError: missing data.
    """
    found = compared(loaded, config)
    value = frechet(found.real, found.fake)
    ladder = {what: frechet(found.real, x) for what, x in found.rungs.items()}
    known = found.facts["extractor"] == "inception"  # only of these features it is called so
    lines = [
        f"{'fid' if known else 'frechet':7} {value:.4f} Frechet distance, {found.line}",
        f"        of as many training images {ladder['none']:.4f}, blurred by {BLUR:g} pixel "
        f"{ladder['blur']:.4f}, with noise of {NOISE:g} {ladder['noise']:.4f}",
    ]
    if min(found.facts["samples"], found.facts["images"]) < found.facts["features"]:
        lines.append("note    fewer images than features: the distance is too large by much")
    figures = {**found.facts, "frechet": value, **({"fid": value} if known else {})}
    figures |= {f"frechet_train_{k}": v for k, v in ladder.items()}
    return Measured(lines, figures, f"eval_frechet_{config.n}.json")


METRIC = of_features(
    measure,
    {
        "frechet": "How far samples are from real images, by the means and covariances of features: lower is "
        "better, and as many training images (frechet_train_none) are as near as can be.",
        "fid": "The Frechet distance of Inception's features: lower is better.",
    },
)

"""The metric `kid`: the kernel inception distance of samples, of whatever features."""

from __future__ import annotations

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.features import compared, of_features
from gentrain.commands.measures.frame import Measured
from gentrain.metrics.distances import BLOCKS, kid


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The unbiased distance of `n` samples from a split, and of as many training images.

    Raises:
        UserError: missing data, or too few images.
    """
    found = compared(loaded, config)
    value, error = kid(found.real, found.fake)
    train, train_error = kid(found.real, found.rungs["none"])
    lines = [
        f"kid     {value:.5f} +- {error:.5f} kernel distance, unbiased, {found.line}",
        f"        of as many training images {train:.5f} +- {train_error:.5f}",
    ]
    figures = {**found.facts, "kid": value, "kid_stderr": error, "kid_train": train}
    return Measured(lines, figures, f"eval_kid_{config.n}.json")


METRIC = of_features(
    measure,
    {
        "kid": "How far samples are from real images, by a kernel of features, without bias: 0 is as near as "
        "real images are to each other, and it may be slightly negative."
    },
    least=2 * BLOCKS,
)

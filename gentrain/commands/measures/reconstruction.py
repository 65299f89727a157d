"""The metric `reconstruction`: the error of a model's reconstructions of a split."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Measured, Metric, spread, subject
from gentrain.commands.trained import batches_of, device_of, open_data, split_of
from gentrain.contracts import Reconstructs
from gentrain.metrics.reconstruction import evaluate_reconstruction, figures


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The error of a model's reconstructions of a split.

    Raises:
        UserError: missing data.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    found = evaluate_reconstruction(model, batches, loaded.model.spec)
    of = subject(loaded, data, config)
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(
        [
            f"error   {found.mse[name]:.5f}{spread(found.mse_stderr[name], 5)} {name}, mean square per pixel "
            f"(0 to 1), {of['dataset']} {config.split} ({found.images} images), {data.pixels}"
            for name in found.mse
        ],
        {**of, **figures(found)},
        f"eval_reconstruction_{config.split}{part}.json",
    )


METRIC = Metric(
    measure,
    Reconstructs,
    "reconstructions",
    means={
        "mse": "How far reconstructions are from their images, mean square per pixel (0 to 1): lower is "
        "better."
    },
)

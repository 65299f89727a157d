"""The metric `likelihood`: -log p(x) of a split."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Measured, Metric, spread, subject
from gentrain.commands.trained import batches_of, device_of, open_data, split_of
from gentrain.contracts import HasLikelihood
from gentrain.metrics.likelihood import evaluate_likelihood


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """-log p(x) of a split.

    Raises:
        UserError: missing data.
        Fault: a log-likelihood that is not finite.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    count = len(split.images) if config.limit is None else min(config.limit, len(split.images))
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    bar = tqdm(batches, total=math.ceil(count / config.batch_size), unit="batch", disable=None)
    found = evaluate_likelihood(model, bar, loaded.model.spec, samples=config.samples)
    one, value = data.spec.words
    of = subject(loaded, data, config)
    which = f"{of['dataset']} {config.split} ({found.images} {one}s), {data.pixels}"
    others = model.other_estimates(config.samples)
    lines = [
        f"        {found.nats + nats:.4f}, log Z by {name} +- {error:.4f}"
        for name, (nats, error) in others.items()
    ]
    figures = {
        f"nats_by_{name.lower().replace(' ', '_')}": found.nats + nats for name, (nats, _) in others.items()
    }
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(
        [
            f"nll     {found.nats:.4f}{spread(found.nats_stderr, 4)} nats per {one}, {found.kind}, {which}",
            f"        {found.bits_per_dim:.5f}{spread(found.bits_per_dim_stderr, 5)} bits/{value}",
            *lines,
        ],
        {**of, **asdict(found), **figures},
        f"eval_{config.split}{part}.json",
    )


METRIC = Metric(
    measure,
    HasLikelihood,
    "likelihood",
    why=("eval",),
    asked=False,
    means={
        "nats": "How surprised the model is by an image, -log p(x) in nats: lower is better; only figures of "
        "the same images, levels and binarisation can be compared.",
        "bits_per_dim": "The same in bits for each pixel value: what a coder with this model would need.",
    },
)

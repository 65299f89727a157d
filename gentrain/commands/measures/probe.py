"""The metric `probe`: how well a linear classifier of the latents does, beside one of the pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from gentrain.api import Loaded
from gentrain.commands.latents import check_latents, encoded
from gentrain.commands.measures.frame import Measured, Metric
from gentrain.commands.trained import batches_of, device_of, label_names, open_data, split_of
from gentrain.contracts import ImagesToLatents
from gentrain.data.source import Split
from gentrain.errors import UserError
from gentrain.metrics import probe


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """How well a linear classifier of the training images' latents, and one of their pixels, does on a split.

    Raises:
        UserError: missing data, training images that all have one label.
        Fault: latents that are not finite.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    names = label_names(data)
    split = split_of(data, config.split)
    assert data.train.labels is not None  # label_names has looked
    if len(np.unique(data.train.labels)) < 2:
        raise UserError(
            f"metrics=[probe]: all {len(data.train):,} training images of {data.name} have one label, "
            "a classifier needs at least two"
        )

    def features(of: Split, limit: int | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """{name: float32 [N, D]} of the first `limit` images, and their labels int64 [N]."""
        count = min(len(of), limit or len(of))
        batches = batches_of(data, of, config, device_of(loaded), limit)
        bar = tqdm(batches, total=math.ceil(count / config.batch_size), unit="batch", disable=None)
        z, images = encoded(model, bar, images=True)
        check_latents(z)
        assert images.label is not None
        # Their scale does not matter: they are standardised.
        pixels = images.x.flatten(1).float()
        return {"latents": z.numpy(), "pixels": pixels.numpy()}, images.label.numpy()

    train, train_labels = features(data.train)
    test, test_labels = features(split, config.limit)
    count = len(test_labels)
    lines: list[str] = []
    notes: list[str] = []
    found: dict[str, Any] = {}
    kinds: Any = tqdm(train, unit="fit", disable=None)
    for kind in kinds:
        fitted = probe.fit(train[kind], train_labels)
        right, stderr = probe.accuracy(fitted, test[kind], test_labels)
        lines.append(
            f"{right:.2%} +- {stderr:.2%} of {count:,} {config.split} images right, "
            f"by a linear classifier of the {fitted.features:,} {kind}"
        )
        if not fitted.converged:
            notes.append(f"the fit to the {kind} stopped after {fitted.iterations} iterations, unconverged")
        found |= {
            kind: fitted.features,
            f"{kind}_accuracy": right,
            f"{kind}_accuracy_stderr": stderr,
            f"{kind}_iterations": fitted.iterations,
            f"{kind}_converged": fitted.converged,
        }
    lines.append(f"both fitted to the {len(train_labels):,} training images, {len(names):,} labels")
    part = "" if config.limit is None else f"_first_{config.limit}"
    numbers = {"images": count, "train_images": len(train_labels), "classes": len(names)}
    return Measured(
        [
            *(f"{'        ' if i else 'probe   '}{line}" for i, line in enumerate(lines)),
            *(f"note    {note}" for note in notes),
        ],
        {"split": config.split, **numbers, **found},
        f"eval_probe_{config.split}{part}.json",
    )


METRIC = Metric(
    measure,
    ImagesToLatents,
    "latents of images alone",
    why=("probe", "encode"),
    labelled=True,
    means={
        "latents_accuracy": "The share of test images whose label a linear classifier finds in the latents.",
        "pixels_accuracy": "The same in the pixels: what the latents are to be held against.",
    },
)

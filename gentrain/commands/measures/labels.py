"""The metric `labels`: whether samples have the label that was asked for, and differ within it."""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.classifier import judge_of
from gentrain.commands.measures.frame import Measured, Metric
from gentrain.commands.trained import (
    batches_of,
    device_of,
    label_names,
    open_data,
    samples_of,
    split_of,
    stand,
)
from gentrain.contracts import Samples
from gentrain.metrics.classifier import features_of
from gentrain.metrics.distances import pairwise_mean


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """The share of `n` samples, equally many of each label, in which a classifier sees their label.

    Beside it the mean distance between two samples of a label, by the classifier's features, relative to that
    of two real images: accuracy alone is perfect for one memorised image of each label.

    Raises:
        UserError: missing data, or a model that refuses to sample so.
    """
    data = open_data(loaded, config)
    judge, name = judge_of(data, loaded, config)
    names, device = label_names(data), device_of(loaded)
    split = split_of(data, config.split)
    batches = list(batches_of(data, split, config, device, config.limit))
    real, _ = features_of(judge.net, (batch.x for batch in batches))
    truth = torch.cat([batch.label.cpu() for batch in batches if batch.label is not None])
    stand(loaded, config)
    each = max(2, config.n // len(names))
    accuracies, ratios = [], []
    for label in range(len(names)):
        y = torch.tensor(label, device=device)
        found, seen = features_of(judge.net, samples_of(loaded, each, y, truncation=config.truncation))
        accuracies.append(float((seen == label).double().mean()))
        ratios.append(pairwise_mean(found) / pairwise_mean(real[truth == label][:each]))
    count = each * len(names)
    right = sum(accuracies) / len(names)
    there = [ratio for ratio in ratios if math.isfinite(ratio)]
    diversity = sum(there) / len(there) if there else math.nan
    worst = min(range(len(names)), key=accuracies.__getitem__)
    alike = min(range(len(names)), key=lambda label: ratios[label] if label < len(ratios) else math.inf)
    error = math.sqrt(right * (1 - right) / count)
    lines = [
        f"labels  {right:.4f} +- {error:.4f} of {count:,} samples have the label that was asked for, "
        f"least {accuracies[worst]:.4f} of {names[worst]}",
        f"        {diversity:.4f} mean distance within a label, that of {config.split} images is 1, "
        f"least {ratios[alike]:.4f} of {names[alike]}",
        f"judge   classifier {name}: {judge.accuracy:.2%} of {judge.test_images:,} test images right, "
        f"no resize, seed {config.seed}",
    ]
    figures: dict[str, Any] = {
        "accuracy": right,
        "accuracy_stderr": error,
        "diversity": diversity,
        "accuracy_of": dict(zip(names, accuracies, strict=True)),
        "diversity_of": dict(zip(names, ratios, strict=True)),
        "images": count,
        "classifier": name,
        "classifier_accuracy": judge.accuracy,
        "truncation": config.truncation,
        "estimator": f"{count:,} samples, seen by a classifier of {loaded.config.names.dataset or data.name}",
    }
    return Measured(lines, figures, f"eval_labels_{config.n}.json")


METRIC = Metric(
    measure,
    Samples,
    "samples",
    labelled=True,
    given="label",
    means={
        "accuracy": "The share of samples in which a classifier sees the label that was asked for.",
        "diversity": "How different samples of one label are, relative to real images: 1 is as different.",
    },
)

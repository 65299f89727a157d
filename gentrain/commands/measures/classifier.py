"""The metric `classifier`: what a classifier of the training data sees in samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Measured, Metric
from gentrain.commands.next import ckpt_argument
from gentrain.commands.trained import device_of, label_names, open_data, samples_of, source_of, stand
from gentrain.contracts import Samples
from gentrain.data.artefact import fingerprint, made_once
from gentrain.data.batches import Batches, in_order
from gentrain.data.source import Data
from gentrain.metrics import classifier
from gentrain.training import randomness

#: Images that the classifier is tested on at once.
_CHUNK = 500
#: Samples for each label of the training images from which their labels say something.
_ENOUGH = 10
#: Fewer labels than this share of the training images' are few; more samples than this of one label are one.
_FEW, _ONE = 0.5, 0.95
#: A classifier below this accuracy on the test images is weak evidence.
_GOOD = 0.99


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """What a classifier of the training data sees in `n` samples.

    Raises:
        UserError: missing data, a cache folder that cannot be used, a model that refuses to sample so.
    """
    data = open_data(loaded, config)
    judge, name = judge_of(data, loaded, config)
    stand(loaded, config)
    drawn = samples_of(loaded, config.n, truncation=config.truncation)
    predicted = classifier.predict(judge.net, drawn)
    names = label_names(data)
    found = classifier.classes_of(*predicted, len(names))
    most = math.log(len(names))
    lines = [
        f"classes {found.entropy:.4f} +- {found.entropy_stderr:.4f} nats entropy of the predicted labels, "
        f"of at most {most:.4f}, {found.images:,} samples",
        f"        {found.confidence:.4f} +- {found.confidence_stderr:.4f} mean confidence "
        f"({judge.confidence:.4f} on the test images)",
        "        " + histogram(names, found.counts),
        f"judge   classifier {name}: {judge.accuracy:.2%} of {judge.test_images:,} test images right, "
        f"trained on the {judge.train_images:,} training images",
    ]
    assert data.train.labels is not None  # label_names has looked
    present = classifier.entropy(np.bincount(data.train.labels, minlength=len(names)).tolist())[0]
    collapsed = collapse(names, found.counts, present)
    if collapsed:
        lines.append(f"note    {collapsed}; look at them: gentrain sample {ckpt_argument(loaded)}")
    if judge.accuracy < _GOOD:
        lines.append(
            f"note    a classifier below {_GOOD:.0%} is weak evidence: what it sees may be its own mistakes"
        )
    judged = {
        "classifier": name,
        "classifier_accuracy": judge.accuracy,
        "classifier_confidence": judge.confidence,
        "train_images": judge.train_images,
        "test_images": judge.test_images,
    }
    dataset = loaded.config.names.dataset or data.name
    estimator = f"{found.images:,} samples, seen by a classifier of {dataset}"
    figures = {**asdict(found), "max_entropy": most, "labels": names, **judged, "estimator": estimator}
    return Measured(lines, figures, f"eval_classifier_{config.n}.json")


def judge_of(data: Data, loaded: Loaded, config: DictConfig) -> tuple[classifier.Judge, str]:
    """The classifier of a data set and its hash: trained once, on the training images, then cached.

    The random state is left as it was.

    Raises:
        UserError: the cache folder cannot be used.
    """
    label_names(data)
    device = device_of(loaded)
    count, recipe = len(data.train), classifier.RECIPE

    def make() -> bytes:
        print(f"judge   training a classifier on {count:,} images of {data.name}, once", flush=True)
        size = min(recipe.batch_size, count)
        batches = Batches(data, data.train, batch_size=size, seed=0, device=device)
        steps: Any = tqdm(range(classifier.steps_of(count, recipe)), unit="step", disable=None)
        with torch.enable_grad():
            net = classifier.train_classifier(batches.at, data.spec, recipe, steps, device)
        test = in_order(data, data.test, batch_size=_CHUNK, device=device, seed=0)
        return classifier.examined(net, test, count).to_bytes()

    key = {"recipe": recipe.to_dict(), "data": fingerprint(data)}
    with randomness.aside(0, device):
        cache = source_of(loaded, config).cache
        content, name = made_once(cache, "classifier", key, make, lambda line: print(f"note    {line}"))
        return classifier.judge_from_bytes(content, data.spec, recipe, device), name


def collapse(names: Sequence[str], counts: Sequence[int], present: float) -> str | None:
    """What few labels among many samples mean, in a line; None where they are not few.

    Args:
        names: of the labels.
        counts: how many samples look like each.
        present: entropy of the training images' labels, in nats.
    """
    total, labels = sum(counts), math.exp(present)  # as many labels, equally frequent, have this entropy
    seen = math.exp(classifier.entropy(counts)[0])
    if total < _ENOUGH * labels or seen > _FEW * labels:
        return None
    largest = max(counts)
    if largest > _ONE * total:
        shown = "all" if largest == total else f"{largest:,} of the"
        return (
            f"{shown} {total:,} samples look like one label, {names[counts.index(largest)]}: "
            "the samples have collapsed onto it, or are all one picture"
        )
    return (
        f"the samples are spread over {seen:.1f} labels, the training images over {labels:.1f}: "
        "they have collapsed onto few"
    )


def histogram(names: Sequence[str], counts: Sequence[int], most: int = 20) -> str:
    """How many of each label, on one line; of more than `most` labels the extremes."""
    if len(counts) <= most:
        return "  ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    few, many = counts.index(min(counts)), counts.index(max(counts))
    never = sum(count == 0 for count in counts)
    return (
        f"{len(counts):,} labels, {never:,} of them never; from {counts[few]:,} ({names[few]}) "
        f"to {counts[many]:,} ({names[many]})"
    )


METRIC = Metric(
    measure,
    Samples,
    "samples",
    labelled=True,
    means={
        "entropy": "How evenly the samples fall on the labels that a classifier sees, in nats: the data's "
        "own is best, far less means that the model leaves some out.",
        "confidence": "How sure the classifier is of the samples, 0 to 1: as sure as of test images is best.",
    },
)

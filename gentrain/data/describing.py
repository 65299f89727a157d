"""What is known of images and sounds, in lines for a user."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gentrain.contracts import DataSpec

if TYPE_CHECKING:
    from gentrain.data.source import Data

_DARK = 16  # of 255: images that are all darker are seldom meant to be


def described(data: Data) -> list[str]:
    """What is shown before training: sizes, shape, levels, values, label histograms, notes."""
    if data.spec.sample_rate is not None:
        return _of_sounds(data, data.spec.sample_rate)
    validation = "none" if data.validation is None else f"{len(data.validation):,}"
    low, high = data.found
    image = f"images {'x'.join(map(str, data.spec.shape))} (CxHxW), {data.stored_levels} levels"
    image += f", values found {low} to {high}"
    if data.binarize == "dynamic":
        image += f", binarised afresh each time with P(1) = x/{data.stored_levels - 1}"
    elif data.binarize == "fixed":
        image += f", binarised once with split_seed {data.split_seed}"
    elif data.binarize == "threshold":
        image += ", binarised at the middle of the levels"
    if data.flip:
        image += ", flipped left to right at random in training"
    if data.crop:
        image += f", moved by up to {data.crop} pixels at random in training"
    sizes = f"train {len(data.train):,}, validation {validation}, test {len(data.test):,} images"
    lines = [f"{data.name}: {sizes}", image]
    for name, split in (("train", data.train), ("test", data.test)):
        lines += [f"labels of {name}: {text}" for text in histogram(data.spec, split.labels)]
        lines += [f"attributes of {name}: {text}" for text in attribute_shares(data.spec, split.attributes)]
    if data.stored_levels == 256 and high <= _DARK:
        lines.append(f"the brightest pixel is {high} of 255: masks of 0 and {high}, or 12 bits stored in 16?")
    return [*lines, *data.notes]


def _of_sounds(data: Data, rate: int) -> list[str]:
    """The same of crops of recordings."""
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    context = data.spec.context or 0
    length = data.spec.shape[2] - context
    sizes = ", ".join(f"{name} {len(split or ()):,}" for name, split in splits.items())
    lines = [
        f"{data.name}: {sizes} crops of {length:,} samples ({length / rate:.2f} s) after {context:,} that "
        f"are given, {rate:,} Hz, {data.spec.levels} levels of the mu-law",
        *(f"labels of train: {text}" for text in histogram(data.spec, data.train.labels)),
    ]
    return [*lines, *data.notes]


def histogram(spec: DataSpec, labels: np.ndarray | None) -> list[str]:
    """At most one line: images per class by name; for many classes, the extremes."""
    if spec.classes is None or labels is None:
        return []
    counts = np.bincount(labels, minlength=spec.classes).tolist()
    names = spec.label_words or ()
    if spec.classes <= 20:
        return [", ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))]
    few, many = int(np.argmin(counts)), int(np.argmax(counts))
    return [
        f"{spec.classes:,} classes, from {counts[few]:,} ({names[few]}) "
        f"to {counts[many]:,} ({names[many]}) images"
    ]


def attribute_shares(spec: DataSpec, attributes: np.ndarray | None) -> list[str]:
    """At most one line: how many attributes there are, and how often the rarest and the commonest is true."""
    if spec.attributes is None or attributes is None:
        return []
    shares = 100 * attributes.mean(axis=0)  # [A]
    rare, common = int(shares.argmin()), int(shares.argmax())
    return [
        f"{len(shares)}, true of {shares[rare]:.1f} % ({spec.attributes[rare]}) "
        f"to {shares[common]:.1f} % ({spec.attributes[common]}) of the images"
    ]

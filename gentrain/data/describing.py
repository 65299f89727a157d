"""What is known of images, in lines for a user."""

from __future__ import annotations

import numpy as np

from gentrain.contracts import DataSpec


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

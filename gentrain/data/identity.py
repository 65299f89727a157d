"""Which images a data set holds, so that other images under the same name are noticed.

The digest, the counts and the names of the labels go into every checkpoint; so do the hashes of the single
images, where images may come and go between training and use (a folder of the user's).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gentrain.contracts import DataSpec

#: Bytes of an image's hash; of n images two differ and agree in it with probability n^2 / 2^65.
_BYTES = 8


def hashes_of(images: np.ndarray) -> np.ndarray:
    """uint8 [N, C, H, W] -> a hash of each image's pixels, int64 [N]."""
    hashes = np.empty(len(images), dtype=np.int64)
    for i, image in enumerate(images):
        content = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=_BYTES).digest()
        hashes[i] = int.from_bytes(content, "big", signed=True)
    return hashes


def digest_of(arrays: Mapping[str, np.ndarray]) -> str:
    """20 hexadecimal digits of the SHA-256 of named arrays."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:20]


@dataclass(frozen=True)
class Identity:
    """What tells one data set from another.

    root: where it lay, absolute, or None where it needs no place; digest: of all images, labels and
    attributes; counts: images by split; hashes: int64 [N] by split (train, validation, test), empty for data
    sets whose images do not come and go.
    """

    root: str | None
    digest: str
    counts: Mapping[str, int]
    hashes: Mapping[str, np.ndarray] = field(default_factory=dict)

    def to_dict(self, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Plain values and tensors, as a checkpoint stores them.

        Args:
            before: what the checkpoint said from which the run goes on: what was trained on then has been
                trained on.
        """
        hashes = dict(self.hashes)
        if before is not None and "train" in before["hashes"] and "train" in hashes:
            hashes["train"] = np.union1d(hashes["train"], before["hashes"]["train"].numpy())
        return {
            "root": self.root,
            "digest": self.digest,
            "counts": dict(self.counts),
            "hashes": {split: torch.from_numpy(np.array(values)) for split, values in hashes.items()},
        }


def is_record(found: Any) -> bool:
    """Whether `found` is what `Identity.to_dict` makes, and not damage or malice in a checkpoint."""
    if not isinstance(found, dict) or not isinstance(found.get("digest"), str):
        return False
    root, counts, hashes = (found.get(key, ...) for key in ("root", "counts", "hashes"))
    if (
        not (root is None or isinstance(root, str))
        or not isinstance(counts, dict)
        or not isinstance(hashes, dict)
    ):
        return False
    return (
        all(isinstance(value, int) for value in counts.values())
        and all(
            isinstance(h, torch.Tensor) and h.dtype == torch.int64 and h.ndim == 1 for h in hashes.values()
        )
        and (not hashes or {"train", "test"} <= set(hashes))
    )


@dataclass(frozen=True)
class Change:
    """How the data differ from those of a checkpoint.

    then, now: images by split; tested: test images of now that were trained on; trained: training images of
    now that were test images.
    """

    then: Mapping[str, int]
    now: Mapping[str, int]
    tested: int
    trained: int

    def __str__(self) -> str:
        """The numbers, in a few words."""
        then, now = sum(self.then.values()), sum(self.now.values())
        if then != now:
            return f"they have {now:,} images, the run was trained when they had {then:,}"
        return f"they have {now:,} images as in training, but not the same ones"


def changed(then: Mapping[str, Any], now: Identity) -> Change | None:
    """How `now` differs from what a checkpoint says (`to_dict`); None where nothing does."""
    if then["digest"] == now.digest:
        return None
    before = {split: values.numpy() for split, values in then["hashes"].items()}
    tested = trained = 0
    if before and now.hashes:
        # An image that lay twice in the data was in both parts from the first, and is no news.
        twice = np.intersect1d(before["train"], before["test"])
        tested = len(np.setdiff1d(np.intersect1d(now.hashes["test"], before["train"]), twice))
        trained = len(np.setdiff1d(np.intersect1d(now.hashes["train"], before["test"]), twice))
    return Change(dict(then["counts"]), dict(now.counts), tested, trained)


def label_words(spec: DataSpec) -> tuple[str, ...] | None:
    """The names of a data set's labels, numbers where they have none; None without labels."""
    if spec.classes is None:
        return None
    return spec.label_names or tuple(map(str, range(spec.classes)))

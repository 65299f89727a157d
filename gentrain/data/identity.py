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

        `hashes` are those of now, and in train also what was trained on before; `twice` are the images that
        were trained on and held out at once, because they lie in the data twice.

        Args:
            before: what the checkpoint said from which the run goes on.
        """
        hashes = dict(self.hashes)
        if not hashes:
            twice = np.empty(0, dtype=np.int64)
        else:
            held_out = np.concatenate([hashes[split] for split in hashes if split != "train"])
            twice = np.intersect1d(hashes["train"], held_out)
        if before is not None and before["hashes"] and hashes:
            hashes["train"] = np.union1d(hashes["train"], before["hashes"]["train"].numpy())
            twice = np.union1d(twice, before["twice"].numpy())
        return {
            "root": self.root,
            "digest": self.digest,
            "counts": dict(self.counts),
            "hashes": {split: torch.from_numpy(np.array(values)) for split, values in hashes.items()},
            "twice": torch.from_numpy(twice),
        }


def is_record(found: Any) -> bool:
    """Whether `found` is what `Identity.to_dict` makes, and not damage or malice in a checkpoint."""

    def is_hashes(value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.ndim == 1

    kinds = {"root": str | None, "digest": str, "counts": dict, "hashes": dict, "twice": torch.Tensor}
    if not isinstance(found, dict) or not all(isinstance(found.get(key, ...), kinds[key]) for key in kinds):
        return False
    hashes = found["hashes"]
    return (
        all(isinstance(value, int) for value in found["counts"].values())
        and all(map(is_hashes, (found["twice"], *hashes.values())))
        and (not hashes or {"train", "test"} <= set(hashes))
    )


@dataclass(frozen=True)
class Change:
    """How the data differ from those of a checkpoint.

    then, now: images by split; same: whether all are those of then; leaks: images of a held-out part of now
    that were trained on, by split; trained: training images of now that were test images; stranger: whether
    no image is one of then.
    """

    then: Mapping[str, int]
    now: Mapping[str, int]
    same: bool
    leaks: Mapping[str, int] = field(default_factory=dict)
    trained: int = 0
    stranger: bool = False

    @property
    def leaked(self) -> list[str]:
        """What was trained on, a few words for each part."""
        return [
            f"{count:,} of the {self.now[part]:,} {part} images were trained on"
            for part, count in self.leaks.items()
        ]

    def __str__(self) -> str:
        """All of it in a few words."""
        then, now = sum(self.then.values()), sum(self.now.values())
        words = [f"they have {now:,} images as in training, but not the same ones"]
        if self.same:
            words = []
        elif then != now:
            words = [f"they have {now:,} images, the run was trained when they had {then:,}"]
        return "; ".join([*words, *self.leaked])


def changed(then: Mapping[str, Any], now: Identity) -> Change | None:
    """How `now` differs from what a checkpoint says; None where it does not and no held-out image leaked."""
    same = then["digest"] == now.digest
    before = {split: values.numpy() for split, values in then["hashes"].items()}
    counts = (dict(then["counts"]), dict(now.counts))
    if not before or not now.hashes:
        return None if same else Change(*counts, same)

    def news(of: np.ndarray, among: np.ndarray) -> int:
        return len(np.setdiff1d(np.intersect1d(of, among), then["twice"].numpy()))

    leaks = {split: news(now.hashes[split], before["train"]) for split in now.hashes if split != "train"}
    leaks = {split: count for split, count in leaks.items() if count}
    if same and not leaks:
        return None
    all_now, all_then = (np.concatenate(list(part.values())) for part in (now.hashes, before))
    return Change(
        *counts,
        same,
        leaks,
        trained=news(now.hashes["train"], before["test"]),
        stranger=not len(np.intersect1d(all_now, all_then)),
    )

"""Two images, one above the other, and what is to be seen in words: "a thick seven above a slanted two".

Made of any images with labels: exact, deterministic, test images of test images. Every image stands above the
one that follows it in the part, so that each is once above and once below.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.cache import Builder, Entry
from gentrain.data.identity import hashes_of
from gentrain.data.parts import PARTS
from gentrain.data.words import holds, tokens_of, vocabulary_of, words_of
from gentrain.errors import UserError

_CHUNK = 1024  # images handled at a time
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_THICKNESS = ("thin", "", "thick")
_SLANT = ("upright", "", "slanted")
#: What captions say of the two images: {fact: a pattern with its values}.
FACTS = {
    "above": r"(\S+) above|below an? (?:\S+ )*(\S+)$",
    "below": r"above an? (?:\S+ )*(\S+)$|(\S+) below",
}


def thickness_and_slant(images: np.ndarray) -> np.ndarray:
    """Images [n, C, H, W] -> the light in each, and how far it leans to the right: float64 [n, 2].

    The slant is -mu11 / mu02 of the light's central moments: columns that the strokes move to the right for
    each row upwards.
    """
    light = images.astype(np.float64).mean(1)  # [n, H, W]
    mass = light.sum((1, 2))
    y, x = np.mgrid[: light.shape[1], : light.shape[2]].astype(np.float64)
    total = np.maximum(mass, 1e-9)
    dy, dx = (axis - ((light * axis).sum((1, 2)) / total)[:, None, None] for axis in (y, x))
    across, down = (light * dx * dy).sum((1, 2)), (light * dy**2).sum((1, 2))
    return np.stack([mass, -across / np.maximum(down, 1e-9)], 1)


def add_stacked(builder: Builder, images: Entry, held_out: Sequence[str]) -> None:
    """Fill an entry with pairs of another's images, one above the other, with two captions each.

    Whether an image is thick or thin, slanted or upright, is by the terciles of the training images with its
    label. "A seven above a two" and "a two below a seven" are served in turn.

    Args:
        builder: of the new entry.
        images: the entry with labels.
        held_out: combinations of words whose pairs are not among the training images.

    Raises:
        UserError: images without labels, or no training pair that is not held out.
    """
    spec = DataSpec.from_dict(images.info["spec"])
    if spec.label_words is None:
        raise UserError("dataset.stacked=true needs images with labels, as dataset=mnist or dataset=digits")
    nouns = [_noun(word) for word in spec.label_words]
    channels, height, width = spec.shape
    splits = [name.removesuffix("_images") for name in images.arrays if name.endswith("_images")]
    measured = {split: _measured(images.arrays[f"{split}_images"]) for split in splits}
    bounds = _terciles(measured["train"], images.arrays["train_labels"], len(nouns))
    captions: dict[str, list[list[list[str]]]] = {}
    kept: dict[str, np.ndarray] = {}
    for split in splits:
        labels = images.arrays[f"{split}_labels"]
        phrases = [
            _phrase(nouns[label], *(int((value > bounds[label][i]).sum()) for i, value in enumerate(values)))
            for label, values in zip(labels.tolist(), measured[split], strict=True)
        ]
        told = [[words_of(f"{a} above {b}"), words_of(f"{b} below {a}")] for a, b in pairwise(phrases)]
        out = np.array(
            [split == "train" and any(holds(w, c) for w in both for c in held_out) for both in told], bool
        )
        kept[split] = np.flatnonzero(~out)
        captions[split] = [told[i] for i in kept[split]]
        if not len(kept[split]):
            raise UserError(f"dataset.held_out leaves no image of {split}: name fewer combinations")
    vocabulary = vocabulary_of(words for both in captions["train"] for words in both)
    every = tokens_of([both for split in splits for both in captions[split]], vocabulary)
    start = 0
    for split in splits:
        rows, array = kept[split], images.arrays[f"{split}_images"]
        shape = (len(rows), channels, 2 * height, width)
        made = builder.create(f"{split}_{PARTS['x'].stored}", shape, np.uint8)
        hashes = [np.empty(0, dtype=np.int64)]
        for first in range(0, len(rows), _CHUNK):
            some = rows[first : first + _CHUNK]
            made[first : first + len(some)] = np.concatenate([array[some], array[some + 1]], 2)
            hashes.append(hashes_of(made[first : first + len(some)]))
            builder.release()
        builder.add(f"{split}_hashes", np.concatenate(hashes))
        builder.add(f"{split}_{PARTS['caption'].stored}", every[start : start + len(rows)])
        if f"{split}_draws" in images.arrays:
            builder.add(f"{split}_draws", np.array(images.arrays[f"{split}_draws"])[rows])
        start += len(rows)
    words = spec.to_dict() | {"shape": [channels, 2 * height, width], "classes": None, "label_names": None}
    words |= {"attributes": None, "vocabulary": list(vocabulary), "caption_length": every.shape[-1]}
    left = len(images.arrays["train_images"]) - 1 - len(kept["train"])
    example = " ".join(captions["train"][0][0])
    builder.info.update(
        spec=words,
        found=images.info["found"],
        test_pairs=False,
        notes=[
            *images.info["notes"],
            f"captions: two of each pair of images, {len(vocabulary) - 1} words, at most {every.shape[-1]} "
            f'in one, e.g. "{example}"',
            *([f"held out: {left:,} training images of {len(held_out)} combinations"] if held_out else []),
        ],
    )


def _with_article(phrase: str) -> str:
    return f"an {phrase}" if phrase[0] in "aeiou" and phrase != "one" else f"a {phrase}"


def _noun(word: str) -> str:
    """A label as one word of a caption: "7" -> seven, "T-shirt/top" -> t-shirt-top."""
    return _DIGITS[int(word)] if word.isdecimal() and int(word) < 10 else "-".join(words_of(word)) or word


def _phrase(noun: str, thickness: int, slant: int) -> str:
    return _with_article(" ".join(word for word in (_THICKNESS[thickness], _SLANT[slant], noun) if word))


def _measured(images: np.ndarray) -> np.ndarray:
    parts = [thickness_and_slant(images[i : i + _CHUNK]) for i in range(0, len(images), _CHUNK)]
    return np.concatenate(parts)


def _terciles(measured: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Bounds of each measure, of the images of each label: float64 [classes, 2 measures, 2]."""
    bounds = np.zeros((classes, 2, 2))
    for label in range(classes):
        own = measured[labels == label]
        if len(own):
            bounds[label] = np.quantile(own, [1 / 3, 2 / 3], axis=0).T
    return bounds

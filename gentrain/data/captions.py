"""The user's own images with captions: a folder or a zip."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File
from gentrain.data.captioned import LAYOUTS, sorted_out
from gentrain.data.draws import draws_by_name
from gentrain.data.own_images import OwnImages
from gentrain.data.source import Data
from gentrain.data.words import holds, patterns_of, phrases_in, tokens_of, vocabulary_of
from gentrain.data.writer import Writer
from gentrain.errors import UserError

Told = dict[File, list[list[str]]]


class Captions(OwnImages):
    """Images with one caption or several each, which are served in turn.

    In metadata.csv or metadata.jsonl (Hugging Face's imagefolder), in NAME.txt beside NAME.png (a caption a
    line), or in COCO's captions.json. Parts are folders called train, test and val, or COCO's files; without
    a test part some are drawn by name. The vocabulary is of the training part alone; in the others a word
    that it lacks is `words.UNKNOWN`. Training images with a held-out combination become test images.

    Args:
        text: what the column of captions is called in metadata files.
        inside: the folder of the root that counts, empty: all of it.
        min_count: words that training captions have less often are unknown ones.
        facts: {name: [phrases] or a pattern}: what captions say that a classifier can check, for
            metrics=[captions]; as of `words.patterns_of`.
        settings: of `OwnImages`.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    name = "captions"
    layouts = f"images and {LAYOUTS}"
    captioned = True
    grows = True
    decisive = ("text", "inside", "min_count", "combinations")

    def __init__(
        self, *, text: str, inside: str, min_count: int, facts: Mapping[str, Any], **settings: Any
    ) -> None:
        super().__init__(**settings)
        if self.stacked:
            raise ValueError("dataset.stacked must be false: dataset=captions has captions itself")
        if min_count < 1:
            raise ValueError(f"dataset.min_count must be at least 1, found {min_count}")
        self.text, self.inside, self.min_count = text, inside, min_count
        self.facts = patterns_of(facts)
        self.phrases = {name: phrases_in(said) for name, said in facts.items() if not isinstance(said, str)}

    def load(self) -> Data:
        """As every data set; warns of phrases of facts whose words no training caption has."""
        data = super().load()
        words = set(data.spec.vocabulary or ())
        for name, phrases in self.phrases.items():
            lacking = [repr(phrase) for phrase in phrases if not words.issuperset(phrase.split())]
            if lacking:
                warnings.warn(
                    f"dataset.facts.{name}: training captions have no words for {', '.join(lacking)}",
                    stacklevel=2,
                )
        return data

    def _decode(self, archive: Archive, writer: Writer) -> DataSpec:
        found = sorted_out(archive, self.inside, self.text)
        for problem in found.problems:
            self._bad(problem, "give each image a caption and each caption an image")
        every_caption = [words for told in found.captions.values() for c in told.values() for words in c]
        for combination in self.combinations:
            if not any(holds(words, combination) for words in every_caption):
                raise UserError(
                    f"dataset.held_out: no caption has {combination!r}, its words in this order; name "
                    "combinations as captions have them"
                )
        parts, moved = self._parts(found.captions)
        number = {file: (split, i) for split, told in parts.items() for i, file in enumerate(told)}
        good = {split: np.zeros(len(told), dtype=np.bool_) for split, told in parts.items()}
        shape: tuple[int, ...] = ()
        for file, image in self._images(archive, list(number), self._one):
            if not shape:
                shape = image.shape
                for split, told in parts.items():
                    names = [f.name for f in told]
                    drawn = draws_by_name(names, "validation", self.split_seed) if split == "train" else None
                    writer.begin(split, len(told), (shape[0], shape[1], shape[2]), draws=drawn)
            split, i = number[file]
            writer.put(split, "x", image, i)
            good[split][i] = True
        for split, kept in good.items():
            if not kept.any():
                raise UserError(f"dataset.root={self.root}: no image of {split} can be decoded")
        trained = [c for c, kept in zip(parts["train"].values(), good["train"], strict=True) if kept]
        vocabulary = vocabulary_of((words for captions in trained for words in captions), self.min_count)
        if len(vocabulary) < 2:
            raise UserError(
                f"dataset.min_count={self.min_count}: no word of the training captions occurs so often; "
                "take less"
            )
        every = tokens_of([captions for told in parts.values() for captions in told.values()], vocabulary)
        start = 0
        for split, told in parts.items():
            writer.put(split, "caption", every[start : start + len(told)])
            writer.reduce(split, good[split], shape[0])
            start += len(told)
        first, captions = next(iter(parts["train"].items()))
        writer.notes.append(
            f"captions: {sum(map(len, trained)):,} of train, {len(vocabulary) - 1:,} words, at most "
            f'{every.shape[-1]} in one, e.g. {first.name} "{" ".join(captions[0])}"'
        )
        unknown = sum(word not in vocabulary for c in parts["test"].values() for words in c for word in words)
        if unknown:
            writer.notes.append(f"{unknown:,} words of test captions are not among those of train: unknown")
        if self.combinations:
            writer.notes.append(
                f"held out: {moved:,} training images of {len(self.combinations)} combinations, now of test"
            )
        return DataSpec(
            (shape[0], shape[1], shape[2]), 256, vocabulary=vocabulary, caption_length=every.shape[-1]
        )

    def _parts(self, captions: Mapping[str, Told]) -> tuple[dict[str, Told], int]:
        """The images by split, with a test part, and how many were moved there from train."""
        parts = {split: dict(told) for split, told in captions.items()}
        train = parts["train"]
        if "test" not in parts:
            files = list(train)
            chosen = self._drawn([file.name for file in files], "image with a caption")
            parts["test"] = {f: train[f] for f, drawn in zip(files, chosen, strict=True) if drawn}
            train = {f: told for f, told in train.items() if f not in parts["test"]}
        out = {f for f, told in train.items() if any(holds(w, c) for w in told for c in self.combinations)}
        parts["test"] |= {file: train[file] for file in out}
        parts["test"] = dict(sorted(parts["test"].items(), key=lambda item: item[0].name))
        parts["train"] = {file: told for file, told in train.items() if file not in out}
        if not parts["train"]:
            raise UserError("dataset.held_out leaves no image to train on: name fewer combinations")
        return {"train": parts.pop("train"), **parts}, len(out)

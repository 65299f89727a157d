"""The user's own images: a folder or a zip."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File
from gentrain.data.draws import drawn_part, draws_by_name, permutation
from gentrain.data.image_source import ImageSource
from gentrain.data.layout import Layout, arrange
from gentrain.data.own_images import OwnImages
from gentrain.data.writer import Writer
from gentrain.errors import UserError

#: How images are drawn: 1, by how many there are, for checkpoints that know no other rule; 2, by name.
SPLIT_RULES = (1, 2)


class Folder(OwnImages):
    """Images in a folder or a .zip, which is read in place.

    The images lie in `CLASS/IMAGE` (labelled; classes in sorted order) or all at the top (no labels),
    either directly below the root or below `train/` and `test/`; a `val/` (`valid/`, `validation/`) beside
    them is the validation part. Without a `test/`, a seeded part is the test set. By rule 2 that part, and
    the validation part likewise, are the images whose path below their class folder draws a number below
    the fraction: an image stays in its part when others come or go, or when its class is renamed. A zip may
    hold the whole in one folder. Hidden files, those of file managers and those that do not end like an image
    do not count. `gentrain.data.decoding` says how kinds of images are converted.

    Channels of None are 3 if any image has colour, else 1.

    Args:
        split_rule: how the parts are drawn, one of `SPLIT_RULES`.
        settings: of `OwnImages`.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    name = "folder"
    layouts = "images"
    grows = True
    finds_channels = True
    formerly: ClassVar[Mapping[str, Any]] = {**ImageSource.formerly, "split_rule": 1}

    def __init__(self, *, split_rule: int, **settings: Any) -> None:
        super().__init__(**settings)
        if split_rule not in SPLIT_RULES:
            raise ValueError(f"dataset.split_rule must be 1 or 2, found {split_rule}")
        self.split_rule = split_rule

    def key(self) -> Mapping[str, Any]:
        # Entries of before have no rule in their key.
        return {**super().key(), **({} if self.split_rule == 1 else {"split_rule": self.split_rule})}

    def _decode(self, archive: Archive, writer: Writer) -> DataSpec:
        layout = arrange(archive)
        splits = layout.splits
        if "test" not in splits:
            splits = {**splits, **self._draw_test(layout)}
        shape = self._decode_images(writer, archive, layout, splits)
        writer.notes += layout.notes
        if layout.others:
            kinds = Counter(os.path.splitext(name)[1] or "no ending" for name in layout.others)
            text = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items())[:10])
            writer.notes.append(f"ignored files that are not images: {text}")
        classes = layout.classes
        return DataSpec(shape, 256, len(classes) if classes else None, tuple(classes) if classes else None)

    def _draw_test(self, layout: Layout) -> dict[str, list[File]]:
        """The files of train and test, where there is no test/."""
        files = layout.splits["train"]
        if len(files) < 2:
            raise UserError(
                f"dataset.root={self.root} holds {len(files)} image; at least 2 are needed, train and test"
            )
        if self.split_rule == 1:
            count = min(max(1, round(self.test_fraction * len(files))), len(files) - 1)
            chosen = np.zeros(len(files), dtype=np.bool_)
            chosen[permutation(len(files), "test", self.split_seed)[:count]] = True
        else:
            chosen = drawn_part(self._draws("test", files, layout), self.test_fraction)
        return {
            "train": [file for file, drawn in zip(files, chosen, strict=True) if not drawn],
            "test": [file for file, drawn in zip(files, chosen, strict=True) if drawn],
        }

    def _draws(self, purpose: str, files: list[File], layout: Layout) -> np.ndarray:
        """A number in [0, 1) for each file by its path below its class folder, float64 [N]."""
        return draws_by_name([layout.below_class(file.name) for file in files], purpose, self.split_seed)

    def _decode_images(
        self, writer: Writer, archive: Archive, layout: Layout, splits: dict[str, list[File]]
    ) -> tuple[int, int, int]:
        """Decode into `writer`: the shape (C, H, W) that came out."""
        number = {file.name: (split, i) for split in splits for i, file in enumerate(splits[split])}
        good = {split: np.zeros(len(files), dtype=np.bool_) for split, files in splits.items()}
        shape: tuple[int, int, int] | None = None
        files = [file for split in splits.values() for file in split]
        for file, image in self._images(archive, files, self._one):
            channels, height, width = image.shape
            if shape is None:
                shape = (self.channels or 1, height, width)
                for split, members in splits.items():
                    # Whether any image has colour is known at the end: make room for it.
                    by_name = split == "train" and self.split_rule != 1
                    draws = self._draws("validation", members, layout) if by_name else None
                    writer.begin(split, len(members), (self.channels or 3, height, width), draws=draws)
                    if layout.classes:
                        labels = np.array([layout.label(member.name) for member in members])
                        writer.put(split, "label", labels)
            shape = (max(channels, shape[0]), height, width)
            split, i = number[file.name]
            writer.put(split, "x", image, i)
            good[split][i] = True
        for split, kept in good.items():
            if shape is None or not kept.any():
                raise UserError(
                    f"dataset.root={self.root}: none of the {len(kept):,} images of {split} can be decoded "
                    f"(the first is {splits[split][0].name})"
                )
            writer.reduce(split, kept, shape[0])
        assert shape is not None
        return shape

"""The user's own images: a folder or a zip."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File, fingerprint, open_archive
from gentrain.data.decoding import MAX_SIDE, decode_image
from gentrain.data.draws import drawn_part, draws_by_name, permutation
from gentrain.data.image_source import ImageSource
from gentrain.data.layout import Layout, arrange
from gentrain.data.stream import decoded
from gentrain.data.writer import Writer
from gentrain.errors import UserError

_NAMED = 3  # skipped files that are named
#: How images are drawn: 1, by how many there are, for checkpoints that know no other rule; 2, by name.
SPLIT_RULES = (1, 2)


class Folder(ImageSource):
    """Images in a folder or a .zip, which is read in place.

    The images lie in `CLASS/IMAGE` (labelled; classes in sorted order) or all at the top (no labels),
    either directly below the root or below `train/` and `test/`; a `val/` (`valid/`, `validation/`) beside
    them is the validation part. Without a `test/`, a seeded part is the test set. By rule 2 that part, and
    the validation part likewise, are the images whose path below their class folder draws a number below
    the fraction: an image stays in its part when others come or go, or when its class is renamed. A zip may
    hold the whole in one folder. Hidden files, those of file managers and those that do not end like an image
    do not count. `gentrain.data.decoding` says how kinds of images are converted.

    Args:
        root: the folder or zip.
        image_size: S or [H, W] in pixels: resize the shorter side and crop the centre; None where all
            images are of one size.
        channels: 1 or 3; None for 3 if any image has colour, else 1.
        on_error: raise at a file that cannot be decoded, or skip and count it.
        test_fraction: part of the images, in (0, 1), that is the test set where there is no `test/`; at
            least one image, and by rule 2 about that part.
        split_rule: how the parts are drawn, one of `SPLIT_RULES`.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    name = "folder"
    grows = True
    formerly: ClassVar[Mapping[str, Any]] = {**ImageSource.formerly, "split_rule": 1}

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] | None,
        channels: int | None,
        on_error: str,
        test_fraction: float,
        split_rule: int,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if self.root is None:
            raise UserError("dataset=folder needs dataset.root=PATH, a folder or a .zip of images")
        sides = [image_size] * 2 if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or min(sides) < 1 or max(sides) > MAX_SIDE):
            raise ValueError(
                f"dataset.image_size must be a side or [height, width] of 1 to {MAX_SIDE} pixels, or null, "
                f"found {image_size}"
            )
        if channels not in (None, 1, 3):
            raise ValueError(f"dataset.channels must be 1, 3 or null, found {channels}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"dataset.on_error must be raise or skip, found {on_error}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"dataset.test_fraction must lie between 0 and 1, found {test_fraction}")
        if split_rule not in SPLIT_RULES:
            raise ValueError(f"dataset.split_rule must be 1 or 2, found {split_rule}")
        self.image_size = None if sides is None else (int(sides[0]), int(sides[1]))
        self.channels = channels
        self.on_error = on_error
        self.test_fraction = test_fraction
        self.split_rule = split_rule

    def key(self) -> Mapping[str, Any]:
        assert self.root is not None
        settings = {
            key: getattr(self, key) for key in ("image_size", "channels", "on_error", "test_fraction")
        }
        if self.split_rule != 1:  # entries of before have no rule in their key
            settings["split_rule"] = self.split_rule
        return {"files": fingerprint(self.root), **settings}

    def decode(self, writer: Writer) -> DataSpec:
        assert self.root is not None
        with open_archive(self.root) as archive:
            layout = arrange(archive)
            splits = layout.splits
            if "test" not in splits:
                splits = {**splits, **self._draw_test(layout)}
            shape, skipped = self._decode_images(writer, archive, layout, splits)
        if skipped:
            more = ", ..." if len(skipped) > _NAMED else ""
            writer.notes.append(
                f"skipped {len(skipped):,} broken images: {', '.join(skipped[:_NAMED])}{more}"
            )
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
    ) -> tuple[tuple[int, int, int], list[str]]:
        """Decode into `writer`: the shape (C, H, W) that came out, and the names of skipped files."""
        number = {file.name: (split, i) for split in splits for i, file in enumerate(splits[split])}
        good = {split: np.zeros(len(files), dtype=np.bool_) for split, files in splits.items()}
        first: File | None = None
        size: tuple[int, int] = (0, 0)
        channels = self.channels or 1
        skipped: list[str] = []
        files = [file for split in splits.values() for file in split]

        def decode(content: bytes) -> np.ndarray:
            return decode_image(content, self.image_size, self.channels)

        with decoded(archive, files, decode) as images:
            for file, image in images:
                if not isinstance(image, np.ndarray):
                    if self.on_error == "raise":
                        raise UserError(
                            f"{archive.path(file.name)} cannot be decoded: {image}; mend or remove it, or "
                            "leave such files out with dataset.on_error=skip"
                        )
                    skipped.append(file.name)
                    continue
                if first is None:
                    first, size = file, (image.shape[1], image.shape[2])
                    for split, members in splits.items():
                        # Whether any image has colour is known at the end: make room for it.
                        by_name = split == "train" and self.split_rule != 1
                        draws = self._draws("validation", members, layout) if by_name else None
                        writer.begin(split, len(members), (self.channels or 3, *size), draws=draws)
                        if layout.classes:
                            writer.put(
                                split, "label", np.array([layout.label(member.name) for member in members])
                            )
                elif image.shape[1:] != size:
                    raise UserError(
                        f"{archive.path(file.name)} has {image.shape[1]}x{image.shape[2]} pixels (HxW), "
                        f"{archive.path(first.name)} has {size[0]}x{size[1]}; bring all to one size with "
                        "dataset.image_size=PIXELS"
                    )
                channels = max(channels, len(image))
                split, i = number[file.name]
                writer.put(split, "x", image, i)
                good[split][i] = True
        for split, kept in good.items():
            if not kept.any():
                raise UserError(
                    f"dataset.root={self.root}: none of the {len(kept):,} images of {split} can be decoded "
                    f"(the first is {splits[split][0].name})"
                )
            writer.reduce(split, kept, channels)
        return (channels, *size), skipped

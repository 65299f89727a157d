"""The user's own images of two domains: pairs, or two collections without pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File, is_image
from gentrain.data.decoding import decode_image, resized
from gentrain.data.layout import arrange
from gentrain.data.own_images import OwnImages
from gentrain.data.two_domains import LAYOUTS, Domains, sorted_out
from gentrain.data.writer import Writer
from gentrain.errors import UserError

DIRECTIONS = ("AtoB", "BtoA")


class TwoDomains(OwnImages):
    """Base of data sets of two domains.

    Args:
        a, b: what the folders of the domains are called.
        direction: AtoB, from A to B: A is the `source` of a batch, B its `x`; or BtoA.
        settings: of `OwnImages`.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    layouts = LAYOUTS
    decisive = ("names", "direction")

    def __init__(self, *, a: str, b: str, direction: str, **settings: Any) -> None:
        super().__init__(**settings)
        for key in ("source", "stacked"):
            if getattr(self, key):
                none = "null" if key == "source" else "false"
                raise ValueError(
                    f"dataset.{key} must be {none}: dataset={self.name} has images of two domains itself"
                )
        if direction not in DIRECTIONS:
            raise ValueError(f"dataset.direction must be AtoB or BtoA, found {direction}")
        if a.lower() == b.lower() or not a or not b:
            raise ValueError(f"dataset.a and dataset.b must be two names of folders, found {a!r} and {b!r}")
        self.names, self.direction = (a, b), direction

    def _spec(self, shape: tuple[int, ...], paired: bool) -> DataSpec:
        channels, height, width = shape
        one = (channels, height, width)
        return DataSpec(one, 256, source_shape=one, paired=paired)


class Pairs(TwoDomains):
    """Pairs of images: of equal names in the folders of A and B, or side by side in one file, A to the left.

    Where no folder is called `a` or `b`, every image is two of them side by side, in `train/` and `test/` or
    all at the top. A partner is found by its name without the ending. What has none is named, or skipped.
    """

    name = "pairs"

    def _decode(self, archive: Archive, writer: Writer) -> DataSpec:
        found = sorted_out(archive, self.names)
        return self._side_by_side(archive, writer) if found is None else self._by_name(archive, writer, found)

    def _side_by_side(self, archive: Archive, writer: Writer) -> DataSpec:
        layout = arrange(archive)
        if layout.classes:  # two domains of other names, whose images would be cut in halves
            a, b = (*sorted(layout.classes), "FOLDER")[:2]
            raise UserError(
                f"{archive.typed} has images in {a}/, and no folder called {self.names[0]} or "
                f"{self.names[1]}; say what those of the domains are called: dataset.a={a} dataset.b={b}; "
                "pairs side by side in one file lie at the top, or in train/ and test/ themselves"
            )
        splits = {split: [f for f in files if is_image(f.name)] for split, files in layout.splits.items()}
        if "test" not in splits:
            files = splits["train"]
            chosen = self._drawn([file.name for file in files], "pair")
            for split, wanted in (("train", False), ("test", True)):
                splits[split] = [f for f, drawn in zip(files, chosen, strict=True) if drawn == wanted]
        number = {file.name: (split, i) for split, files in splits.items() for i, file in enumerate(files)}

        def both(content: bytes) -> np.ndarray:
            """Side by side, each resized by itself."""
            whole = decode_image(content, None, self.channels)
            width = whole.shape[2]
            if self.image_size is None or width % 2:
                return whole
            halves = (whole[..., : width // 2], whole[..., width // 2 :])
            return np.concatenate([resized(half, self.image_size) for half in halves], axis=2)

        good = {split: np.zeros(len(files), dtype=np.bool_) for split, files in splits.items()}
        shape: tuple[int, ...] = ()
        for file, image in self._images(archive, [f for files in splits.values() for f in files], both):
            channels, height, width = image.shape
            if width % 2:
                raise UserError(
                    f"{archive.path(file.name)} is {width} pixels wide; expected two images side by side, of "
                    f"one width, or {LAYOUTS}"
                )
            if not shape:
                shape = (channels, height, width // 2)
                for part, files in splits.items():
                    self._begin(writer, part, len(files), shape)
            split, i = number[file.name]
            self._put(writer, split, i, image[..., : width // 2], image[..., width // 2 :])
            good[split][i] = True
        return self._finish(writer, good, shape)

    def _by_name(self, archive: Archive, writer: Writer, found: Domains) -> DataSpec:
        partners: dict[str, dict[str, tuple[File, File]]] = {}
        for split, domains in found.files.items():
            partners[split] = {}
            for one, other, name in (("A", "B", self.names[1]), ("B", "A", self.names[0])):
                for stem, file in domains[one].items():
                    if stem in domains[other]:
                        partners[split][stem] = (domains["A"][stem], domains["B"][stem])
                        continue
                    elsewhere = next((s for s, d in found.files.items() if stem in d[other]), None)
                    where = f"its partner is in {elsewhere}" if elsewhere else f"has no partner in {name}"
                    self._bad(f"{archive.path(file.name)} {where}", "give it one of the same name")
        for split, pairs in partners.items():
            if not pairs:
                raise UserError(f"{archive.typed}: no image of {split} has a partner of the same name")
        if "test" not in partners:
            names = sorted(partners["train"])
            test = {name for name, drawn in zip(names, self._drawn(names, "pair"), strict=True) if drawn}
            both = partners["train"]
            partners["train"] = {name: pair for name, pair in both.items() if name not in test}
            partners["test"] = {name: pair for name, pair in both.items() if name in test}
        place: dict[str, tuple[str, int, int]] = {}
        good: dict[str, np.ndarray] = {}
        for split, pairs in partners.items():
            good[split] = np.zeros((len(pairs), 2), dtype=np.bool_)
            for i, name in enumerate(sorted(pairs)):
                for side, file in enumerate(pairs[name]):
                    place[file.name] = (split, i, side)
        shape: tuple[int, ...] = ()
        files = [file for pairs in partners.values() for pair in pairs.values() for file in pair]
        for file, image in self._images(archive, files, self._one):
            if not shape:
                shape = image.shape
                for part, pairs in partners.items():
                    self._begin(writer, part, len(pairs), shape)
            split, i, side = place[file.name]
            writer.put(split, self._part(side), image, i)
            good[split][i, side] = True
        return self._finish(writer, {split: np.all(both, 1) for split, both in good.items()}, shape)

    def _part(self, side: int) -> str:
        """What side 0, A, or 1, B, is of a batch."""
        return "x" if (side == 1) == (self.direction == "AtoB") else "source"

    def _begin(self, writer: Writer, split: str, count: int, shape: tuple[int, ...]) -> None:
        channels, height, width = shape
        writer.begin(split, count, (channels, height, width))
        writer.begin_source(split, (channels, height, width))

    def _put(self, writer: Writer, split: str, i: int, left: np.ndarray, right: np.ndarray) -> None:
        for side, image in enumerate((left, right)):
            writer.put(split, self._part(side), image, i)

    def _finish(self, writer: Writer, good: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> DataSpec:
        for split, kept in good.items():
            if not kept.any():
                raise UserError(f"dataset.root={self.root}: no pair of {split} can be decoded")
            writer.reduce(split, kept, shape[0])
        count = {split: int(kept.sum()) for split, kept in good.items()}
        writer.notes.append(f"pairs, {self.direction}: {', '.join(f'{s} {n:,}' for s, n in count.items())}")
        return self._spec(shape, paired=True)


class Unpaired(TwoDomains):
    """Two collections of images, A and B, in an order each of their own: nothing says which belong together.

    In evaluation image i of one is shown beside image i of the other; where both have equal names in a part,
    those are partners that were never trained on as such, and metrics may use them.
    """

    name = "domains"

    def _decode(self, archive: Archive, writer: Writer) -> DataSpec:
        found = sorted_out(archive, self.names)
        if found is None:
            raise UserError(
                f"{archive.typed} has no folders of two domains called {self.names[0]} and {self.names[1]}; "
                f"expected {LAYOUTS}, or say what they are called: dataset.a= dataset.b="
            )
        parts = {split: {d: dict(files) for d, files in both.items()} for split, both in found.files.items()}
        if "test" not in parts:
            parts["test"] = {}
            for domain, files in parts["train"].items():
                names = sorted(files)
                chosen = self._drawn(names, f"image of domain {domain}")
                test = {name for name, drawn in zip(names, chosen, strict=True) if drawn}
                parts["test"][domain] = {name: files[name] for name in names if name in test}
                parts["train"] = {**parts["train"], domain: {n: files[n] for n in names if n not in test}}
        target, source = ("B", "A") if self.direction == "AtoB" else ("A", "B")
        place: dict[str, tuple[str, str, int]] = {}
        for split, both in parts.items():
            for domain, files in both.items():
                for i, name in enumerate(sorted(files)):
                    place[files[name].name] = (split, "x" if domain == target else "source", i)
        shape: tuple[int, ...] = ()
        every = [file for both in parts.values() for files in both.values() for file in files.values()]
        for file, image in self._images(archive, every, self._one):
            if not shape:
                shape = image.shape
                one = (image.shape[0], image.shape[1], image.shape[2])
                for split, both in parts.items():
                    writer.begin(split, len(both[target]), one)
                    writer.begin_source(split, one, len(both[source]))
            split, part, i = place[file.name]
            writer.put(split, part, image, i)
        if self._skipped:
            raise UserError(f"{archive.typed}: {self._skipped[0]}; mend or remove it")
        writer.test_pairs = sorted(parts["test"]["A"]) == sorted(parts["test"]["B"])
        counts = [f"{s} {len(both['A']):,} of A, {len(both['B']):,} of B" for s, both in parts.items()]
        writer.notes.append(f"domains, {self.direction}: {'; '.join(counts)}")
        return self._spec(shape, paired=False)

"""Where a source puts its decoded images: the arrays of the cache entry being built."""

from __future__ import annotations

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.cache import Builder
from gentrain.data.draws import permutation
from gentrain.data.identity import hashes_of
from gentrain.errors import UserError

_CHUNK = 1024  # images handled at a time
_RELEASE = 16 << 20  # bytes written between two times that memory is given back


class Writer:
    """Takes decoded images, split by split, and stores them in the cache entry being built.

    Splits are `train`, `test` and, where the data have one of their own, `validation`. Train is stored in an
    order of which the validation part that is held out is a slice, whatever its size, so that both parts
    stay memory-mapped.
    """

    def __init__(self, builder: Builder, split_seed: int) -> None:
        self._builder = builder
        self._split_seed = split_seed
        self._images: dict[str, np.ndarray] = {}
        self._place: dict[str, np.ndarray] = {}  # stored position of each image, [N] per split
        self._side: dict[str, np.ndarray] = {}
        self._found = [255, 0]
        self._unreleased = 0  # bytes
        self.notes: list[str] = []

    def begin(
        self,
        split: str,
        count: int,
        shape: tuple[int, int, int],
        held_out: int = 0,
        draws: np.ndarray | None = None,
    ) -> None:
        """Make room for `count` images of `shape` (C, H, W).

        Args:
            split: train, test or validation.
            count: N, how many images there are.
            shape: (C, H, W) of one.
            held_out: of train, how many of the first images the data set itself holds out: they are the
                validation part where that is as large, and are taken first where it is not.
            draws: of train, a number in [0, 1) for each image, float64 [N]; the smallest are held out.
                None: a seeded order of the numbers 0 .. N-1 decides.

        Raises:
            UserError: there are none.
            Fault: the disk is full.
        """
        if count < 1:
            raise UserError(f"the {split} split has no images")
        self._images[split] = self._builder.create(f"{split}_images", (count, *shape), np.uint8)
        if split == "train" and draws is not None:
            order = np.argsort(draws, kind="stable")
            self._place[split] = np.argsort(order, kind="stable")
            self._side["train_draws"] = draws[order]
        elif split == "train":
            first = permutation(held_out, "validation", self._split_seed)
            rest = permutation(count - held_out, "validation", self._split_seed)
            self._place[split] = np.concatenate([first, held_out + rest])
        else:
            self._place[split] = np.arange(count)

    def images(self, split: str, at: int | slice | np.ndarray, images: np.ndarray) -> None:
        """Store the image(s) number `at`, uint8 [C, H, W] or [n, C, H, W]; one channel fills all C."""
        self._images[split][self._place[split][at]] = images
        self._found = [min(self._found[0], int(images.min())), max(self._found[1], int(images.max()))]
        self._unreleased += images.nbytes
        if self._unreleased > _RELEASE:
            self._builder.release()
            self._unreleased = 0

    def labels(self, split: str, labels: np.ndarray) -> None:
        """Store all labels of a split, integers [N], in the order of its images."""
        self._side[f"{split}_labels"] = self._in_place(split, labels.astype(np.int64))

    def attributes(self, split: str, attributes: np.ndarray) -> None:
        """Store all attributes of a split, bool [N, A], in the order of its images."""
        self._side[f"{split}_attributes"] = self._in_place(split, attributes.astype(np.bool_))

    def reduce(self, split: str, keep: np.ndarray, channels: int) -> None:
        """Keep only the images where `keep` (bool [N]) is true, and their first `channels` channels.

        For sources that know only after decoding how many images are good; called after `labels`.
        """
        kept = np.flatnonzero(self._in_place(split, keep))
        if not len(kept):
            raise UserError(f"the {split} split has no image left")
        old = self._images[split]
        if len(kept) == len(old) and channels == old.shape[1]:
            return
        name = f"{split}_images"
        self._builder.discard(name)
        new = self._builder.create(name, (len(kept), channels, *old.shape[2:]), np.uint8)
        for start in range(0, len(kept), _CHUNK):
            rows = kept[start : start + _CHUNK]
            new[start : start + len(rows)] = old[rows, :channels]
        self._images[split] = new
        for key in self._side:
            if key.startswith(f"{split}_"):
                self._side[key] = self._side[key][kept]

    def finish(self, spec: DataSpec) -> None:
        """Store what remains beside the images."""
        if self._found[1] >= spec.levels:
            raise ValueError(f"pixel values must be 0 to {spec.levels - 1}, found {self._found[1]}")
        for split, images in self._images.items():
            hashes = [np.empty(0, dtype=np.int64)]
            for start in range(0, len(images), _CHUNK):
                hashes.append(hashes_of(images[start : start + _CHUNK]))
                self._builder.release()
            self._side[f"{split}_hashes"] = np.concatenate(hashes)
        for key, array in self._side.items():
            self._builder.add(key, array)
        self._builder.info.update(spec=spec.to_dict(), found=self._found, notes=self.notes)

    def _in_place(self, split: str, values: np.ndarray) -> np.ndarray:
        place = self._place[split]
        if len(values) != len(place):
            raise ValueError(f"{len(values)} values for the {len(place)} images of {split}")
        stored = np.empty_like(values)
        stored[place] = values
        return stored

"""Where a source puts its decoded images: the arrays of the cache entry being built."""

from __future__ import annotations

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.cache import Builder
from gentrain.data.draws import permutation
from gentrain.data.identity import hashes_of
from gentrain.data.parts import PARTS
from gentrain.errors import UserError

_CHUNK = 1024  # images handled at a time
_RELEASE = 16 << 20  # bytes written between two times that memory is given back


class Writer:
    """Takes decoded images and what is known of them, split by split, for the cache entry being built.

    Splits are `train`, `test` and, where the data have one of their own, `validation`; parts are those of a
    `Batch`, by name. Train is stored in an order of which the validation part that is held out is a slice,
    whatever its size, so that both parts stay memory-mapped.
    """

    def __init__(self, builder: Builder, split_seed: int) -> None:
        self._builder = builder
        self._split_seed = split_seed
        self._images: dict[tuple[str, str], np.ndarray] = {}  # of (split, part)
        self._place: dict[str, np.ndarray] = {}  # stored position of each image, [N] per split
        self._apart: dict[tuple[str, str], np.ndarray] = {}  # the same of what has a number of its own
        self._side: dict[str, np.ndarray] = {}
        self._tapes: dict[str, np.ndarray] = {}  # of split
        self._found = [255, 0]
        self._unreleased = 0  # bytes
        self.notes: list[str] = []
        #: Whether test images' sources are their partners, though training has no pairs.
        self.test_pairs = False

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
        self._images[split, "x"] = self._builder.create(_stored(split, "x"), (count, *shape), np.uint8)
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

    def begin_source(self, split: str, shape: tuple[int, int, int], count: int | None = None) -> None:
        """Make room for source images of `shape` (C, H, W); called after `begin`.

        Args:
            split: train, test or validation.
            shape: of one.
            count: M, of images of another domain, in an order of their own; None: of the images' partners.

        Raises:
            UserError: there are none.
            Fault: the disk is full.
        """
        size = len(self._place[split]) if count is None else count
        if size < 1:
            raise UserError(f"the {split} split has no source images")
        key = (split, "source")
        self._images[key] = self._builder.create(_stored(*key), (size, *shape), np.uint8)
        if count is not None:
            drawn = permutation(count, "validation source", self._split_seed)
            self._apart[key] = drawn if split == "train" else np.arange(count)

    def put(
        self, split: str, part: str, values: np.ndarray, at: int | slice | np.ndarray = slice(None)
    ) -> None:
        """Store what `part` is of the images number `at`, in the order in which the data set has them.

        Args:
            split: train, test or validation.
            part: a name of a `Batch`.
            values: images uint8 [C, H, W] or [n, C, H, W], of which one channel fills all C; else [N, ...] of
                all images at once.
            at: which images; all at once for what is no image.

        Raises:
            ValueError: another number of values than of images.
        """
        if not PARTS[part].images:
            self._side[_stored(split, part)] = self._in_place(split, values.astype(PARTS[part].dtype))
            return
        key = (split, part)
        self._images[key][self._apart.get(key, self._place[split])[at]] = values
        self._found = [min(self._found[0], int(values.min())), max(self._found[1], int(values.max()))]
        self._unreleased += values.nbytes
        if self._unreleased > _RELEASE:
            self._builder.release()
            self._unreleased = 0

    def tape(self, split: str, samples: int) -> np.ndarray:
        """Room for `samples` of sound, uint8 [samples], for the caller to fill; called instead of `begin`.

        Raises:
            Fault: the disk is full.
        """
        self._tapes[split] = self._builder.create(_stored(split, "x"), (samples,), np.uint8)
        return self._tapes[split]

    def release(self) -> None:
        """Give memory back: what has been written is on its way to the disk."""
        self._builder.release()

    def crops(
        self,
        split: str,
        length: int,
        starts: np.ndarray,
        regions: np.ndarray,
        shares: np.ndarray,
        lows: np.ndarray,
        labels: np.ndarray | None,
    ) -> None:
        """Say where the crops of `split` lie in its tape, once that is full, as `data.tape` has them.

        Args:
            split: train, test or validation.
            length: of a crop, without its context.
            starts, regions, shares: [N] each, of `cut_up`.
            lows: int64 [N], the first sample of each crop's region.
            labels: int64 [N], or None.
        """
        side = {"starts": starts, "regions": regions, "lows": lows}
        if labels is not None:
            side[PARTS["label"].stored] = labels
        if split == "train":
            side["draws"] = shares
        tape, hashes = self._tapes[split], np.empty(len(starts), dtype=np.int64)
        for i, start in enumerate(starts.tolist()):
            crop = tape[None, start : start + length]
            hashes[i] = hashes_of(crop)[0]
            self._found = [min(self._found[0], int(crop.min())), max(self._found[1], int(crop.max()))]
            if i % _CHUNK == 0:
                self._builder.release()
        self._side |= {f"{split}_{name}": array for name, array in {**side, "hashes": hashes}.items()}

    def reduce(self, split: str, keep: np.ndarray, channels: int) -> None:
        """Keep only the images where `keep` (bool [N]) is true, and their first `channels` channels.

        For sources that know only after decoding how many images are good; called after the other parts.
        """
        kept = np.flatnonzero(self._in_place(split, keep))
        if not len(kept):
            raise UserError(f"the {split} split has no image left")
        for key, old in list(self._images.items()):
            kept_channels = channels if key[1] == "x" else old.shape[1]
            if key[0] != split or key in self._apart:
                continue
            if len(kept) == len(old) and kept_channels == old.shape[1]:
                continue
            self._builder.discard(_stored(*key))
            new = self._builder.create(_stored(*key), (len(kept), kept_channels, *old.shape[2:]), np.uint8)
            for start in range(0, len(kept), _CHUNK):
                rows = kept[start : start + _CHUNK]
                new[start : start + len(rows)] = old[rows, :kept_channels]
            self._images[key] = new
        for name, array in self._side.items():
            if name.startswith(f"{split}_"):
                self._side[name] = array[kept]

    def finish(self, spec: DataSpec) -> None:
        """Store what remains beside the images."""
        if self._found[1] >= spec.levels:
            raise ValueError(f"pixel values must be 0 to {spec.levels - 1}, found {self._found[1]}")
        for (split, part), images in self._images.items():
            hashes = [np.empty(0, dtype=np.int64)]
            for start in range(0, len(images), _CHUNK):
                hashes.append(hashes_of(images[start : start + _CHUNK]))
                self._builder.release()
            name = f"{split}_hashes" if part == "x" else f"{_stored(split, part)}_hashes"
            self._side[name] = np.concatenate(hashes)
        for key, array in self._side.items():
            self._builder.add(key, array)
        self._builder.info.update(
            spec=spec.to_dict(), found=self._found, notes=self.notes, test_pairs=self.test_pairs
        )

    def _in_place(self, split: str, values: np.ndarray) -> np.ndarray:
        place = self._place[split]
        if len(values) != len(place):
            raise ValueError(f"{len(values)} values for the {len(place)} images of {split}")
        stored = np.empty_like(values)
        stored[place] = values
        return stored


def _stored(split: str, part: str) -> str:
    return f"{split}_{PARTS[part].stored}"

"""What every data set has in common: the cache, the validation part, binarisation, the summary.

A data set is one Python file with a subclass of `Source` and one YAML file beside the others. The
subclass says what decides its arrays (`key`) and how to decode them (`decode`).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.cache import Builder, Entry, cached, default_place
from gentrain.data.describing import described
from gentrain.data.draws import bernoulli_by_index, thresholded
from gentrain.data.identity import Identity, digest_of, hashes_of
from gentrain.data.parts import PARTS
from gentrain.data.tape import Tape
from gentrain.data.writer import Writer
from gentrain.errors import UserError
from gentrain.files import expanded

_CHUNK = 1024  # images handled at a time


@dataclass(frozen=True)
class Split:
    """One split; the arrays are memory-mapped and read-only.

    Args:
        parts: {name of a part of a batch: [N, ...]}, row i of each being of image i; `x` is there always, an
            array or, of sounds, a `Tape`.
        apart: {name: [M, ...]}, parts that have an order and a number of their own: images of another domain.
    """

    parts: Mapping[str, Any]
    apart: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.parts["x"])

    @property
    def images(self) -> np.ndarray:
        """uint8 [N, C, H, W]."""
        return self.parts["x"]

    @property
    def labels(self) -> np.ndarray | None:
        """int64 [N], or None."""
        return self.parts.get("label")

    @property
    def attributes(self) -> np.ndarray | None:
        """bool [N, A], or None."""
        return self.parts.get("attributes")

    def part(self, start: int, stop: int | None) -> Split:
        """Images start .. stop-1 as views; of what is apart as large a share, at least one."""
        rows = slice(start, stop)
        share = {name: _share(len(array), len(self), rows) for name, array in self.apart.items()}
        return Split(
            {
                name: array.part(rows) if isinstance(array, Tape) else array[rows]
                for name, array in self.parts.items()
            },
            {name: array[share[name]] for name, array in self.apart.items()},
        )

    def with_part(self, name: str, values: np.ndarray | None) -> Split:
        """The same with another part `name`; None takes it away."""
        rest = {key: array for key, array in self.parts.items() if key != name}
        return Split(rest if values is None else {**rest, name: values}, self.apart)


def _share(count: int, whole: int, rows: slice) -> slice:
    """Of `count` things what `rows` are of `whole`; a part is never empty, and two parts do not overlap.

    Raises:
        UserError: there is one, of which nothing can be held out.
    """
    if count < 2 and (rows.start or rows.stop is not None):
        raise UserError("the other domain has one image: none can be held out; set dataset.validation=0")

    def at(row: int | None) -> int | None:
        return None if row is None else max(1, min(count - 1, round(row * count / whole)))

    return slice(at(rows.start) if rows.start else 0, at(rows.stop))


@dataclass(frozen=True)
class Data:
    """A data set that is ready to be read.

    Args:
        spec: what models are built for; `levels` is 2 where images are binarised.
        train: what is trained on, without the validation part.
        validation: a seeded part of the training set, or None where `dataset.validation` is 0.
        test: read by `gentrain eval` alone.
        binarize: none, dynamic, fixed or threshold.
        flip: whether training batches are mirrored left to right with probability 1/2.
        crop: pixels by which training images are padded, to be cut out again at a random place.
        split_seed: what the validation part and fixed binarisation were drawn from.
        stored_levels: grey levels of the stored arrays (differs from `spec.levels` when dynamic).
        name: the data set's name.
        found: smallest and largest stored pixel value.
        notes: lines about what decoding did, e.g. how many files it skipped.
        test_pairs: whether sources of test images are their partners, though others need not be.
        facts: what captions say that is to be seen, {name: pattern}, as of `words.patterns_of`.
        held_out: combinations of words that no training caption has, as of `words.holds`.
        identity: which images these are; None for data that were made up in memory.
    """

    spec: DataSpec
    train: Split
    validation: Split | None
    test: Split
    binarize: str
    flip: bool
    split_seed: int
    stored_levels: int
    name: str
    found: tuple[int, int]
    notes: tuple[str, ...] = ()
    identity: Identity | None = None
    crop: int = 0
    test_pairs: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()

    def with_labels_of(self, names: Sequence[str]) -> Data:
        """The same images, their labels numbered as in `names`, which has all of their names.

        Raises:
            ValueError: it has not; names the first that is missing.
        """
        own = self.spec.label_words or ()
        if missing := [name for name in own if name not in names]:
            raise ValueError(missing[0])
        number = np.array([list(names).index(name) for name in own], dtype=np.int64)

        def renumbered(split: Split) -> Split:
            return split if split.labels is None else split.with_part("label", number[split.labels])

        return dataclasses.replace(
            self,
            spec=dataclasses.replace(self.spec, classes=len(names), label_names=tuple(names)),
            train=renumbered(self.train),
            validation=None if self.validation is None else renumbered(self.validation),
            test=renumbered(self.test),
        )

    @property
    def pixels(self) -> str:
        """What pixels a likelihood is of: "2 levels, binarize=dynamic"."""
        if self.spec.sample_rate is not None:
            return f"{self.spec.levels} levels of the mu-law, {self.spec.sample_rate:,} Hz"
        return f"{self.spec.levels} levels, binarize={self.binarize}"

    def describe(self) -> list[str]:
        """The lines that are shown before training: sizes, shape, levels, values, label histograms."""
        return described(self)


class Source(ABC):
    """Base of every data set.

    Args:
        root: where the files lie, or None for a data set that needs none; `~` is expanded.
        cache: folder of the decoded arrays; `~` is expanded. None: GENTRAIN_CACHE, or ~/.cache/gentrain.
        validation: how much of train is held out: a count of images, a fraction in (0, 1), or 0. Data that
            bring a validation part of their own have that one, or none with 0.
        split_seed: draws the validation part (and fixed binarisation); any integer.
        license: under which they may be used: an SPDX id, or one and after a comma whose they are, or words;
            the card of an export says it. None: that of the data set, where it is known.

    Raises:
        ValueError: a setting out of range, or a `~` that no home is known for; named as dataset.<key>.
    """

    name: ClassVar[str]
    # What is done to images when they are served: `ImageSource` takes settings for it.
    binarize: str = "none"
    flip: bool = False
    crop: int = 0
    source: str | None = None
    paired: bool = True
    background: Path | None = None
    stacked: bool = False
    facts: Mapping[str, str] = MappingProxyType({})
    combinations: tuple[str, ...] = ()
    #: Whether images may come and go between two uses; then checkpoints keep a hash of each.
    grows: ClassVar[bool] = False
    #: Settings that configurations of earlier versions lack, and what they meant without.
    formerly: ClassVar[Mapping[str, Any]] = {"license": None}

    def __init__(
        self,
        *,
        root: str | None,
        cache: str | None,
        validation: int | float,
        split_seed: int,
        license: str | None,
    ) -> None:
        good = validation >= 0 if isinstance(validation, int) else 0 < validation < 1 or validation == 0
        if isinstance(validation, bool) or not good:
            raise ValueError(
                "dataset.validation must be a count of images, a fraction between 0 and 1, or 0 for none, "
                f"found {validation}"
            )
        if license is not None and (not license.strip() or "\n" in license):
            raise ValueError(f"dataset.license must be an SPDX id or one line of words, found {license!r}")
        self.license = license
        self.root = (
            None if root is None else expanded(root, "name a folder with dataset.root=FOLDER, or set HOME")
        )
        self.cache = expanded(
            default_place() if cache is None else cache,
            "name a folder with dataset.cache=FOLDER or GENTRAIN_CACHE, or set HOME",
        )
        self.validation = validation
        self.split_seed = split_seed

    @abstractmethod
    def key(self) -> Mapping[str, Any]:
        """What decides the decoded arrays, as JSON can hold it: files (`stamp`) and settings.

        Raises:
            UserError: the data is not there.
        """

    @abstractmethod
    def decode(self, writer: Writer) -> DataSpec:
        """Decode train and test into `writer`; returns what the images are.

        Raises:
            UserError: the data is damaged or is not what the settings say.
        """

    def load(self) -> Data:
        """Decode into the cache or open it, hold out the validation part, binarise once where that is asked.

        Raises:
            UserError: data missing or damaged, cache not writable, or a `dataset.validation` that
                leaves nothing to train on.
            Fault: the disk is full.
        """
        key = {"source": self.name, "split_seed": self.split_seed, **self.key()}
        entry = cached(self.cache, self.name, key, self._build)
        if self.stacked:
            single = entry
            key = {**key, "stacked": True, "held_out": self.combinations}
            entry = cached(
                self.cache, f"{self.name}-stacked", key, lambda builder: self._stack(builder, single)
            )
        if self.binarize in ("fixed", "threshold"):
            decoded = entry
            entry = cached(
                self.cache,
                f"{self.name}-{self.binarize}",
                {**key, "binarize": self.binarize},
                lambda builder: self._binarize(builder, decoded),
            )
        if self.source is not None:
            without = entry
            made = {"partners": self.source, "paired": self.paired, "background": self._background_key()}
            entry = cached(
                self.cache,
                f"{self.name}-{self.source}",
                {**key, "binarize": self.binarize, **made},
                lambda builder: self._add_partners(builder, without),
            )
        spec = DataSpec.from_dict(entry.info["spec"])
        train, test = (_split(entry, name, spec) for name in ("train", "test"))
        if "validation_images" in entry.arrays:
            validation, held_out = _split(entry, "validation", spec) if self.validation else None, 0
        else:
            held_out = self._validation_size(len(train), entry.arrays.get("train_draws"))
            validation = train.part(0, held_out) if held_out else None
        return Data(
            spec=dataclasses.replace(spec, levels=2) if self.binarize == "dynamic" else spec,
            train=train.part(held_out, None),
            validation=validation,
            test=test,
            binarize=self.binarize,
            flip=self.flip,
            crop=self.crop,
            split_seed=self.split_seed,
            stored_levels=spec.levels,
            name=self.name,
            found=(entry.info["found"][0], entry.info["found"][1]),
            notes=tuple(entry.info["notes"]),
            identity=self._identity(entry, held_out),
            test_pairs=bool(spec.paired or entry.info.get("test_pairs")),
            facts=self.facts,
            held_out=self.combinations,
        )

    def _identity(self, entry: Entry, held_out: int) -> Identity:
        """Of all images, `held_out` of train being the validation part."""
        named: dict[str, np.ndarray] = {}
        for name, array in entry.arrays.items():
            split, _, what = name.partition("_")
            if what == "images":  # an entry of an earlier version has no hashes
                kept = entry.arrays.get(f"{split}_hashes")
                named[f"{split}_hashes"] = hashes_of(array) if kept is None else kept
            elif what in {part.stored for part in PARTS.values()}:
                kept = entry.arrays.get(f"{name}_hashes", array)
                named[name] = hashes_of(array) if kept.dtype == np.uint8 else kept
        hashes = {name.removesuffix("_hashes"): named[name] for name in named if name.endswith("_hashes")}
        if held_out:
            hashes["validation"], hashes["train"] = np.split(hashes["train"], [held_out])
        return Identity(
            root=None if self.root is None else str(self.root.absolute()),
            digest=digest_of(named),
            counts={split: len(values) for split, values in hashes.items()},
            hashes=hashes if self.grows else {},
        )

    def _build(self, builder: Builder) -> None:
        writer = Writer(builder, self.split_seed)
        writer.finish(self.decode(writer))

    def _background_key(self) -> list[Any] | None:
        """What tells one set of photographs from another."""
        from gentrain.data.archive import fingerprint

        return None if self.background is None else fingerprint(self.background, "dataset.background")

    def _add_partners(self, builder: Builder, without: Entry) -> None:
        from gentrain.data.partners import add_partners

        assert self.source is not None
        add_partners(builder, without, self.source, self.paired, self.background, self.split_seed)

    def _stack(self, builder: Builder, single: Entry) -> None:
        from gentrain.data.stacked import add_stacked

        add_stacked(builder, single, self.combinations)

    def _binarize(self, builder: Builder, decoded: Entry) -> None:
        levels = decoded.info["spec"]["levels"]
        for name, array in decoded.arrays.items():
            if not name.endswith(f"_{PARTS['x'].stored}"):
                builder.add(name, np.array(array))
                continue
            drawn = builder.create(name, array.shape, np.uint8)
            for start in range(0, len(array), _CHUNK):
                images = array[start : start + _CHUNK]  # [n, C, H, W]
                indices = range(start, start + len(images))
                drawn[start : start + len(images)] = (
                    thresholded(images, levels)
                    if self.binarize == "threshold"
                    else bernoulli_by_index(images, levels, indices, "fixed", name, self.split_seed)
                )
                builder.release()
        spec = {**decoded.info["spec"], "levels": 2}
        builder.info.update(spec=spec, found=[0, 1], notes=decoded.info["notes"])

    def _validation_size(self, count: int, draws: np.ndarray | None) -> int:
        """How many of `count` training images are held out; by `draws` [N], ascending, where there are."""
        if isinstance(self.validation, int) or self.validation == 0:
            size = int(self.validation)
        else:
            share = self.validation * count if draws is None else np.searchsorted(draws, self.validation)
            size = max(1, round(float(share)))
        if size >= count:
            raise UserError(
                f"dataset.validation={self.validation} takes {size:,} of the {count:,} training images and "
                f"leaves none to train on; at most dataset.validation={count - 1}"
            )
        return size


def stamp(path: Path) -> list[str | int]:
    """[real path, size in bytes, modification time in ns]: what tells one state of a file from another."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def _split(entry: Entry, name: str, spec: DataSpec) -> Split:
    """Split `name`; a source that is not paired is apart."""
    found: dict[str, Any] = {
        part: entry.arrays[f"{name}_{how.stored}"]
        for part, how in PARTS.items()
        if f"{name}_{how.stored}" in entry.arrays
    }
    if spec.context is not None:
        starts, regions, lows = (entry.arrays[f"{name}_{what}"] for what in ("starts", "regions", "lows"))
        length = spec.shape[2] - spec.context
        found["x"] = Tape(found["x"], starts, regions, lows, spec.context, length, spec.levels // 2)
    apart = {"source": found.pop("source")} if "source" in found and not spec.paired else {}
    return Split(found, apart)

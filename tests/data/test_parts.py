"""Data with more than labels: captions, partners, another domain; only this file knows these data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gentrain.contracts import Batch, DataSpec
from gentrain.data import source as source_module
from gentrain.data.augment import Augment, cropped, cropped_on_device
from gentrain.data.batches import Batches, images_at, in_order
from gentrain.data.cache import Entry
from gentrain.data.image_source import ImageSource
from gentrain.data.source import Data
from gentrain.data.writer import Writer
from gentrain.errors import UserError

CPU = torch.device("cpu")
TRAIN, TEST, OTHERS = 40, 10, 23


def numbered(count: int, shape: tuple[int, int, int], of: int = 1) -> np.ndarray:
    """Images whose first pixel is their number; unlike their mirror images."""
    images = np.random.default_rng(of).integers(0, 100, (count, *shape), dtype=np.uint8)
    images[:, :, 0, 0] = np.arange(count)[:, None]
    images[:, :, 0, -1] = 200
    return images


class Told(ImageSource):
    """Images with captions, and sources that are partners or of another domain."""

    name = "told"

    def __init__(self, *, kind: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.kind = kind

    def key(self) -> Mapping[str, Any]:
        return {"kind": self.kind}

    def decode(self, writer: Writer) -> DataSpec:
        paired = self.kind == "paired"
        for split, count in (("train", TRAIN), ("test", TEST)):
            writer.begin(split, count, (1, 4, 6))
            writer.put(split, "x", numbered(count, (1, 4, 6)))
            writer.put(split, "caption", np.arange(count)[:, None] % 3 * [1, 0] + [0, 1])
            others = count if paired else OTHERS if split == "train" else 4
            writer.begin_source(split, (3, 4, 6), None if paired else others)
            for i in range(others):  # one at a time, as files are read
                writer.put(split, "source", numbered(others, (3, 4, 6), of=2)[i], i)
        return DataSpec(
            (1, 4, 6), source_shape=(3, 4, 6), paired=paired, vocabulary=("a", "b", "c"), caption_length=2
        )


def told(tmp_path: Path, kind: str, **settings: Any) -> Data:
    plain = {"root": None, "cache": str(tmp_path), "validation": 8, "split_seed": 0, "binarize": "none"}
    served = {"flip": False, "crop": 0, "source": None, "paired": True, "background": None}
    served |= {"stacked": False, "held_out": None, "license": None}
    return Told(kind=kind, **{**plain, **served, **settings}).load()


def number(images: torch.Tensor | None) -> list[int]:
    assert images is not None
    return images[:, 0, 0, 0].tolist()


def test_parts_go_together(tmp_path: Path) -> None:
    data = told(tmp_path, "paired")
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (32, 8, 10)
    batches = Batches(data, data.train, batch_size=16, seed=3, device=CPU)
    seen = []
    for step in range(2):
        batch = batches.at(step)
        assert batch.caption is not None
        assert batch.caption.dtype == torch.int64
        assert number(batch.source) == number(batch.x)
        assert batch.caption.tolist() == [[n % 3, 1] for n in number(batch.x)]
        seen += number(batch.x)
    held_out = number(next(in_order(data, data.validation, batch_size=8, device=CPU, seed=0)).x)
    assert sorted(seen + held_out) == list(range(TRAIN))
    chosen = images_at(data, data.test, [4, 2], 0)
    assert number(chosen.x) == number(chosen.source) == [4, 2]
    again = told(tmp_path, "paired")  # from the cache
    twin = Batches(again, again.train, batch_size=16, seed=3, device=CPU)
    for one, other in zip(batches.at(7), twin.at(7), strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_another_domain_has_an_order_of_its_own(tmp_path: Path) -> None:
    data = told(tmp_path, "unpaired")
    assert data.validation is not None
    of_train, of_validation = data.train.apart["source"], data.validation.apart["source"]
    assert len(of_train) + len(of_validation) == OTHERS
    assert len(of_validation) == round(OTHERS * 8 / TRAIN)
    assert not set(of_train[:, 0, 0, 0]) & set(of_validation[:, 0, 0, 0])
    batches = Batches(data, data.train, batch_size=4, seed=3, device=CPU)
    stream = [n for step in range(40) for n in number(batches.at(step).source)]
    epochs = [stream[i : i + len(of_train)] for i in range(0, 4 * len(of_train), len(of_train))]
    everything = sorted(of_train[:, 0, 0, 0].tolist())
    assert all(sorted(epoch) == everything for epoch in epochs)
    assert epochs[0] != epochs[1]
    fresh = Batches(data, data.train, batch_size=4, seed=3, device=CPU)
    assert torch.equal(fresh.at(31).source, batches.at(31).source), "a function of the step alone"  # type: ignore[arg-type]
    other = Batches(data, data.train, batch_size=4, seed=4, device=CPU)
    assert number(other.at(0).source) != stream[:4]
    ranks = [
        Batches(data, data.train, batch_size=4, seed=3, device=CPU, rank=r, world=2).at(9) for r in (0, 1)
    ]
    assert number(ranks[0].source) + number(ranks[1].source) == stream[36:40]
    large = Batches(data, data.train, batch_size=32, seed=3, device=CPU)  # more than there are sources
    assert len(number(large.at(0).source)) == 32
    test = list(in_order(data, data.test, batch_size=6, device=CPU, seed=0))
    assert [n for batch in test for n in number(batch.source)] == [i % 4 for i in range(TEST)]


@pytest.mark.parametrize("kind", ["paired", "unpaired"])
def test_partners_are_mirrored_and_cropped_in_step(tmp_path: Path, kind: str) -> None:
    data = told(tmp_path, kind, flip=True, crop=1)
    plain = told(tmp_path, kind)
    batches, still = (Batches(d, d.train, batch_size=32, seed=3, device=CPU) for d in (data, plain))
    moved, there = batches.at(5), still.at(5)
    assert moved.source is not None
    assert there.source is not None
    if kind == "unpaired":
        assert torch.equal(moved.source, there.source)
        return
    found = set()
    for x, source, old_x, old_source in zip(moved.x, moved.source, there.x, there.source, strict=True):
        for flip in (False, True):
            for row in range(3):
                for column in range(3):
                    a, b = (
                        cropped((old.flip(-1) if flip else old)[None].numpy(), np.array([[row, column]]), 1)[
                            0
                        ]
                        for old in (old_x, old_source)
                    )
                    if np.array_equal(a, x.numpy()):
                        found.add((flip, row, column))
                        assert np.array_equal(b, source.numpy())
    assert len(found) > 9


class Doubled(Told):
    """Partners of twice the resolution: each pixel of the image four times."""

    times = (2, 2)

    def decode(self, writer: Writer) -> DataSpec:
        source_shape = (1, 4 * self.times[0], 6 * self.times[1])
        for split, count in (("train", TRAIN), ("test", TEST)):
            images = numbered(count, (1, 4, 6))
            writer.begin(split, count, (1, 4, 6))
            writer.put(split, "x", images)
            writer.begin_source(split, source_shape)
            writer.put(split, "source", images.repeat(self.times[0], 2).repeat(self.times[1], 3))
        return DataSpec((1, 4, 6), source_shape=source_shape, paired=True)


def test_partners_of_a_higher_resolution_are_cropped_in_step(tmp_path: Path) -> None:
    settings = {"root": None, "cache": str(tmp_path), "validation": 0, "split_seed": 0, "binarize": "none"}
    settings |= {"source": None, "paired": True, "background": None}
    settings |= {"stacked": False, "held_out": None, "license": None}
    data = Doubled(kind="paired", **settings, flip=True, crop=2).load()
    batch = Batches(data, data.train, batch_size=32, seed=3, device=CPU).at(5)
    assert batch.source is not None
    assert torch.equal(batch.source, batch.x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    augment = Augment(data, 0, 32, slice(None), torch.device("cpu"))
    moved = augment._on_device(batch, 1)
    assert moved.source is not None
    assert torch.equal(moved.source, moved.x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_partners_that_cannot_be_cropped_in_step_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Doubled, "times", (2, 3))
    settings = {"root": None, "cache": str(tmp_path), "validation": 0, "split_seed": 0, "binarize": "none"}
    settings |= {"source": None, "paired": True, "background": None}
    settings |= {"stacked": False, "held_out": None, "license": None}
    data = Doubled(kind="paired", **settings, flip=True, crop=2).load()
    with pytest.raises(UserError, match=r"dataset\.crop=2: expected partner images of 4x6.*found 8x18"):
        Batches(data, data.train, batch_size=32, seed=3, device=CPU)
    whole = Doubled(kind="paired", **settings, flip=True, crop=0).load()
    assert Batches(whole, whole.train, batch_size=32, seed=3, device=CPU).at(0).source is not None


@pytest.mark.parametrize("kind", ["paired", "unpaired"])
def test_hashes_are_kept_and_an_entry_without_them_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """An entry of an earlier version has those of the images, or none: they are made anew, and are equal."""
    first = told(tmp_path, kind).identity
    hashed: list[int] = []
    hashes_of = source_module.hashes_of
    monkeypatch.setattr(source_module, "hashes_of", lambda x: hashed.append(len(x)) or hashes_of(x))
    assert told(tmp_path, kind).identity == first
    assert not hashed

    entry_of = source_module.cached

    def earlier(*args: Any) -> Entry:
        entry = entry_of(*args)
        return replace(entry, arrays={k: v for k, v in entry.arrays.items() if not k.endswith("_hashes")})

    monkeypatch.setattr(source_module, "cached", earlier)
    assert told(tmp_path, kind).identity == first
    assert len(hashed) == 4


def test_crops_are_the_same_on_a_device() -> None:
    images = torch.randint(0, 256, (20, 3, 5, 7), dtype=torch.uint8)
    places = torch.randint(0, 5, (20, 2))
    expected = cropped(images.numpy(), places.numpy(), 2)
    assert np.array_equal(cropped_on_device(images, places, 2).numpy(), expected)
    centre = torch.full((20, 2), 2)
    assert torch.equal(cropped_on_device(images, centre, 2), images)


def test_the_identity_tells_what_differs_beside_the_images(tmp_path: Path) -> None:
    paired, unpaired = (told(tmp_path, kind).identity for kind in ("paired", "unpaired"))
    assert paired is not None
    assert unpaired is not None
    assert paired.digest != unpaired.digest


def test_batches_know_their_parts() -> None:
    batch = Batch(torch.zeros(4, 1), caption=torch.zeros(4, 2))
    assert [part.caption is not None for part in batch.split(2)] == [True, True]

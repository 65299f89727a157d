"""Pairs and domains in every layout that people have, and what does not match."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from waves import written

from gentrain.data.batches import Batches, images_at
from gentrain.data.pairs import Pairs, TwoDomains, Unpaired
from gentrain.data.source import Data
from gentrain.errors import UserError

CPU = torch.device("cpu")
Load = Callable[..., Data]


def png(value: int, size: tuple[int, int] = (4, 3), second: int | None = None) -> bytes:
    """An image of 4x3 pixels (width x height), or two side by side."""
    file = io.BytesIO()
    array = np.full((size[1], size[0], 3), value, np.uint8)
    if second is not None:
        array = np.concatenate([array, np.full_like(array, second)], 1)
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def both(count: int, a: str, b: str, start: int = 0) -> dict[str, bytes]:
    """Partners i and 100 + i in the folders `a` and `b`."""
    numbers = range(start, start + count)
    return {f"{a}/{i}.png": png(i) for i in numbers} | {f"{b}/{i}.png": png(100 + i) for i in numbers}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def call(kind: type[TwoDomains], files: Mapping[str, bytes], zipped: bool = False, **more: Any) -> Data:
        root = written(tmp_path / ("x.zip" if zipped else "x"), files)
        plain = {
            "a": "A", "b": "B", "direction": "AtoB", "image_size": None, "channels": 3, "on_error": "raise",
            "test_fraction": 0.3, "cache": str(tmp_path / "cache"), "validation": 0, "split_seed": 0,
            "binarize": "none", "flip": False, "crop": 0, "source": None, "paired": True, "background": None,
            "stacked": False, "held_out": None, "license": None,
        }  # fmt: skip
        return kind(root=str(root), **plain | more).load()

    return call


LAYOUTS = {
    "A/ and B/": both(8, "A", "B"),
    "A/train and B/train": both(6, "A/train", "B/train") | both(2, "A/test", "B/test", 6),
    "train/A": both(6, "train/A", "train/B") | both(2, "test/A", "test/B", 6),
    "trainA": both(6, "trainA", "trainB") | both(2, "testA", "testB", 6) | both(2, "valA", "valB", 10),
    "side by side": {f"{i}.png": png(i, second=100 + i) for i in range(8)},
    "side by side, split": {f"train/{i}.png": png(i, second=100 + i) for i in range(6)}
    | {f"test/{i}.png": png(i, second=100 + i) for i in (6, 7)},
}


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_partners_find_each_other(layout: str, zipped: bool, load: Load) -> None:
    data = load(Pairs, LAYOUTS[layout], zipped, validation=0.5 if layout == "trainA" else 0)
    assert data.spec.paired
    assert data.spec.source_shape == data.spec.shape == (3, 3, 4)
    parts = [data.train, data.test, *([data.validation] if data.validation is not None else [])]
    seen = []
    for split in parts:
        a, b = split.parts["source"][:, 0, 0, 0], split.images[:, 0, 0, 0]
        assert np.array_equal(a.astype(int) + 100, b)
        seen += a.tolist()
    assert sorted(seen) == sorted({int(name.split("/")[-1].split(".")[0]) for name in LAYOUTS[layout]})
    if "train" in layout or "split" in layout:
        assert sorted(data.test.parts["source"][:, 0, 0, 0].tolist()) == [6, 7]


def test_the_other_direction_and_other_names(load: Load) -> None:
    files = both(5, "sketch/train", "photo/train") | both(2, "sketch/test", "photo/test", 5)
    data = load(Pairs, files, a="sketch", b="photo", direction="BtoA")
    assert data.train.images[:, 0, 0, 0].max() < 100 <= data.train.parts["source"][:, 0, 0, 0].min()


def test_pairs_are_mirrored_and_cropped_in_step(load: Load) -> None:
    rng = np.random.default_rng(0)
    files = {}
    for i in range(9):
        array = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(np.concatenate([array, 255 - array], 1)).save(file, "PNG")
        files[f"{i}.png"] = file.getvalue()
    data = load(Pairs, files, flip=True, crop=2)
    batches = Batches(data, data.train, batch_size=4, seed=0, device=CPU)
    for step in range(10):
        batch = batches.at(step)
        assert batch.source is not None
        assert torch.equal(batch.x, 255 - batch.source)


@pytest.mark.parametrize("layout", ["A/ and B/", "A/train and B/train", "train/A", "trainA"])
def test_domains_have_an_order_each_of_their_own(layout: str, load: Load) -> None:
    more = {name.replace("1.png", "99.png"): png(42) for name in LAYOUTS[layout] if name.endswith("A/1.png")}
    data = load(Unpaired, {**LAYOUTS[layout], **more})
    assert data.spec.paired is False
    assert data.train.images[:, 0, 0, 0].min() >= 100 > data.train.apart["source"][:, 0, 0, 0].max()
    assert data.test_pairs or layout == "A/ and B/", "of equal names in both"
    batch = Batches(data, data.train, batch_size=2, seed=0, device=CPU).at(0)
    assert batch.source is not None
    assert images_at(data, data.test, [0], 0).source is not None


GOOD = both(5, "A", "B")
#: (kind, files, settings, the line).
SPLIT = both(3, "trainA", "trainB") | {"trainA/x.png": png(1), "testB/x.png": png(2)}
LARGE = {"A/x.png": png(1, (5, 3)), "B/x.png": png(1)}
REFUSED: dict[str, tuple[type[TwoDomains], dict[str, bytes], dict[str, Any], str]] = {
    "a partner is missing": (Pairs, GOOD | {"A/x.png": png(1)}, {}, r"A/x\.png has no partner in B; give it"),
    "another split": (
        Pairs,
        SPLIT | {"testA/y.png": png(1), "testB/y.png": png(2)},
        {},
        r"trainA/x\.png its partner is in test",
    ),
    "another size": (
        Pairs,
        GOOD | LARGE,
        {},
        r"has 3x\d pixels .*; bring all to one size with dataset\.image",
    ),
    "beside the folders": (Pairs, GOOD | {"x.png": png(1)}, {}, r"x\.png lies beside the folders of the"),
    "one domain": (Unpaired, {f"A/{i}.png": png(i) for i in range(4)}, {}, "no image of domain B in train"),
    "no domain": (Unpaired, {f"{i}.png": png(i) for i in range(4)}, {}, "no folders of two domains called A"),
    "folders of other names": (
        Pairs,
        both(6, "horse", "zebra"),
        {},
        r"no folder called A or B; say what those of the domains are called: dataset.a=horse dataset.b=zebra",
    ),
    "not two side by side": (
        Pairs,
        {f"{i}.png": png(i, (5, 3)) for i in range(4)},
        {},
        "is 5 pixels wide; expected two images side by side",
    ),
    "one pair": (Pairs, both(1, "A", "B"), {}, "holds 1 pair; at least 2"),
    "one name twice": (Pairs, GOOD | {"A/1.jpg": png(1)}, {}, r"A/1\.jpg and .*A/1\.png have one name"),
    "broken": (Pairs, GOOD | {"A/2.png": b"no"}, {}, r"A/2\.png cannot be decoded"),
    "nothing": (Pairs, {"a.txt": b""}, {}, "holds no image"),
    "a source": (Pairs, GOOD, {"source": "grey"}, "dataset.source must be null"),
    "a direction": (Pairs, GOOD, {"direction": "up"}, "dataset.direction must be AtoB or BtoA"),
    "names": (Pairs, GOOD, {"a": "B"}, "two names of folders"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_does_not_match_is_named(why: str, load: Load) -> None:
    kind, files, settings, reason = REFUSED[why]
    with pytest.raises((UserError, ValueError), match=reason):
        load(kind, files, **settings)


def test_what_does_not_match_can_be_skipped(load: Load) -> None:
    bad = {"A/x.png": png(1), "B/y.png": png(2), "A/2.png": b"no"}
    data = load(Pairs, GOOD | bad, on_error="skip")
    assert len(data.train) + len(data.test) == 4
    assert any(note.startswith("skipped 3: ") for note in data.notes)


def test_images_are_brought_to_one_size(load: Load) -> None:
    for files in (both(4, "A", "B"), {f"{i}.png": png(i, second=100 + i) for i in range(4)}):
        larger = {"A/9.png": png(9, (9, 9)), "B/9.png": png(109, (8, 8))} if "A/1.png" in files else {}
        data = load(Pairs, files | larger, zipped=not larger, image_size=[2, 3])
        assert data.spec.shape == (3, 2, 3)
        assert np.array_equal(data.train.images[:, 0, 0, 0], data.train.parts["source"][:, 0, 0, 0] + 100)


@pytest.mark.slow
def test_the_emoji_are_pairs(real_data: Path, load: Load, tmp_path: Path) -> None:
    settings = {"a": "twemoji", "b": "noto", "image_size": 8}
    plain = {
        "direction": "AtoB", "channels": 3, "on_error": "raise", "test_fraction": 0.3, "validation": 0,
        "cache": str(tmp_path), "split_seed": 0, "binarize": "none", "flip": False, "crop": 0, "source": None,
        "paired": True, "background": None,
            "stacked": False, "held_out": None, "license": None,
    }  # fmt: skip
    data = Pairs(root=str(real_data / "emoji.zip"), **settings, **plain).load()
    assert (len(data.train), len(data.test)) == (3161, 485)

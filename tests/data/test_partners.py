"""Partners that are made from the images: exact, of one image alone, and never of a training pair where
unpaired.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gentrain.data.batches import images_at
from gentrain.data.digits import Digits
from gentrain.data.folder import Folder
from gentrain.data.partners import MAKERS
from gentrain.data.source import Data
from gentrain.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 3, 8, 12), dtype=np.uint8)


def test_each_map_is_what_it_says() -> None:
    for i, image in enumerate(COLOUR):
        luma = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))
        assert np.abs(MAKERS["grey"](COLOUR, 255)[i, 0].astype(int) - luma).max() <= 1
    assert np.array_equal(MAKERS["invert"](COLOUR, 255), 255 - COLOUR)
    shrunk = MAKERS["shrink"](COLOUR, 255)
    assert shrunk.shape == (5, 3, 2, 3)
    assert abs(int(shrunk[0, 0, 0, 0]) - COLOUR[0, 0, :4, :4].mean()) <= 0.5
    holed = MAKERS["hole"](COLOUR, 255)
    assert (holed[:, :, 2:6, 3:9] == 128).all()
    assert np.array_equal(holed[:, :, :2], COLOUR[:, :, :2])
    step = np.zeros((1, 1, 8, 8), np.uint8)
    step[..., 4:] = 255
    for name in ("edges", "outline"):
        made = MAKERS[name](step, 255)[0, 0]
        assert (made[:, 3:5] == 255).all()
        assert not made[:, :3].any()
        assert not made[:, 5:].any()


@pytest.mark.parametrize("source", MAKERS)
@pytest.mark.parametrize("top", [16, 255])
def test_a_partner_is_of_one_image_alone_and_of_its_levels(source: str, top: int) -> None:
    images = RNG.integers(0, top + 1, (4, 1, 8, 8), dtype=np.uint8)
    together = MAKERS[source](images, top)
    assert together.dtype == np.uint8
    assert together.max() <= top
    for i in range(4):
        assert np.array_equal(MAKERS[source](images[i : i + 1], top)[0], together[i])


def digits(tmp_path: Path, **settings: Any) -> Data:
    plain = {"root": None, "cache": str(tmp_path), "validation": 100, "split_seed": 0, "binarize": "none"}
    rest = {"flip": False, "crop": 0, "source": "invert", "paired": True, "background": None}
    rest |= {"stacked": False, "held_out": None, "license": None}
    return Digits(**plain | rest | settings).load()


def test_images_are_served_with_their_partners(tmp_path: Path) -> None:
    data, without = digits(tmp_path), digits(tmp_path, source=None)
    assert data.spec.paired
    assert data.spec.source_shape == (1, 8, 8)
    for one, other in ((data.train, without.train), (data.test, without.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.parts["source"], 16 - one.images)
        assert np.array_equal(one.labels, other.labels)
    assert without.spec.source_shape is None


def test_unpaired_no_pair_is_trained_on_and_the_tests_are_kept(tmp_path: Path) -> None:
    data = digits(tmp_path, paired=False)
    assert data.spec.paired is False
    kinds = {image.tobytes() for image in data.train.images}
    assert not kinds & {(16 - image).tobytes() for image in data.train.apart["source"]}
    assert abs(len(data.train) + 100 - 750) <= 1, "half of 1,500"
    batch = images_at(data, data.test, range(20), 0)
    assert batch.source is not None
    assert torch.equal(batch.x, 16 - batch.source)


def test_backgrounds_are_photographs(tmp_path: Path) -> None:
    for name, count in (("photos", 3), ("images/train", 6), ("images/test", 2)):
        (tmp_path / name).mkdir(parents=True)
        for i in range(count):
            grey = np.zeros((8, 8), np.uint8) if "images" in name else None
            array = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) if grey is None else grey
            if grey is not None:
                grey[i : i + 2] = 255
            Image.fromarray(array).save(tmp_path / name / f"{i}.png")
    plain = {
        "root": str(tmp_path / "images"), "cache": str(tmp_path / "c"), "validation": 0, "split_seed": 0,
        "binarize": "none", "flip": False, "crop": 0, "paired": True, "image_size": None, "channels": 1,
        "on_error": "raise", "test_fraction": 0.1, "split_rule": 2, "stacked": False, "held_out": None,
        "license": None,
    }  # fmt: skip
    data = Folder(source="background", background=str(tmp_path / "photos"), **plain).load()
    photos = [np.asarray(Image.open(p)).transpose(2, 0, 1) for p in sorted((tmp_path / "photos").iterdir())]
    for x, source in zip(data.train.images, data.train.parts["source"], strict=True):
        assert any(np.array_equal(source, np.abs(photo.astype(int) - x)) for photo in photos)
    with pytest.raises(ValueError, match=r"needs dataset\.background=PATH"):
        Folder(source="background", background=None, **plain)
    gone = (
        r"dataset\.background=.*gone does not exist; name a folder or a \.zip with dataset\.background=PATH"
    )
    with pytest.raises(UserError, match=gone):
        Folder(source="background", background=str(tmp_path / "gone"), **plain).load()
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        Folder(source="background", background=str(tmp_path / "none"), **plain).load()


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.source must be one of grey, edges"):
        digits(tmp_path, source="green")
    with pytest.raises(ValueError, match=r"needs dataset\.binarize=none, found dynamic"):
        digits(tmp_path, binarize="dynamic")
    with pytest.raises(UserError, match="expected images of 256 levels, found 17"):
        digits(tmp_path, source="background", background=str(tmp_path))

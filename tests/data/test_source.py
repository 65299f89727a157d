from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import gentrain.config  # noqa: F401 - what YAML files call
from gentrain.contracts import DataSpec
from gentrain.data import source as module
from gentrain.data.describing import histogram
from gentrain.data.digits import Digits
from gentrain.data.draws import thresholded
from gentrain.data.image_source import ImageSource
from gentrain.data.source import Data, Source
from gentrain.data.writer import Writer
from gentrain.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


class Made(ImageSource):
    """Image number i of train is filled with i, its label is i mod 3; images of test with 200 + i."""

    name = "made"
    count = 50

    def key(self) -> dict[str, Any]:
        return {"count": self.count}

    def decode(self, writer: Writer) -> DataSpec:
        for split, start, count in (("train", 0, self.count), ("test", 200, 5)):
            values = np.arange(start, start + count, dtype=np.uint8)
            writer.begin(split, count, (1, 2, 3))
            writer.put(split, "x", np.broadcast_to(values[:, None, None, None], (count, 1, 2, 3)))
            writer.put(split, "label", np.arange(count) % 3)
            writer.put(split, "attributes", np.stack([values % 2 == 0], axis=1))
        return DataSpec((1, 2, 3), classes=3, label_names=("a", "b", "c"), attributes=("even",))


def test_validation_is_a_seeded_part_of_train(common: dict[str, Any]) -> None:
    parts = {}
    for size in (0, 10, 0.2):
        data = Made(root=None, **{**common, "validation": size}).load()
        splits = [data.train] if data.validation is None else [data.train, data.validation]
        values = np.concatenate([split.images[:, 0, 0, 0] for split in splits])
        assert sorted(values.tolist()) == list(range(50))
        for split in (*splits, data.test):
            value = split.images[:, 0, 0, 0]
            assert split.labels is not None
            assert split.labels.dtype == np.int64
            assert (split.labels == (value - 200 * (value >= 200)) % 3).all()
            assert split.attributes is not None
            assert split.attributes.dtype == np.bool_
            assert (split.attributes[:, 0] == (value % 2 == 0)).all()
        assert data.test.images[:, 0, 0, 0].tolist() == [200, 201, 202, 203, 204]
        parts[size] = data.validation
    assert parts[0] is None
    assert parts[10] is not None
    assert parts[0.2] is not None
    assert len(parts[10]) == 10
    assert (parts[10].images == parts[0.2].images).all()
    assert parts[10].images[:, 0, 0, 0].tolist() != list(range(10))
    other = Made(root=None, **{**common, "validation": 10, "split_seed": 1}).load().validation
    assert other is not None
    assert (other.images != parts[10].images).any()


def test_arrays_stay_memory_mapped(common: dict[str, Any]) -> None:
    data = Made(root=None, **{**common, "validation": 10}).load()
    assert data.validation is not None
    for split in (data.train, data.validation, data.test):
        assert isinstance(split.images, np.memmap)
        assert not split.images.flags.writeable


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, -0.5, True, float("nan")])
def test_validation_out_of_range(common: dict[str, Any], value: float) -> None:
    with pytest.raises(ValueError, match=r"dataset\.validation .* found"):
        Made(root=None, **{**common, "validation": value})


@pytest.mark.parametrize("value", [50, 51, 0.999])
def test_validation_that_leaves_no_training_image(common: dict[str, Any], value: float) -> None:
    with pytest.raises(UserError, match=rf"dataset\.validation={value} .* 50 .*dataset\.validation=49"):
        Made(root=None, **{**common, "validation": value}).load()


def test_unknown_binarisation(common: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"dataset\.binarize must be none, dynamic, fixed or threshold, found static"
    ):
        Made(root=None, **{**common, "binarize": "static"})


def test_home_folder_is_expanded(
    common: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source = Made(root="~/data", **{**common, "cache": "~/here"})
    assert source.root == tmp_path / "data"
    assert source.cache == tmp_path / "here"


def test_pixel_above_the_levels_is_refused(common: dict[str, Any]) -> None:
    class Wrong(Made):
        name = "wrong"

        def decode(self, writer: Writer) -> DataSpec:
            super().decode(writer)
            return DataSpec((1, 2, 3), levels=17)

    with pytest.raises(ValueError, match="0 to 16, found 204"):
        Wrong(root=None, **common).load()


def digits(common: dict[str, Any], **settings: Any) -> Data:
    return Digits(root=None, **{**common, **settings}).load()


def test_digits_are_scikit_learns(common: dict[str, Any]) -> None:
    from sklearn.datasets import load_digits

    data = digits(common)
    assert (len(data.train), len(data.test), data.validation) == (1500, 297, None)
    assert data.spec == DataSpec((1, 8, 8), levels=17, classes=10, label_names=tuple("0123456789"))
    assert data.train.labels is not None
    assert data.test.labels is not None
    got = [
        (image.tobytes(), int(label))
        for split in (data.train, data.test)
        for image, label in zip(split.images, split.labels, strict=True)  # type: ignore[arg-type]
    ]
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    assert sorted(got) == sorted(
        (image.tobytes(), int(label)) for image, label in zip(images, bunch.target, strict=True)
    )
    # Every class in both splits: they are drawn, not cut off.
    assert np.bincount(data.test.labels).min() > 10


def test_second_start_does_not_decode(common: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = digits(common)
    monkeypatch.setattr(Digits, "decode", lambda *_: pytest.fail("decoded again"))
    assert (digits(common).train.images == first.train.images).all()
    # Another size of the validation part is another slice of the same arrays.
    assert len(digits(common, validation=100).train) == 1400


def test_fixed_binarisation_is_one_draw_per_image(common: dict[str, Any], tmp_path: Path) -> None:
    grey = digits(common)
    fixed = digits(common, binarize="fixed")
    assert fixed.spec.levels == fixed.stored_levels == 2
    assert fixed.train.images.max() == 1
    assert (fixed.train.images[grey.train.images == 0] == 0).all()
    assert (fixed.train.images[grey.train.images == 16] == 1).all()
    p = grey.train.images[grey.train.images % 16 != 0] / 16
    drawn = fixed.train.images[grey.train.images % 16 != 0]
    assert abs(drawn.mean() - p.mean()) < 5 * np.sqrt((p * (1 - p)).mean() / len(p))
    assert (fixed.train.labels == grey.train.labels).all()
    # The same in a cache of another process, and not the same for train and test or another seed.
    again = digits(common, binarize="fixed", cache=str(tmp_path / "other"))
    assert (again.train.images == fixed.train.images).all()
    assert (again.test.images == fixed.test.images).all()
    seeded = digits(common, binarize="fixed", split_seed=1)
    assert seeded.test.images.shape == fixed.test.images.shape
    assert (seeded.test.images != fixed.test.images).any()


def test_a_threshold_takes_the_nearer_of_black_and_white(common: dict[str, Any]) -> None:
    grey, found = digits(common), digits(common, binarize="threshold")
    assert found.spec.levels == found.stored_levels == 2
    for name in ("train", "test"):
        assert (getattr(found, name).images == (getattr(grey, name).images >= 8)).all()
    assert "binarised at the middle of the levels" in "\n".join(found.describe())
    assert found.pixels == "2 levels, binarize=threshold"
    assert thresholded(np.array([0, 127, 128, 255], np.uint8), 256).tolist() == [0, 0, 1, 1]


def test_fixed_binarisation_draws_train_and_test_apart(common: dict[str, Any]) -> None:
    class Grey(Made):
        name = "grey"

        def decode(self, writer: Writer) -> DataSpec:
            for split in ("train", "test"):
                writer.begin(split, 20, (1, 4, 4))
                writer.put(split, "x", np.full((20, 1, 4, 4), 128, np.uint8))
            return DataSpec((1, 4, 4))

    data = Grey(root=None, **{**common, "binarize": "fixed"}).load()
    drawn = {image.tobytes() for split in (data.train, data.test) for image in split.images}
    assert len(drawn) == 40


def test_dynamic_binarisation_keeps_the_grey_levels_stored(common: dict[str, Any]) -> None:
    data = digits(common, binarize="dynamic")
    assert (data.spec.levels, data.stored_levels) == (2, 17)
    assert data.train.images.max() == 16


def test_summary(common: dict[str, Any]) -> None:
    data = Made(root=None, **{**common, "validation": 5, "flip": True, "binarize": "dynamic"}).load()
    text = "\n".join(data.describe())
    assert "made: train 45, validation 5, test 5 images" in text
    assert "1x2x3" in text
    assert "256 levels, values found 0 to 204" in text
    assert "P(1) = x/255" in text
    assert "flipped" in text
    assert data.train.labels is not None
    a, b, c = np.bincount(data.train.labels)
    assert f"labels of train: a {a}, b {b}, c {c}" in text
    assert "labels of test: a 2, b 2, c 1" in text
    assert "validation none" in Made(root=None, **common).load().describe()[0]


def test_summary_of_many_classes_is_one_line() -> None:
    labels = np.repeat(np.arange(30), np.arange(1, 31))
    split = module.Split({"x": np.zeros((len(labels), 1, 1, 1), np.uint8), "label": labels})
    lines = histogram(DataSpec((1, 1, 1), classes=30), split.labels)
    assert lines == ["30 classes, from 1 (0) to 30 (29) images"]


def test_yaml_makes_the_source(
    common: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENTRAIN_DATA", str(tmp_path / "my data"))
    monkeypatch.setenv("GENTRAIN_CACHE", str(tmp_path / "cache"))
    made = {}
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for path in sorted((CONFIGS / "dataset").glob("[!_]*.yaml")):
            settings = compose("dataset/" + path.stem).dataset
            if path.stem in {"folder", "audio", "pairs", "domains", "captions"}:  # the user's own
                settings.root = str(tmp_path)
            made[path.stem] = instantiate(settings, _convert_="all")
    assert {"digits", "mnist", "folder"} <= set(made)
    assert all(isinstance(source, Source) and source.name == name for name, source in made.items())
    assert all(source.cache == tmp_path / "cache" for source in made.values())
    assert not any(source.flip for source in made.values())
    assert made["mnist"].root == tmp_path / "my data" / "mnist"
    data = made["digits"].load()
    assert (len(data.train), len(data.validation), len(data.test)) == (1350, 150, 297)


def test_cache_defaults_to_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GENTRAIN_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        source = instantiate(compose("dataset/digits").dataset)
    assert source.cache == tmp_path / ".cache" / "gentrain"


def test_torch_takes_the_arrays_without_a_warning(common: dict[str, Any]) -> None:
    data = digits(common)
    from gentrain.data.batches import Batches

    x = Batches(data, data.train, batch_size=4, seed=0, device=torch.device("cpu")).at(0).x
    assert x.shape == (4, 1, 8, 8)

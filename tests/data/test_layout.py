"""Splits and classes by the names of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from gentrain.data.archive import Archive, open_archive
from gentrain.data.layout import Layout, arrange


def arranged(root: Path, *names: str) -> Layout:
    """How empty files of these names are arranged."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    archive: Archive = open_archive(root)
    return arrange(archive)


@pytest.mark.parametrize("validation", ["val", "valid", "validation", "Val", "VALIDATION"])
@pytest.mark.parametrize(("train", "test"), [("train", "test"), ("Train", "TEST")])
def test_splits_of_the_user(tmp_path: Path, train: str, validation: str, test: str) -> None:
    names = [f"{split}/{kind}/0.png" for split in (train, validation, test) for kind in ("cat", "dog")]
    layout = arranged(tmp_path, *names)
    assert {split: [file.name for file in files] for split, files in layout.splits.items()} == {
        "train": names[:2],
        "validation": names[2:4],
        "test": names[4:],
    }
    assert layout.classes == {"cat": 0, "dog": 1}
    assert [layout.label(name) for name in names] == [0, 1] * 3
    assert layout.notes == []


def test_validation_without_test(tmp_path: Path) -> None:
    assert set(arranged(tmp_path, "train/0.png", "val/1.png").splits) == {"train", "validation"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["training/0.png", "testing/1.png"], "testing, training are taken for classes"),
        (["Valid/0.png", "invalid/1.png"], "Valid is taken for a class"),
        (["bus/0.png", "Train/1.png"], "Train is taken for a class"),
        (["train/val/0.png", "train/cat/1.png"], "val is taken for a class"),
    ],
)
def test_classes_that_are_called_like_splits(tmp_path: Path, names: list[str], words: str) -> None:
    layout = arranged(tmp_path, *names)
    assert len(layout.classes) == 2
    (note,) = layout.notes
    assert words in note
    assert "train/, validation/ and test/" in note


@pytest.mark.parametrize("ending", ["jfif", "JPE", "apng", "pbm", "pnm"])
def test_endings_of_images(tmp_path: Path, ending: str) -> None:
    assert set(arranged(tmp_path, "cat/0.png", f"dog/1.{ending}").classes) == {"cat", "dog"}


def test_folders_of_other_files_beside_images_without_classes(tmp_path: Path) -> None:
    assert not arranged(tmp_path, "0.png", "labels/0.txt").classes
    assert not arranged(tmp_path / "split", "train/0.png", "train/labels/0.txt", "meta/x.json").classes

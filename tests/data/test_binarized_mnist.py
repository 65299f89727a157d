"""The binarised MNIST, on files of a few lines in its format."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from running import Ended

from gentrain.data import binarized_mnist as module
from gentrain.data.binarized_mnist import BinarizedMNIST
from gentrain.errors import CorruptFile, UserError

COUNTS = {"train": 5, "validation": 3, "test": 4}


def lines(images: np.ndarray) -> bytes:
    return b"".join(b" ".join(b"%d" % v for v in image) + b"\n" for image in images.reshape(len(images), -1))


@pytest.fixture
def root(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    images = {split: rng.integers(0, 2, (n, 1, 28, 28), dtype=np.uint8) for split, n in COUNTS.items()}
    for split, (name, _) in module._FILES.items():
        (tmp_path / name).write_bytes(lines(images[split]))
    return tmp_path, images


def source(root: Path, **more: object) -> BinarizedMNIST:
    settings = {"root": str(root), "cache": str(root / "cache"), "verify": False, "binarize": "larochelle"}
    settings |= {"validation": 3, "split_seed": 0, "flip": False, "crop": 0}
    settings |= {"source": None, "paired": True, "background": None}
    settings |= {"stacked": False, "held_out": None, "license": None}
    return BinarizedMNIST(**settings | more)  # type: ignore[arg-type]


def test_the_parts_are_the_files(root: tuple[Path, dict[str, np.ndarray]]) -> None:
    folder, images = root
    data = source(folder).load()
    assert (data.spec.shape, data.spec.levels, data.spec.classes) == ((1, 28, 28), 2, None)
    assert data.binarize == "larochelle"
    for split in COUNTS:
        found = [row.tobytes() for row in getattr(data, split).parts["x"]]
        expected = [row.tobytes() for row in images[split]]
        # Training images are stored in an order of the program's own.
        assert (sorted(found) == sorted(expected)) if split == "train" else (found == expected)
    assert source(folder, validation=0).load().validation is None


def test_checksums_are_compared(
    root: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = root
    with pytest.raises(
        CorruptFile, match=r"binarized_mnist_train\.amat is damaged: expected SHA-256 ad693b29"
    ):
        source(folder, verify=True).load()
    known = {
        split: (name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
        for split, (name, _) in module._FILES.items()
    }
    monkeypatch.setattr(module, "_FILES", known)
    assert len(source(folder, verify=True).load().train) == COUNTS["train"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (b"0 1 0", "5 bytes"),
        (b"<html>" + b" " * 1562, "an HTML page"),
        (lines(np.full((1, 784), 2)), "other characters"),
        (lines(np.ones((1, 784), np.uint8)).replace(b" ", b","), "other characters"),
    ],
)
def test_damaged_files_are_named(
    root: tuple[Path, dict[str, np.ndarray]], content: bytes, found: str
) -> None:
    folder, _ = root
    (folder / "binarized_mnist_test.amat").write_bytes(content)
    with pytest.raises(CorruptFile, match=rf"binarized_mnist_test\.amat is damaged: .*{found}"):
        source(folder).load()


def test_missing_files_are_named_with_what_gets_them(
    root: tuple[Path, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = root
    (folder / "binarized_mnist_valid.amat").unlink()
    monkeypatch.setattr(module, "_SERVER", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"binarized_mnist_valid\.amat \(SHA-256 1de3d397.*curl"):
        source(folder).load()


def test_it_is_no_draw_of_mnist(
    gentrain: Callable[..., Ended], root: tuple[Path, dict[str, np.ndarray]]
) -> None:
    folder, _ = root
    here = ["dataset=binarized_mnist", f"dataset.root={folder}", "dataset.verify=false"]
    small = ["model=made", "model.hidden=[8]", "train.batch_size=4", "train.eval_every=2", "run_dir=run"]
    trained = gentrain("train", *here, *small, "train.steps=2")
    assert trained.status == 0, trained.err
    assert "binarize=larochelle" in trained.out
    refused = gentrain("train", *here, "dataset.binarize=dynamic", *small)
    assert refused.status == 2
    assert "dataset.binarize must be larochelle" in refused.one_line()
    other = gentrain("train", "dataset=digits", "dataset.binarize=larochelle", *small)
    assert other.status == 2
    assert "dataset=binarized_mnist" in other.one_line()

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets

from gentrain.contracts import DataSpec
from gentrain.data.fashion_mnist import FashionMNIST
from gentrain.errors import CorruptFile, UserError

Load = Callable[..., Any]
NAMES = [file.removesuffix(".gz") for file, _ in datasets.FashionMNIST.resources]
IMAGES = "train-images-idx3-ubyte"


def idx(values: np.ndarray) -> bytes:
    """An array as an IDX file."""
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 | values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def write(folder: Path, packed: bool = True, offset: int = 0) -> dict[str, bytes]:
    """Four small files; their bytes by name."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name in NAMES:
        count = 12 if name.startswith("train") else 5
        labels = (np.arange(count) + offset) % 10
        values = np.tile(labels[:, None, None], (1, 6, 7)) if "images" in name else labels
        content = gzip.compress(idx(values), mtime=0) if packed else idx(values)
        file = f"{name}.gz" if packed else name
        (folder / file).write_bytes(content)
        written[file] = content
    return written


@pytest.fixture
def load(tmp_path: Path, common: dict[str, Any], no_network: None) -> Load:
    """Load what lies in tmp_path / root."""

    def load(**settings: Any) -> Any:
        own = {"root": str(tmp_path / "root"), "verify": False, "image_size": None}
        return FashionMNIST(**{**common, **own, **settings}).load()

    return load


def entries(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "raw", ""])
def test_images_labels_and_names(load: Load, tmp_path: Path, place: str, packed: bool) -> None:
    write(tmp_path / "root" / place, packed)
    data = load()
    names = tuple(datasets.FashionMNIST.classes)
    assert data.spec == DataSpec((1, 6, 7), classes=10, label_names=names)
    assert (len(data.train), len(data.test)) == (12, 5)
    assert (data.train.images[:, 0, 0, 0] == data.train.labels).all()
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert "T-shirt/top 2" in "\n".join(data.describe())


def test_it_is_not_mistaken_for_mnist(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root" / "MNIST" / "raw")
    with pytest.raises(UserError, match="FashionMNIST is not in"):
        load()


def test_the_packed_files_have_checksums(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "root" / "FashionMNIST" / "raw"
    content = write(raw)
    with pytest.raises(CorruptFile) as error:
        load(verify=True)
    for words in (
        f"{raw / IMAGES}.gz",
        "MD5 8d4fb7e6c68d591d4c3dfef9ec88bf0d, found",
        "dataset.verify=false",
    ):
        assert words in str(error.value)
    assert entries(tmp_path) == []
    sums = [(file, hashlib.md5(content[file]).hexdigest()) for file in content]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", sums)
    data = load(verify=True)
    assert data.notes == ()
    # What torchvision unpacked beside them is not what was compared, and is not what is read.
    write(raw, packed=False, offset=3)
    assert load(verify=True).test.labels.tolist() == [0, 1, 2, 3, 4]


def test_unpacked_files_have_none_and_that_is_said(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root", packed=False)
    notes = load(verify=True).describe()[-4:]
    assert all("not compared with a checksum" in note for note in notes)
    assert str(tmp_path / "root" / IMAGES) in notes[0]
    assert load().notes == ()


def test_missing_files_without_network(load: Load, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load()
    assert time.monotonic() - start < 10
    text = str(error.value)
    into = tmp_path / "root" / "FashionMNIST" / "raw"
    url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
    for words in (
        f"FashionMNIST is not in {tmp_path / 'root'} (looked there, in FashionMNIST/raw and in raw)",
        f"no answer from {url.removeprefix('http://')}",
        *(f"{file} (MD5 {md5})" for file, md5 in datasets.FashionMNIST.resources),
        f"curl --create-dirs --output-dir '{into}' -O '{url}/train-images-idx3-ubyte.gz' -O '{url}/train-l",
        "dataset.root=",
        "dataset=digits",
    ):
        assert words in text
    assert not (tmp_path / "root").exists()
    shutil.rmtree(tmp_path / "cache")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda c: c[:-9], "one that ends too early"),
        (lambda c: b"<html>moved</html>", "an HTML page"),
        (lambda c: gzip.compress(gzip.decompress(c)[:-1]), "found 519 bytes"),
        (lambda c: b"", "header"),
    ],
)
def test_damaged_files(load: Load, tmp_path: Path, damage: Callable[[bytes], bytes], found: str) -> None:
    content = write(tmp_path / "root")
    path = tmp_path / "root" / f"{IMAGES}.gz"
    path.write_bytes(damage(content[path.name]))
    with pytest.raises(CorruptFile, match=found) as error:
        load()
    assert str(path) in str(error.value)
    assert entries(tmp_path) == []

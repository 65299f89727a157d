from __future__ import annotations

import gzip
import hashlib
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gentrain.contracts import DataSpec
from gentrain.data import download as module
from gentrain.data.mnist import MNIST
from gentrain.errors import CorruptFile, UserError

PARTS = {"train": 12, "t10k": 5}


def idx(values: np.ndarray) -> bytes:
    """An array as an IDX file."""
    header = struct.pack(f">{1 + values.ndim}I", 0x0800 | values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


def arrays() -> dict[str, np.ndarray]:
    """Four small arrays by file name."""
    made: dict[str, np.ndarray] = {}
    draw = np.random.default_rng(0)
    for prefix, count in PARTS.items():
        made[f"{prefix}-images-idx3-ubyte"] = draw.integers(0, 256, (count, 6, 7), dtype=np.uint8)
        made[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    return made


def write(folder: Path, packed: bool = False) -> None:
    folder.mkdir(parents=True)
    for name, values in arrays().items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values)))
        else:
            (folder / name).write_bytes(idx(values))


Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path, common: dict[str, Any], no_network: None) -> Load:
    """Load what lies in tmp_path / root."""

    def load(**settings: Any) -> Any:
        own = {"root": str(tmp_path / "root"), "verify": False, "image_size": None}
        return MNIST(**{**common, **own, **settings}).load()

    return load


def cached_arrays(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_dir() or path.suffix == ".npy"]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["MNIST/raw", "raw", ""])
def test_files_are_found_and_decoded_without_touching_root(
    load: Load, tmp_path: Path, place: str, packed: bool
) -> None:
    write(tmp_path / "root" / place, packed)
    before = sorted((tmp_path / "root").rglob("*"))
    data = load()
    assert sorted((tmp_path / "root").rglob("*")) == before
    assert data.spec == DataSpec((1, 6, 7), classes=10, label_names=tuple("0123456789"))
    made = arrays()
    assert (data.test.images[:, 0] == made["t10k-images-idx3-ubyte"]).all()
    assert (data.test.labels == made["t10k-labels-idx1-ubyte"]).all()
    train = {
        (image.tobytes(), int(label))
        for image, label in zip(data.train.images, data.train.labels, strict=True)
    }
    assert train == {(image.tobytes(), i % 10) for i, image in enumerate(made["train-images-idx3-ubyte"])}


def test_changed_file_is_decoded_again(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    load()
    changed = arrays()["t10k-labels-idx1-ubyte"][::-1]
    (tmp_path / "root" / "t10k-labels-idx1-ubyte").write_bytes(idx(changed))
    assert (load().test.labels == changed).all()


def test_image_size(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    data = load(image_size=12)
    assert data.spec.shape == (1, 12, 12)
    assert data.train.images.shape == (12, 1, 12, 12)
    difference = data.test.images.mean((1, 2, 3)) - arrays()["t10k-images-idx3-ubyte"].mean((1, 2))
    assert np.abs(difference).max() < 12
    with pytest.raises(ValueError, match=r"dataset\.image_size .*found 0"):
        load(image_size=0)


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
HTML = b"<!DOCTYPE html><html><body>404 Not Found</body></html>"


def gz(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda content: change(gzip.compress(content))


@pytest.mark.parametrize(
    ("name", "ending", "damage", "words"),
    [
        (IMAGES, "", lambda c: c[:-1], ["expected 520 bytes", "12 x 6 x 7", "found 519"]),
        (IMAGES, "", lambda c: c[: len(c) // 2], ["expected 520 bytes", "found 260"]),
        (IMAGES, "", lambda c: c + b"x", ["expected 520 bytes", "found more"]),
        (IMAGES, "", lambda c: c[:10], ["header of 16 bytes", "found 10 bytes"]),
        (IMAGES, "", lambda c: b"", ["header of 16 bytes", "found 0 bytes"]),
        (IMAGES, "", lambda c: HTML, ["found an HTML page"]),
        (IMAGES, "", gzip.compress, ["found a gzip file"]),
        (IMAGES, "", lambda c: bytes(100), ["magic number 2051", "found magic number 0"]),
        (IMAGES, "", lambda c: idx(np.zeros(5)), ["magic number 2051", "found magic number 2049"]),
        (IMAGES, "", lambda c: struct.pack(">4I", 2051, 0, 6, 7), ["at least one value", "0 x 6 x 7"]),
        (IMAGES, "", lambda c: struct.pack(">4I", 2051, *[2**32 - 1] * 3), ["found 16 bytes"]),
        (IMAGES, ".gz", gz(lambda c: c[:-9]), ["found one that ends too early"]),
        (IMAGES, ".gz", gz(lambda c: c[:40] + bytes([c[40] ^ 1]) + c[41:]), ["expected", "found"]),
        (IMAGES, ".gz", gz(lambda c: c[:-8] + bytes(4) + c[-4:]), ["CRC"]),
        (IMAGES, ".gz", lambda c: HTML, ["a gzip file", "found an HTML page"]),
        (IMAGES, ".gz", lambda c: c, ["a gzip file", "found unpacked IDX data"]),
        (IMAGES, ".gz", lambda c: gzip.compress(HTML), ["found an HTML page"]),
        (IMAGES, ".gz", lambda c: gzip.compress(c + bytes(10**6)), ["expected 520 bytes", "found more"]),
        (LABELS, "", lambda c: idx(np.zeros(4)), ["expected 5 labels", "found 4"]),
        (LABELS, "", lambda c: idx(np.full(5, 10)), ["labels 0 to 9", "found 10"]),
        ("t10k-images-idx3-ubyte", "", lambda c: idx(np.zeros((5, 7, 7))), ["expected 6x7", "found 7x7"]),
    ],
)
def test_damaged_files(
    load: Load, tmp_path: Path, name: str, ending: str, damage: Callable[[bytes], bytes], words: list[str]
) -> None:
    write(tmp_path / "root")
    path = tmp_path / "root" / name
    content = damage(path.read_bytes())
    path.unlink()
    path = path.with_name(name + ending)
    path.write_bytes(content)
    with pytest.raises(CorruptFile) as error:
        load()
    assert all(word in str(error.value) for word in [str(path), *words]), error.value
    assert cached_arrays(tmp_path) == []


def test_verify_compares_the_unpacked_content(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "root", packed=True)
    with pytest.raises(
        CorruptFile, match=r"MD5 6bbc9ace898e44ae57da46a324031adb, found .*dataset\.verify=false"
    ):
        load(verify=True)
    sums = {name: hashlib.md5(idx(values)).hexdigest() for name, values in arrays().items()}
    monkeypatch.setattr(MNIST, "md5", sums)
    assert len(load(verify=True).train) == 12


def test_missing_data_without_network_says_what_to_do(load: Load, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load()
    assert time.monotonic() - start < 10
    text = str(error.value)
    for words in (
        str(tmp_path / "root"),
        "train-images-idx3-ubyte.gz (MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873)",
        "t10k-labels-idx1-ubyte.gz (MD5 ec29112dd5afa0611ce80d1b7f02629c)",
        f"curl --create-dirs --output-dir '{tmp_path / 'root' / 'MNIST' / 'raw'}' -O 'https://",
        "dataset.root=",
        "dataset=digits",
    ):
        assert words in text
    assert "\n" not in text
    assert not (tmp_path / "root").exists()


def test_only_missing_files_are_asked_for(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    (tmp_path / "root" / LABELS).unlink()
    with pytest.raises(UserError, match=LABELS) as error:
        load()
    assert IMAGES not in str(error.value)


def test_network_that_never_answers_costs_seconds(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"no answer .* within 5 seconds"):
            load()
        assert 4 < time.monotonic() - start < 15


def test_missing_files_are_downloaded_by_torchvision(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a server of our own in the place of the mirrors."""
    import functools
    import http.server
    import threading

    import torchvision

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name)
    write(tmp_path / "served", packed=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = torchvision.datasets.MNIST
        monkeypatch.setattr(remote, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        sums = [
            (path.name, hashlib.md5(path.read_bytes()).hexdigest())
            for path in sorted((tmp_path / "served").iterdir())
        ]
        monkeypatch.setattr(remote, "resources", sums)
        assert len(load().train) == 12
        assert (tmp_path / "root" / "MNIST" / "raw" / IMAGES).is_file()

        # What arrives damaged is refused by its checksum, and by nobody else's.
        (tmp_path / "served" / f"{LABELS}.gz").write_bytes(b"x" * 30)
        with pytest.raises(UserError, match=f"cannot be downloaded.*{LABELS}"):
            load(root=str(tmp_path / "again"))
        server.shutdown()
    assert socket.getdefaulttimeout() is None
    assert module.any_answers([remote.mirrors[0]]) is False


def test_real_mnist(real_data: Path, load: Load) -> None:
    from torchvision import datasets

    data = load(root=str(real_data / "mnist"), verify=True, validation=5000)
    assert (len(data.train), len(data.validation), len(data.test)) == (55_000, 5000, 10_000)
    theirs = datasets.MNIST(real_data / "mnist", train=False)
    assert (data.test.images[:, 0] == theirs.data.numpy()).all()
    assert (data.test.labels == theirs.targets.numpy()).all()
    # Mean and standard deviation of the training pixels, as commonly published.
    pixels = np.concatenate([data.train.images, data.validation.images]) / 255
    assert round(float(pixels.mean()), 4) == 0.1307
    assert round(float(pixels.std()), 4) == 0.3081
    counts = np.bincount(data.train.labels) + np.bincount(data.validation.labels)
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]

from __future__ import annotations

import io
import os
import shutil
import struct
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gentrain.contracts import DataSpec
from gentrain.data.folder import Folder
from gentrain.errors import CorruptFile, UserError

Load = Callable[..., Any]
Make = Callable[[dict[str, Any]], Path]


def png(value: int, mode: str = "L", size: tuple[int, int] = (4, 3)) -> bytes:
    """An image of 4x3 (width x height) pixels of one value."""
    file = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


def cats_and_dogs(prefix: str = "", each: int = 6, start: int = 0) -> dict[str, bytes]:
    return {
        f"{prefix}{kind}/{i}.png": png(start + 20 * k + i)
        for k, kind in enumerate(("cat", "dog"))
        for i in range(each)
    }


@pytest.fixture(params=["folder", "zip"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Write files, given as {path: bytes}, as a folder or as a zip; a path that ends in / is a folder."""

    def make(files: dict[str, bytes]) -> Path:
        if request.param == "zip":
            root = tmp_path / "images.zip"
            with zipfile.ZipFile(root, "w") as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
            return root
        root = tmp_path / "images"
        shutil.rmtree(root, ignore_errors=True)
        for name, content in files.items():
            path = root / name
            if name.endswith("/"):
                path.mkdir(parents=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        root.mkdir(exist_ok=True)
        return root

    return make


@pytest.fixture
def load(common: dict[str, Any], tmp_path: Path) -> Load:
    def entries() -> list[Path]:
        cache = tmp_path / "cache"
        return [p for p in cache.iterdir() if p.is_dir()] if cache.exists() else []

    def load(root: Path | None, **settings: Any) -> Any:
        before = entries()
        own = {
            "root": root and str(root),
            "image_size": None,
            "channels": None,
            "on_error": "raise",
            "test_fraction": 0.25,
            "split_rule": 1,
        }
        try:
            return Folder(**{**common, **own, **settings}).load()
        except UserError:
            # Whatever was wrong, no entry and no half of one is left.
            assert entries() == before
            raise

    return load


def values(split: Any) -> list[int]:
    """The value of the first pixel of each image."""
    return [int(v) for v in split.images[:, 0, 0, 0]]


def refused(load: Load, root: Path, *words: str, **settings: Any) -> None:
    with pytest.raises(UserError) as error:
        load(root, **settings)
    assert all(word in str(error.value) for word in words), error.value


def test_class_folders_with_train_and_test(make: Make, load: Load) -> None:
    data = load(make(cats_and_dogs("train/") | cats_and_dogs("test/", 2, start=100)))
    assert data.spec == DataSpec((1, 3, 4), classes=2, label_names=("cat", "dog"))
    assert values(data.test) == [100, 101, 120, 121]  # sorted by name
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert sorted(zip(values(data.train), data.train.labels.tolist(), strict=True)) == [
        (20 * k + i, k) for k in range(2) for i in range(6)
    ]
    assert "labels of train: cat 6, dog 6" in data.describe()


def test_class_folders_without_test(make: Make, load: Load) -> None:
    root = make(cats_and_dogs())
    data = load(root)
    assert (len(data.train), len(data.test)) == (9, 3)
    everything = [*values(data.train), *values(data.test)]
    assert sorted(everything) == [*range(6), *range(20, 26)]
    labels = [*data.train.labels.tolist(), *data.test.labels.tolist()]
    assert [value // 20 for value in everything] == labels
    other = {seed: tuple(values(load(root, split_seed=seed).test)) for seed in range(4)}
    assert other[0] == tuple(values(data.test))
    assert len(set(other.values())) > 1


def test_flat_images_have_no_labels(make: Make, load: Load) -> None:
    data = load(make({f"{i}.png": png(i) for i in range(8)}))
    assert data.spec == DataSpec((1, 3, 4))
    assert data.train.labels is None
    assert sorted([*values(data.train), *values(data.test)]) == list(range(8))
    assert load(make({"train/a.png": png(1), "test/b.png": png(2)})).spec.classes is None


def test_train_alone_gives_its_own_test(make: Make, load: Load) -> None:
    data = load(make(cats_and_dogs("train/")))
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.spec.label_names == ("cat", "dog")


def test_names_with_spaces_and_other_alphabets(make: Make, load: Load) -> None:
    files = {
        f"{kind}/bild {i} (1),=.PNG": png(i) for kind in ("Kätzchen süß", "собака", "猫") for i in range(2)
    }
    data = load(make(files))
    assert data.spec.label_names == ("Kätzchen süß", "собака", "猫")


def test_other_files_do_not_count(make: Make, load: Load) -> None:
    clutter = [".DS_Store", "cat/.hidden.png", "__MACOSX/cat/._0.png", "cat/Thumbs.db", ".git/x.png"]
    clutter += [
        "cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg",
        "@eaDir/x.jpg",
        "lost+found/a/b/c.png",
        "cat/THUMBS.DB",
    ]
    clutter += ["$RECYCLE.BIN/x.png", "System Volume Information/x.png"]
    files = cats_and_dogs() | dict.fromkeys(clutter, b"x") | {"README.txt": b"x", "cat/labels.csv": b"x"}
    data = load(make(files))
    assert len(data.train) + len(data.test) == 12
    assert data.describe()[-1] == "ignored files that are not images: 1 .csv, 1 .txt"


def test_order_does_not_depend_on_the_order_of_writing(load: Load, tmp_path: Path) -> None:
    files = cats_and_dogs("train/") | cats_and_dogs("test/")
    got = []
    for name, items in (("a", list(files.items())), ("b", list(reversed(files.items())))):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for path, content in items:
                archive.writestr(path, content)
        data = load(tmp_path / f"{name}.zip")
        got.append([*values(data.train), *values(data.test)])
    assert got[0] == got[1]


def test_zip_of_one_folder(load: Load, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in (cats_and_dogs("my data/train/") | {"my data/README": b"x"}).items():
            archive.writestr(name, content)
    assert load(tmp_path / "a.zip").spec.label_names == ("cat", "dog")


def test_root_may_be_read_only_and_unchanged(make: Make, load: Load) -> None:
    root = make(cats_and_dogs())
    before = {p: p.stat().st_mtime_ns for p in [root, *root.rglob("*")]}
    load(root)
    assert {p: p.stat().st_mtime_ns for p in [root, *root.rglob("*")]} == before


def test_changed_files_are_decoded_again(make: Make, load: Load) -> None:
    load(make({"train/a.png": png(1), "test/b.png": png(2)}))
    time.sleep(0.02)
    assert values(load(make({"train/a.png": png(1), "test/b.png": png(3)})).test) == [3]


def test_colour_decides_the_channels(make: Make, load: Load) -> None:
    files = {f"train/{i}.png": png(i) for i in range(5)} | {"test/x.png": png(7, "RGB")}
    root = make(files)
    data = load(root)
    assert data.spec.shape == (3, 3, 4)
    assert (data.train.images == data.train.images[:, :1]).all()
    assert data.test.images[0, :, 0, 0].tolist() == [7, 0, 248]
    assert load(root, channels=1).spec.shape == (1, 3, 4)
    assert load(make({"a.png": png(1), "b.png": png(2)}), channels=3).spec.shape == (3, 3, 4)


@pytest.mark.parametrize(("size", "shape"), [(2, (1, 2, 2)), ([2, 5], (1, 2, 5)), (6, (1, 6, 6))])
def test_image_size(make: Make, load: Load, size: Any, shape: tuple[int, int, int]) -> None:
    root = make({"a.png": png(1), "b.png": png(2, size=(9, 7)), "c.png": png(3)})
    assert load(root, image_size=size).spec.shape == shape


@pytest.mark.parametrize("size", [0, 100_000, [28, 5000]])
def test_image_sizes_that_no_model_takes(make: Make, load: Load, size: Any) -> None:
    with pytest.raises(ValueError, match="of 1 to 4096 pixels"):
        load(make({"a.png": png(1)}), image_size=size)


def test_unequal_sizes_without_image_size(make: Make, load: Load) -> None:
    root = make({"train/a.png": png(1), "train/b.png": png(2, size=(9, 7)), "test/c.png": png(3)})
    refused(load, root, "b.png has 7x9", "3x4", "dataset.image_size=")


BROKEN = [b"", b"nothing", png(1)[:50]]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_image_is_named_or_skipped(make: Make, load: Load, broken: bytes) -> None:
    files = cats_and_dogs("train/") | cats_and_dogs("test/", 2, start=100)
    root = make(files | {"train/cat/3.png": broken, "test/dog/0.png": broken})
    refused(load, root, f"{root}/t", "0.png" if "empty" in str(root) else ".png", "dataset.on_error=skip")
    data = load(root, on_error="skip")
    assert sorted(zip(values(data.train), data.train.labels.tolist(), strict=True)) == [
        (20 * k + i, k) for k in range(2) for i in range(6) if (k, i) != (0, 3)
    ]
    assert values(data.test) == [100, 101, 121]
    assert data.test.labels.tolist() == [0, 0, 1]
    assert data.describe()[-1].startswith("skipped 2: ")
    assert "train/cat/3.png" in data.describe()[-1]
    # The note is part of the cache.
    assert data.describe() == load(root, on_error="skip").describe()


def test_nothing_left_after_skipping(make: Make, load: Load) -> None:
    root = make({"train/a.png": png(1), "test/b.png": b"broken"})
    refused(load, root, "none of the 1 images of test", "test/b.png", on_error="skip")


def test_link_to_nowhere_is_a_broken_image(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for i in range(3):
        (root / f"{i}.png").write_bytes(png(i))
    (root / "x.png").symlink_to(tmp_path / "nowhere")
    refused(load, root, "x.png", "No such file")
    assert len(load(root, on_error="skip").train) == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["holds no image"]),
        ({"notes.txt": b"x"}, ["holds no image", "notes.txt"]),
        ({"a.png": png(1)}, ["1 image", "at least 2"]),
        (cats_and_dogs("data/pets/"), ["data/pets/cat/0.png", "CLASS/IMAGE", "data/pets"]),
        (cats_and_dogs("train/pets/"), ["train/pets/cat/0.png", "CLASS/IMAGE"]),
        (cats_and_dogs() | {"cat/siamese/0.png": png(1)}, ["cat/siamese/0.png", "2 folders deep"]),
        (cats_and_dogs() | {"stray.png": png(1)}, ["stray.png", "beside class folders"]),
        (cats_and_dogs() | {"bird/": b""}, ["bird", "is empty"]),
        (cats_and_dogs("train/") | {"test/": b""}, ["test", "is empty"]),
        (
            cats_and_dogs("train/") | {"test/bird/0.png": png(1)},
            ["test/bird", "train/ does not have", "cat, dog"],
        ),
        (cats_and_dogs("train/") | {"test/0.png": png(1)}, ["class folders", "test/0.png"]),
        (cats_and_dogs("train/") | cats_and_dogs("extra/"), ["extra/cat/0.png", "beside train/"]),
        (cats_and_dogs("test/"), ["test has no train/"]),
        (cats_and_dogs("TRAIN/") | cats_and_dogs("Train/"), ["TRAIN/ and Train/", "train can be one folder"]),
        (
            cats_and_dogs("train/") | cats_and_dogs("val/") | cats_and_dogs("Validation/"),
            ["Validation/ and val/", "validation can be one folder"],
        ),
        (cats_and_dogs("test/") | cats_and_dogs("Val/"), ["has no train/"]),
        (cats_and_dogs("Train/") | {"Valid/bird/0.png": png(1)}, ["Valid/bird", "cat, dog"]),
        (cats_and_dogs() | {"bird/0.heic": b"x", "bird/1.txt": b"x"}, ["bird holds no image", "1 .heic"]),
        (cats_and_dogs("train/") | {"train/bird/0.heic": b"x"}, ["train/bird holds no image", "1 .heic"]),
    ],
)
def test_wrong_layouts(make: Make, load: Load, files: dict[str, bytes], words: list[str]) -> None:
    root = make(files)
    if root.suffix == ".zip" and "data/pets/cat/0.png" in files:
        words = ["pets/cat/0.png", "CLASS/IMAGE"]  # one folder around it all is taken off
    refused(load, root, str(root), *words)


def test_links_in_circles_end(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "0.png").write_bytes(png(0))
    (root / "cat" / "again").symlink_to(root)
    refused(load, root, "folders deep")


def test_root_that_is_missing(load: Load, tmp_path: Path) -> None:
    refused(load, tmp_path / "nowhere", "nowhere does not exist", "dataset.root=")
    with pytest.raises(UserError, match=r"dataset=folder needs dataset\.root="):
        load(None)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image_size", 0),
        ("image_size", [8]),
        ("image_size", [8, 0]),
        ("channels", 2),
        ("on_error", "ignore"),
        ("test_fraction", 0),
        ("test_fraction", 1.0),
    ],
)
def test_settings_out_of_range(load: Load, tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"dataset\.{setting} must .*found"):
        load(tmp_path, **{setting: value})


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../evil.png",
        "/etc/evil.png",
        "cat/../../evil.png",
        "C:/evil.png",
        "..\\evil.png",
        "cat\\..\\..\\evil.png",
    ],
)
def test_zip_with_paths_that_lead_out(load: Load, tmp_path: Path, name: str) -> None:
    root = zipped(tmp_path / "a.zip", cats_and_dogs() | {name: png(1)})
    refused(load, root, str(root), "is refused", "evil.png", "leads out of it", on_error="skip")
    assert not (tmp_path / "evil.png").exists()


def test_zip_bomb(load: Load, tmp_path: Path) -> None:
    root = zipped(
        tmp_path / "a.zip", cats_and_dogs() | {"cat/x.png": bytes(20_000_000)}, zipfile.ZIP_DEFLATED
    )
    assert root.stat().st_size < 50_000
    start = time.monotonic()
    refused(load, root, "cat/x.png would unpack", "20,000,000", "zip bomb", on_error="skip")
    assert time.monotonic() - start < 2


def test_zip_whose_members_share_their_bytes(load: Load, tmp_path: Path) -> None:
    """David Fifield's bomb (2019): many entries of the directory that point at one body."""
    root = zipped(tmp_path / "a.zip", {"0.png": png(1) + bytes(2000)})
    content = root.read_bytes()
    end = content.rindex(b"PK\5\6")
    (_, _, _, _, _, size, offset, _) = struct.unpack("<4s4H2LH", content[end : end + 22])
    entry = content[offset : offset + size]
    entries = b"".join(entry.replace(b"0.png", b"%d.png" % i) for i in range(9))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(entries), offset, 0)
    root.write_bytes(content[:offset] + entries + tail)
    assert len(zipfile.ZipFile(root).infolist()) == 9
    refused(load, root, "zip bomb")


def test_zip_of_many_flat_members(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gentrain.data import archive

    monkeypatch.setattr(archive, "_BOMB_TOTAL", 1 << 20)
    files = {f"{i}.png": bytes(3_000_000) for i in range(5)}
    refused(load, zipped(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED), "15,000,000", "zip bomb")


def test_image_that_is_a_bomb(make: Make, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    root = make(cats_and_dogs() | {"cat/x.png": png(1, size=(100, 100))})
    refused(load, root, "cat/x.png", "pixels")


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"PK\3\4 and no more"])
def test_file_that_is_no_zip(load: Load, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(CorruptFile, match=r"a\.zip is neither a folder nor a zip"):
        load(tmp_path / "a.zip")


def test_cut_and_flipped_zips(load: Load, tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole.zip", cats_and_dogs()).read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(whole[:-30])
    refused(load, cut, "cut.zip")
    body = whole.index(b"IDAT") + 6
    flipped = tmp_path / "flipped.zip"
    flipped.write_bytes(whole[:body] + bytes([whole[body] ^ 1]) + whole[body + 1 :])
    refused(load, flipped, "cat/0.png", "CRC")


def test_zip_that_holds_a_name_twice_or_a_secret(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "twice.zip"
    with zipfile.ZipFile(root, "w") as archive:
        archive.writestr("a.png", png(1))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", png(2))
    refused(load, root, "a.png twice")
    secret = bytearray(zipped(tmp_path / "secret.zip", cats_and_dogs()).read_bytes())
    secret[secret.index(b"PK\1\2") + 8] |= 1  # the flag of an encrypted member
    (tmp_path / "secret.zip").write_bytes(secret)
    refused(load, tmp_path / "secret.zip", "cat/0.png is encrypted")


def test_image_of_each_task_lands_in_its_place(load: Load, tmp_path: Path) -> None:
    """More images than one thread takes at a time, some of them in colour, some broken."""
    root = tmp_path / "images"
    for split, count in (("train", 300), ("test", 90)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            content = b"broken" if i % 50 == 7 else png(i % 256, "RGB" if i % 9 == 0 else "L")
            (root / split / f"{i:04}.png").write_bytes(content)
    data = load(root, on_error="skip")
    assert data.spec.shape == (3, 3, 4)
    assert values(data.test) == [i for i in range(90) if i % 50 != 7]
    assert sorted(values(data.train)) == sorted(i % 256 for i in range(300) if i % 50 != 7)


def test_error_ends_the_threads(load: Load, tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    for i in range(500):
        (root / f"{i:03}.png").write_bytes(png(1) if i else b"broken")
    before = threading.active_count()
    refused(load, root, "000.png")
    assert threading.active_count() == before


@pytest.mark.slow
def test_real_cifar10(real_data: Path, load: Load) -> None:
    root = real_data / "cifar10.zip"
    start = time.monotonic()
    data = load(root)
    if not os.environ.get("CI"):
        assert time.monotonic() - start < 60
    assert (len(data.train), len(data.test)) == (50_000, 1000)
    assert data.spec.shape == (3, 32, 32)
    assert data.spec.label_names is not None
    assert data.spec.label_names[0] == "airplane"
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    pixels = np.array(data.train.images, dtype=np.float32) / 255
    assert np.round(pixels.mean((0, 2, 3), dtype=np.float64), 4).tolist() == [0.4914, 0.4822, 0.4465]
    deviation = pixels.std((0, 2, 3), dtype=np.float64)
    assert np.abs(deviation - [0.24703, 0.24349, 0.26159]).max() < 2e-5

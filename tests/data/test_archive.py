"""Folders and zips that are damaged, odd or hostile: one line, never a hang."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gentrain.contracts import DataSpec
from gentrain.data import archive as module
from gentrain.data.archive import fingerprint, open_archive
from gentrain.data.pictures import read_images
from gentrain.errors import CorruptFile, UserError

SPEC = DataSpec((1, 4, 4))


def png(value: int = 9) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def zipped(path: Path, method: int = zipfile.ZIP_STORED, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_every_packing(tmp_path: Path, method: int) -> None:
    content = {"a": png(), "empty": b"", "flat": bytes(100_000), "noise": random.Random(0).randbytes(70_000)}
    with open_archive(zipped(tmp_path / "a.zip", method, **content)) as archive:
        assert {file.name: archive.read(file.name) for file in archive.files} == content


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_that_unpacks_to_more_than_it_says(tmp_path: Path, method: int) -> None:
    """What is unpacked is bounded by what was checked for a bomb."""
    root = zipped(tmp_path / "a.zip", method, x=bytes(3_000_000))
    content = root.read_bytes().replace(struct.pack("<I", 3_000_000), struct.pack("<I", 1000))
    root.write_bytes(content)
    member = zipfile.ZipFile(root).infolist()[0]
    with zipfile.ZipFile(root) as whole:
        start = member.header_offset + 30 + 1
        packed = content[start : start + member.compress_size]
        assert whole.infolist()[0].file_size == 1000
    assert len(module._unpacked(packed, member)) == 1000
    with open_archive(root) as archive, pytest.raises(OSError, match="damaged"):
        archive.read("x")


@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_flipped_bytes_of_a_zip_are_found_or_harmless(tmp_path: Path, method: int) -> None:
    files = {"a.png": png(), "b.png": png(77)}
    whole = zipped(tmp_path / "a.zip", method, **files).read_bytes()
    damaged = tmp_path / "damaged.zip"
    found = 0
    for position in range(len(whole)):
        content = bytearray(whole)
        content[position] ^= 0xFF
        damaged.write_bytes(content)
        try:
            with open_archive(damaged) as archive:
                for file in archive.files:
                    assert archive.read(file.name) in files.values()
        except (UserError, OSError):
            found += 1
    assert found > len(whole) / 2


def test_names_with_dots_and_double_slashes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("./", "./cat/", "./cat//0.png", "dog\\1.png"):
            file.writestr(name, b"x" if name.endswith("png") else b"")
    with open_archive(tmp_path / "a.zip") as archive:
        assert [file.name for file in archive.files] == ["cat/0.png", "dog/1.png"]
        assert archive.empty == []


def test_packing_that_is_unknown(tmp_path: Path) -> None:
    root = zipped(tmp_path / "a.zip", x=png())
    content = bytearray(root.read_bytes())
    content[content.index(b"PK\1\2") + 10] = 9  # Deflate64, of Windows' explorer
    root.write_bytes(content)
    with open_archive(root) as archive, pytest.raises(OSError, match=r"method 9, .* unpack the zip"):
        archive.read("x")


def special(folder: Path, kind: str) -> Path:
    """What is there, but is no file."""
    path = folder / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to nowhere":
        path.symlink_to(folder / "nowhere")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate((1 << 30) + 1)
    return path


@pytest.mark.parametrize("kind", ["pipe", "link to nowhere", "link to a device", "huge"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_what_is_no_image_file(tmp_path: Path, kind: str, as_folder: bool) -> None:
    path = special(tmp_path, kind)
    root = tmp_path if as_folder else path
    with pytest.raises(UserError, match=r"x\.png cannot be read: ") as error:
        read_images(root, SPEC)
    assert str(error.value).startswith(f"images={root}")
    with open_archive(tmp_path) as archive, pytest.raises(OSError, match=r"no file|No such file|at most"):
        archive.read("x.png")


def test_roots_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    with pytest.raises(UserError, match=r"dataset\.root=.*pipe\.zip is neither a folder nor a file"):
        fingerprint(tmp_path / "pipe.zip")
    with pytest.raises(CorruptFile, match=r"dataset\.root=.*pipe\.zip is neither .*a pipe or a device"):
        open_archive(tmp_path / "pipe.zip")
    with pytest.raises(UserError, match=r"dataset\.root=.* does not exist"):
        fingerprint(tmp_path / ("x" * 300))


def test_zips_that_images_names(tmp_path: Path) -> None:
    """The line names the key that was typed."""
    (tmp_path / "none.zip").write_bytes(b"no zip")
    os.mkfifo(tmp_path / "pipe.zip")
    zipped(tmp_path / "out.zip", **{"../x.png": png()})
    zipped(tmp_path / "good.zip", **{"a.png": png(), "b.png": png(3)})
    content = bytearray((tmp_path / "good.zip").read_bytes())
    content[content.index(b"IDAT") + 5] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    assert read_images(tmp_path / "good.zip", SPEC)[0][:, 0, 0, 0].tolist() == [9, 3]
    for name in ("none", "pipe", "out", "flipped"):
        with pytest.raises(UserError) as error:
            read_images(tmp_path / f"{name}.zip", SPEC)
        assert str(error.value).startswith(f"images={tmp_path}/{name}.zip")
        assert "dataset.root" not in str(error.value)

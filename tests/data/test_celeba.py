from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from gentrain.contracts import DataSpec
from gentrain.data.batches import Batches, in_order
from gentrain.data.celeba import CelebA
from gentrain.errors import CorruptFile, UserError

REMOTE = torchvision.datasets.CelebA
ZIP, ATTRIBUTES, PARTITION = "img_align_celeba.zip", "list_attr_celeba.txt", "list_eval_partition.txt"
NAMES = tuple(f"Name_{number}" for number in range(40))
COUNT = 20
PARTS = [0] * 11 + [1] * 5 + [2] * 4
VALUES = np.random.default_rng(1).random((COUNT, len(NAMES))) < 0.4
VALUES[:, :5] = np.arange(COUNT)[:, None] >> np.arange(5) & 1  # the first five tell the number of the image

Load = Callable[..., Any]


def face(number: int, size: tuple[int, int] = (178, 218)) -> bytes:
    """A JPEG of smooth colours, and one grey, as a few of CelebA's are."""
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 256, (9, 7, 3), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    (image.convert("L") if number == 1 else image).save(file, "JPEG", quality=90)
    return file.getvalue()


def name(number: int) -> str:
    return f"{number + 1:06}.jpg"


FACES = {name(number): face(number) for number in range(COUNT)}


def lists(values: np.ndarray = VALUES, parts: list[int] = PARTS) -> dict[str, bytes]:
    """The two lists, spaced as the real ones are."""
    rows = [
        f"{name(i)} " + " ".join(f"{1 if value else -1:2}" for value in row) for i, row in enumerate(values)
    ]
    partition = [f"{name(i)} {part}" for i, part in enumerate(parts)]
    return {
        ATTRIBUTES: ("\n".join([str(len(values)), " ".join(NAMES) + " ", *rows]) + "\n").encode(),
        PARTITION: ("\n".join(partition) + "\n").encode(),
    }


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, file in files.items():
            archive.writestr(path, file)
    return content.getvalue()


def write(root: Path, form: str = "zip") -> None:
    """In torchvision's layout, flat in the root, unpacked, or all in one zip."""
    files: dict[str, bytes] = lists()
    if form in ("folder", "both"):
        files |= {f"img_align_celeba/{path}": content for path, content in FACES.items()}
    if form in ("zip", "flat", "both"):
        files[ZIP] = zipped({f"img_align_celeba/{path}": content for path, content in FACES.items()})
    if form == "one zip":
        files |= {f"celeba/img_align_celeba/{path}": content for path, content in FACES.items()}
        root.parent.mkdir(parents=True, exist_ok=True)
        root.write_bytes(zipped(files))
        return
    folder = root if form == "flat" else root / "celeba"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


@pytest.fixture
def load(tmp_path: Path, common: dict[str, Any], no_network: None) -> Load:
    """Load what lies in tmp_path / root."""

    def load(**settings: Any) -> Any:
        own = {"root": str(tmp_path / "root"), "verify": False, "image_size": 16, "validation": 5}
        return CelebA(**{**common, **own, **settings}).load()

    return load


def entries(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]


def numbers(attributes: np.ndarray) -> list[int]:
    """Which images these attributes belong to."""
    return (attributes[:, :5] @ (1 << np.arange(5))).tolist()


def expected(number: int, size: int) -> np.ndarray:
    """The image as torchvision prepares it, uint8 [3, S, S]."""
    prepare = transforms.Compose(
        [transforms.CenterCrop(148), transforms.Resize(size), transforms.PILToTensor()]
    )
    image = Image.open(io.BytesIO(FACES[name(number)])).convert("RGB")
    return prepare(image).numpy()


@pytest.mark.parametrize("size", [16, 64, 148])
def test_faces_are_prepared_as_torchvision_does(load: Load, tmp_path: Path, size: int) -> None:
    write(tmp_path / "root")
    data = load(image_size=size)
    assert data.spec == DataSpec((3, size, size), levels=256, classes=None, attributes=NAMES)
    for split in (data.train, data.validation, data.test):
        for image, row, number in zip(split.images, split.attributes, numbers(split.attributes), strict=True):
            assert (image == expected(number, size)).all()
            assert (row == VALUES[number]).all()
            assert split.labels is None


@pytest.mark.parametrize("form", ["zip", "flat", "folder", "both", "one zip"])
def test_files_are_found_and_read_in_place(load: Load, tmp_path: Path, form: str) -> None:
    write(tmp_path / "root", form)
    before = sorted(tmp_path.rglob("*"))
    data = load()
    assert sorted(p for p in tmp_path.rglob("*") if "cache" not in str(p)) == before
    assert numbers(data.test.attributes) == [16, 17, 18, 19]
    assert sorted(numbers(data.train.attributes)) == list(range(11))
    assert (data.test.images[0] == expected(16, 16)).all()
    assert data.describe()[0] == "celeba: train 11, validation 5, test 4 images"


def test_the_zip_is_preferred_to_what_was_unpacked_of_it(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root", "both")
    for path in (tmp_path / "root" / "celeba" / "img_align_celeba").iterdir():
        path.write_bytes(b"half")
    assert len(load().test) == 4


def test_validation_is_the_official_part_first(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    held: dict[int, list[int]] = {}
    for size in (0, 2, 5, 8):
        data = load(validation=size)
        held[size] = numbers(data.validation.attributes) if data.validation else []
        assert sorted(held[size] + numbers(data.train.attributes)) == list(range(16))
    assert sorted(held[5]) == [11, 12, 13, 14, 15]
    assert held[5][:2] == held[2]
    assert held[8][:5] == held[5]
    assert held[5] != sorted(held[5]), "a smaller part is drawn, not cut off"
    assert load(validation=5, split_seed=3).validation is not None
    again = load(validation=5, split_seed=3).validation
    assert numbers(again.attributes) != held[5]
    assert sorted(numbers(again.attributes)) == sorted(held[5])
    assert len(entries(tmp_path)) == 2


def test_attributes_reach_the_batches(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    data = load()
    device = torch.device("cpu")
    trained = Batches(data, data.train, batch_size=4, seed=0, device=device).at(1)
    evaluated = next(iter(in_order(data, data.test, batch_size=4, device=device, seed=0)))
    for batch in (trained, evaluated):
        assert batch.label is None
        assert batch.attributes is not None
        assert (batch.attributes.dtype, batch.attributes.shape) == (torch.bool, (4, 40))
        for image, number in zip(batch.x.numpy(), numbers(batch.attributes.numpy()), strict=True):
            assert (image == expected(number, 16)).all()


def test_summary_tells_how_often_attributes_are_true(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    shares = 100 * VALUES[:11].mean(0)
    rare, common = shares.argmin(), shares.argmax()
    line = f"40, true of {shares[rare]:.1f} % ({NAMES[rare]}) to {shares[common]:.1f} % ({NAMES[common]})"
    assert f"attributes of train: {line} of the images" in load().describe()


def sums(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Let torchvision's table publish these files."""
    table = [
        (number, hashlib.md5(files[file]).hexdigest() if file in files else md5, file)
        for number, md5, file in REMOTE.file_list
    ]
    monkeypatch.setattr(REMOTE, "file_list", table)


def test_every_file_is_compared_with_its_checksum(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "root")
    folder = tmp_path / "root" / "celeba"
    with pytest.raises(CorruptFile, match="MD5 75e246fa4810816ffd6ee81facbd244c, found"):
        load(verify=True)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(files) == {ZIP, ATTRIBUTES, PARTITION}
    for file in files:
        sums(monkeypatch, {**files, file: b"another"})
        with pytest.raises(CorruptFile, match=rf"{file} is damaged: expected MD5 .*dataset\.verify=false"):
            load(verify=True)
    assert entries(tmp_path) == []
    sums(monkeypatch, files)
    assert len(load(verify=True).train) == 11
    # Unpacked images have no checksum, the lists beside them have one.
    write(tmp_path / "unpacked", "folder")
    assert len(load(verify=True, root=str(tmp_path / "unpacked")).train) == 11


def test_changed_image_is_decoded_again(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root", "folder")
    load()
    (tmp_path / "root" / "celeba" / "img_align_celeba" / name(16)).write_bytes(FACES[name(2)])
    assert (load().test.images[0] == expected(2, 16)).all()


def test_missing_files_without_network(load: Load, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError) as error:
        load()
    assert time.monotonic() - start < 10
    text = str(error.value)
    md5 = {file: md5 for _, md5, file in REMOTE.file_list}
    for words in (
        f"CelebA is not in {tmp_path / 'root'} (looked there and in celeba)",
        "no answer from drive.google.com within 5 seconds",
        *(f"{file} (MD5 {md5[file]})" for file in (ZIP, ATTRIBUTES, PARTITION)),
        f"Google Drive, often refuses; download {ZIP}, {ATTRIBUTES}, {PARTITION} with a browser",
        "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        f"place them in {tmp_path / 'root' / 'celeba'}",
        "dataset.root=",
        "dataset=digits",
    ):
        assert words in text, text
    assert "landmarks" not in text
    assert "\n" not in text
    assert not (tmp_path / "root").exists()


def test_only_missing_files_are_asked_for(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    (tmp_path / "root" / "celeba" / PARTITION).unlink()
    with pytest.raises(UserError, match=rf"Wanted: {PARTITION} \(MD5 \w+\)\. .* place it in"):
        load()


def test_host_that_refuses(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google Drive answers, gives the small files, and then a page about its quota."""
    files = {**lists(), ZIP: zipped({f"img_align_celeba/{path}": c for path, c in FACES.items()})}
    sums(monkeypatch, files)
    ids = {number: file for number, _, file in REMOTE.file_list}

    class Quota(Exception):
        pass

    def drive(refused: str) -> Callable[..., None]:
        def download(number: str, root: str, filename: str, md5: str) -> None:
            assert ids[number] == filename
            (Path(root) / filename).write_bytes(files[filename][:100])
            if filename == refused:
                raise Quota("Too many users have viewed or downloaded this file recently")
            (Path(root) / filename).write_bytes(files[filename])

        return download

    monkeypatch.setattr("gentrain.data.download.any_answers", lambda urls: True)
    google = "torchvision.datasets.utils.download_file_from_google_drive"
    monkeypatch.setattr(google, drive(PARTITION))
    with pytest.raises(UserError) as error:
        load(verify=True)
    for words in (
        f"cannot be downloaded: Google Drive gave no {PARTITION} (Too many users",
        f"Wanted: {PARTITION} (MD5 ",
        f"place it in {tmp_path / 'root' / 'celeba'}",
    ):
        assert words in str(error.value)
    assert sorted(path.name for path in (tmp_path / "root" / "celeba").iterdir()) == [ZIP, ATTRIBUTES]
    monkeypatch.setattr(google, drive("none"))
    assert len(load(verify=True).train) == 11


def test_downloading_without_gdown(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gdown", None)
    monkeypatch.setattr("gentrain.data.download.any_answers", lambda urls: True)
    with pytest.raises(UserError, match=r"'gdown' is required.*Wanted: .*place them in"):
        load()


def text(change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    return lambda content: "\n".join(change(content.decode().splitlines())).encode()


HTML = b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>"


@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        (ATTRIBUTES, lambda c: b"", ["a number, a line of names", "starts with b''"]),
        (ATTRIBUTES, lambda c: HTML, ["found an HTML page"]),
        (ATTRIBUTES, lambda c: c[:-20], ["in line 22"]),
        (ATTRIBUTES, text(lambda r: r[:-3]), ["20 images, as its first line says", "found 17"]),
        (ATTRIBUTES, text(lambda r: [*r[:-1], r[-2]]), [f"found b'{name(18)}' twice"]),
        (ATTRIBUTES, text(lambda r: [*r[:5], r[5].replace("-1", "0", 1), *r[6:]]), ["in line 6"]),
        (ATTRIBUTES, text(lambda r: [r[0], r[1] + "More", *r[2:]]), ["in line 3"]),
        (ATTRIBUTES, text(lambda r: [*r[:9], "", *r[10:]]), ["b'' in line 10"]),
        (ATTRIBUTES, lambda c: b"0\n" + b" ".join(n.encode() for n in NAMES), ["0 images"]),
        (PARTITION, lambda c: HTML, ["found an HTML page"]),
        (PARTITION, lambda c: c.replace(b" 2", b" 3"), ["in line 17"]),
        (
            PARTITION,
            text(lambda r: r[:-1]),
            ["20 images of list_attr_celeba.txt", f"found no {name(19)}"],
        ),
        (PARTITION, text(lambda r: [*r, "000099.jpg 0"]), ["found 000099.jpg in line 21"]),
        (PARTITION, lambda c: c[:-2], ["in line 20"]),
        (ZIP, lambda c: HTML, ["a zip of images", "found an HTML page"]),
        (ZIP, lambda c: c[: len(c) // 2], ["nor a zip that can be read"]),
        (
            ZIP,
            lambda c: c.replace(FACES[name(7)], bytes(len(FACES[name(7)]))),
            [name(7), "expected an image"],
        ),
        (
            ZIP,
            lambda c: zipped({f"x/{p}": f for p, f in FACES.items() if p != name(7)}),
            ["the 20 images that list_attr_celeba.txt lists", f"found 19, no {name(7)}"],
        ),
        (
            ZIP,
            lambda c: zipped({**FACES, name(7): face(7, (178, 178))}),
            [name(7), "178x178 pixels (the aligned faces have 178x218)"],
        ),
        (ZIP, lambda c: zipped({**FACES, name(7): FACES[name(7)][:900]}), [name(7), "expected an image"]),
        (ZIP, lambda c: zipped({**FACES, name(7): b""}), [name(7), "the file is empty"]),
    ],
)
def test_damaged_files(
    load: Load, tmp_path: Path, file: str, damage: Callable[[bytes], bytes], words: list[str]
) -> None:
    write(tmp_path / "root")
    path = tmp_path / "root" / "celeba" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptFile) as error:
        load()
    assert all(word in str(error.value) for word in [str(path), *words]), error.value
    assert entries(tmp_path) == []


def test_zip_without_the_lists(load: Load, tmp_path: Path) -> None:
    write(tmp_path / "root")
    path = tmp_path / "root" / "celeba" / ZIP
    with pytest.raises(CorruptFile, match=f"{ZIP} holds no {ATTRIBUTES}"):
        load(root=str(path))


def test_image_size_below_one(load: Load) -> None:
    with pytest.raises(ValueError, match=r"dataset\.image_size must be 1 to 4096, found 0"):
        load(image_size=0)


MEASURED = """
import json, sys
import torch, torchvision
from gentrain.data.celeba import CelebA
def peak():  # MiB; getrusage would count the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
before = peak()
data = CelebA(**json.loads(sys.argv[1])).load()
print(json.dumps({"before": before, "after": peak(), "train": len(data.train)}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_a_tenth_of_celeba_is_decoded_in_a_stream(tmp_path: Path, common: dict[str, Any]) -> None:
    """20,000 faces at 64x64: the decoded arrays of 246 MB never lie in memory at once."""
    count = 20_000
    folder = tmp_path / "root" / "celeba"
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).random((count, 40)) < 0.5
    for file, content in lists(values, [0] * 16_000 + [1] * 2000 + [2] * 2000).items():
        (folder / file).write_bytes(content)
    faces = list(FACES.values())
    with zipfile.ZipFile(folder / ZIP, "w") as archive:
        for number in range(count):
            archive.writestr(f"img_align_celeba/{name(number)}", faces[number % COUNT])
    own = {**common, "root": str(tmp_path / "root"), "verify": False, "image_size": 64, "validation": 2000}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, json.dumps(own)], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    print(f"{time.monotonic() - start:.1f} s", found)
    shutil.rmtree(tmp_path / "root")
    assert found["train"] == 16_000
    assert found["after"] < 1024, "MiB"
    assert found["after"] - found["before"] < 200, "MiB"

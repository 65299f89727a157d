"""CelebA: faces with 40 attributes.

[1] Z. Liu, P. Luo, X. Wang, X. Tang, "Deep Learning Face Attributes in the Wild", ICCV 2015,
    arXiv:1411.7766.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File, fingerprint, open_archive
from gentrain.data.decoding import MAX_SIDE, BadImage, decode_image
from gentrain.data.download import Downloaded
from gentrain.data.integrity import compare_file_md5, compare_md5, damaged, is_html, refuse_html
from gentrain.data.source import stamp
from gentrain.data.stream import decoded
from gentrain.data.writer import Writer
from gentrain.errors import CorruptFile

_WIDTH, _HEIGHT = 178, 218  # pixels of the aligned and cropped faces
_CROP = 148  # pixels of a side
_ZIP = "img_align_celeba.zip"
_ATTRIBUTES = "list_attr_celeba.txt"
_PARTITION = "list_eval_partition.txt"
_NAMES = (_ZIP, _ATTRIBUTES, _PARTITION)
_TRAIN, _VALID, _TEST = range(3)  # as list_eval_partition.txt numbers them
_PAGE = "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"


class CelebA(Downloaded):
    """202,599 aligned faces, 3xSxS, 256 levels, with 40 named attributes, true or false, and no labels [1].

    Of the 178x218 pixels the central 148x148 are resized (bilinear, antialiased), as torchvision's
    `CenterCrop(148)` and `Resize(S)` do, which is the usual preparation. The files are looked for in
    `root`/celeba (torchvision's layout) and in `root`: the images as img_align_celeba.zip, which is read
    in place, or as the folder img_align_celeba; `root` may also be one zip of all three.

    Test is the official test part (19,962). Everything else is train (182,637), of which the official
    validation part (19,867) is held out first: `validation` = 19867 gives the official three parts.

    Args:
        root: see above.
        verify: compare the lists and the zip with the published MD5; false for other data in this format.
            Of unpacked images there is no checksum; that each listed one is there is always asked.
        image_size: S, pixels of a side.

    Raises:
        ValueError: image_size below 1, or a setting of `Source` out of range.
    """

    name = "celeba"
    torchvision_name = "CelebA"
    places = "there and in celeba"

    def __init__(
        self,
        *,
        image_size: int,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if not 1 <= image_size <= MAX_SIDE:
            raise ValueError(f"dataset.image_size must be 1 to {MAX_SIDE}, found {image_size}")
        self.image_size = image_size

    def key(self) -> Mapping[str, Any]:
        files = self.files()
        stamps = [stamp(files[_ATTRIBUTES]), stamp(files[_PARTITION]), fingerprint(files[_ZIP])]
        return {"files": stamps, "verify": self.verify, "image_size": self.image_size}

    def decode(self, writer: Writer) -> DataSpec:
        files = self.files()
        names, row, attributes = _read_attributes(files[_ATTRIBUTES], self._list(files, _ATTRIBUTES))
        part = _read_partition(files[_PARTITION], self._list(files, _PARTITION), row)
        if files[_ZIP].is_file():
            refuse_html(files[_ZIP], "a zip of images")
            if self.verify and files[_ZIP] != self.root:
                compare_file_md5(files[_ZIP], self._md5()[_ZIP])
        with open_archive(files[_ZIP]) as archive:
            images = _find(archive, row)
            shape = (3, self.image_size, self.image_size)
            place = np.empty(len(part), dtype=np.int64)  # number of each image in its split, [N]
            valid, train, test = (np.flatnonzero(part == number) for number in (_VALID, _TRAIN, _TEST))
            for split, rows in (("train", np.concatenate([valid, train])), ("test", test)):
                place[rows] = np.arange(len(rows))
                writer.begin(split, len(rows), shape, held_out=len(valid) if split == "train" else 0)
                writer.put(split, "attributes", attributes[rows])
            with decoded(archive, images, self._face) as faces:
                for file, face in faces:
                    if not isinstance(face, np.ndarray):
                        raise damaged(archive.path(file.name), "an image", str(face))
                    i = row[_base(file)]
                    writer.put("test" if part[i] == _TEST else "train", "x", face, int(place[i]))
        return DataSpec(shape, levels=256, attributes=names)

    def _face(self, content: bytes) -> np.ndarray:
        """uint8 [3, S, S]."""
        image = decode_image(content, None, 3)  # [3, 218, 178]
        if image.shape[1:] != (_HEIGHT, _WIDTH):
            raise BadImage(
                f"{image.shape[2]}x{image.shape[1]} pixels (the aligned faces have {_WIDTH}x{_HEIGHT})"
            )
        top, left = (_HEIGHT - _CROP) // 2, (_WIDTH - _CROP) // 2
        centre = image[:, top : top + _CROP, left : left + _CROP].transpose(1, 2, 0)
        side = (self.image_size, self.image_size)
        resized = Image.fromarray(np.ascontiguousarray(centre)).resize(side, Image.Resampling.BILINEAR)
        return np.array(resized).transpose(2, 0, 1)

    def _list(self, files: Mapping[str, Path], name: str) -> bytes:
        """The content of one of the two lists, compared with its checksum."""
        path = files[name]
        if path.name == name:
            content = path.read_bytes()
        else:
            refuse_html(path, "a zip of images and lists")
            with open_archive(path) as archive:
                inside = [file.name for file in archive.files if file.name.rpartition("/")[2] == name]
                if not inside:
                    raise CorruptFile(f"{path} holds no {name}; expected {', '.join(_NAMES)} in {self.root}")
                content = archive.read(inside[0])
        if is_html(content):
            raise damaged(path, f"{name} of CelebA", "an HTML page")
        if self.verify:
            compare_md5(path, content, self._md5()[name])
        return content

    def look(self, root: Path) -> dict[str, Path]:
        if root.is_file():
            return dict.fromkeys(_NAMES, root)
        found: dict[str, Path] = {}
        for name in _NAMES:
            # The zip has a checksum; of the folder, torchvision's leftover beside it, nobody knows.
            forms = (name, name.removesuffix(".zip")) if name == _ZIP else (name,)
            places = [folder / form for form in forms for folder in (root / "celeba", root)]
            path = next((path for path in places if path.exists()), None)
            if path is not None:
                found[name] = path
        return found

    def missing(self, found: Mapping[str, Path]) -> dict[str, str]:
        if len(found) == len(_NAMES):
            return {}
        return {name: md5 for name, md5 in self._md5().items() if name not in found}

    def servers(self) -> list[str]:
        return ["https://drive.google.com/"]

    def fetch(self, root: Path, missing: Mapping[str, str]) -> None:
        from torchvision.datasets.utils import download_file_from_google_drive

        into = root / "celeba"
        into.mkdir(parents=True, exist_ok=True)
        ids = {name: number for number, _, name in self._remote().file_list}
        # Under its own name only when it is whole: an interrupted download is not to look like a file.
        with tempfile.TemporaryDirectory(dir=into, prefix=".download-") as folder:
            for name, md5 in missing.items():
                try:
                    download_file_from_google_drive(ids[name], folder, name, md5)
                except Exception as error:  # gdown has kinds of its own, and is not always there
                    raise OSError(f"Google Drive gave no {name} ({error})") from error
                (Path(folder) / name).rename(into / name)

    def by_hand(self, root: Path, missing: Mapping[str, str]) -> str:
        return (
            f"its host, Google Drive, often refuses; download {', '.join(missing)} with a browser from "
            f"{_PAGE} and place {'them' if len(missing) > 1 else 'it'} in {root / 'celeba'}, not unpacked"
        )

    def _md5(self) -> dict[str, str]:
        md5 = {name: md5 for _, md5, name in self._remote().file_list}
        return {name: md5[name] for name in _NAMES}

    def _remote(self) -> Any:
        import torchvision

        return torchvision.datasets.CelebA


def _read_attributes(path: Path, content: bytes) -> tuple[tuple[str, ...], dict[str, int], np.ndarray]:
    """The names (A of them), the row of each image by its name, and the attributes, bool [N, A].

    Line 1 is the number of images, line 2 the names; then an image and A times -1 or 1 in each.
    """
    expected = f"{_ATTRIBUTES} of CelebA (a number, a line of names, then an image and -1 or 1 per name)"
    lines = content.splitlines()
    try:
        count = int(lines[0])
        names = tuple(lines[1].decode("ascii").split())
    except (IndexError, ValueError) as error:
        raise damaged(path, expected, f"a file that starts with {content[:20]!r}") from error
    if count != len(lines) - 2:
        raise damaged(path, f"{count:,} images, as its first line says", f"{len(lines) - 2:,}")
    if not names or not count:
        raise damaged(path, expected, f"{len(names)} names and {count} images")
    row: dict[str, int] = {}
    attributes = np.empty((count, len(names)), dtype=np.bool_)
    for i, line in enumerate(lines[2:]):
        image, *values = line.split() or [b""]
        if len(values) != len(names) or not set(values) <= {b"-1", b"1"}:
            raise damaged(path, expected, f"{line[:40]!r} in line {i + 3}")
        if row.setdefault(image.decode("latin1"), i) != i:
            raise damaged(path, expected, f"{image!r} twice")
        attributes[i] = [value == b"1" for value in values]
    return names, row, attributes


def _read_partition(path: Path, content: bytes, row: Mapping[str, int]) -> np.ndarray:
    """The number of each image's part, int8 [N], in the rows of the other list."""
    expected = f"{_PARTITION} of CelebA (an image and {_TRAIN}, {_VALID} or {_TEST} in each line)"
    part = np.full(len(row), -1, dtype=np.int8)
    for number, line in enumerate(content.splitlines(), 1):
        fields = line.decode("latin1").split()
        if len(fields) != 2 or fields[1] not in ("0", "1", "2"):
            raise damaged(path, expected, f"{line[:40]!r} in line {number}")
        if fields[0] not in row:
            raise damaged(path, f"the images of {_ATTRIBUTES}", f"{fields[0]} in line {number}")
        part[row[fields[0]]] = int(fields[1])
    if part.min() < 0:
        absent = next(image for image, i in row.items() if part[i] < 0)
        raise damaged(path, f"the {len(row):,} images of {_ATTRIBUTES}", f"no {absent}")
    return part


def _find(archive: Archive, row: Mapping[str, int]) -> list[File]:
    """The files of the listed images, whatever folder they lie in; others do not count."""
    images = list({_base(file): file for file in archive.files if _base(file) in row}.values())
    if len(images) < len(row):
        absent = min(row.keys() - {_base(file) for file in images})
        raise damaged(
            archive.root, f"the {len(row):,} images that {_ATTRIBUTES} lists", f"{len(images):,}, no {absent}"
        )
    return images


def _base(file: File) -> str:
    """The name of a file without its folders."""
    return file.name.rpartition("/")[2]

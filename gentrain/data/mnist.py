"""MNIST, and what data sets in its format share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gentrain.contracts import DataSpec
from gentrain.data.decoding import MAX_SIDE
from gentrain.data.download import Downloaded
from gentrain.data.idx import read_idx
from gentrain.data.integrity import compare_file_md5
from gentrain.data.source import stamp
from gentrain.data.writer import Writer
from gentrain.errors import CorruptFile

_CHUNK = 4096  # images handled at a time
_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class MNIST(Downloaded):
    """60,000 training and 10,000 test digits, 1x28x28, 256 levels, 10 classes (LeCun et al. 1998).

    The files are looked for in `root`/MNIST/raw (torchvision's layout), `root`/raw and `root`,
    unpacked or .gz. Missing ones are downloaded by torchvision into `root`. A data set in the same
    format is a subclass with other class variables.

    Args:
        root: see above.
        verify: compare the files with the published MD5; false for other data in this format.
        image_size: pixels of a side to resize to (bicubic, antialiased), or None to leave as is.

    Raises:
        ValueError: image_size below 1, or a setting of `Source` out of range.
    """

    name = "mnist"
    torchvision_name = "MNIST"  # also the folder below root
    places = "there, in MNIST/raw and in raw"
    label_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    #: MD5 of the unpacked files, where it is known; torchvision knows those of the .gz files.
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(
        self,
        *,
        image_size: int | None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if image_size is not None and not 1 <= image_size <= MAX_SIDE:
            raise ValueError(f"dataset.image_size must be 1 to {MAX_SIDE} or null, found {image_size}")
        self.image_size = image_size

    def key(self) -> Mapping[str, Any]:
        files = [stamp(path) for path in self.files().values()]
        return {"files": files, "verify": self.verify, "image_size": self.image_size}

    def decode(self, writer: Writer) -> DataSpec:
        files = self.files()
        shape: tuple[int, int, int] | None = None
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
            images = self._read(files[images_name], images_name, 3, writer.notes)
            labels = self._read(files[labels_name], labels_name, 1, writer.notes)
            if len(images) != len(labels):
                raise CorruptFile(
                    f"{files[labels_name]} does not fit {files[images_name]}: expected {len(images):,} "
                    f"labels, one per image, found {len(labels):,}"
                )
            if labels.max() >= len(self.label_names):
                raise CorruptFile(
                    f"{files[labels_name]} is damaged: expected labels 0 to {len(self.label_names) - 1}, "
                    f"found {labels.max()}"
                )
            size = (self.image_size, self.image_size) if self.image_size else images.shape[1:]
            if shape is not None and shape[1:] != size:
                raise CorruptFile(
                    f"{files[images_name]} does not fit the training images: "
                    f"expected {shape[1]}x{shape[2]} pixels, found {size[0]}x{size[1]}"
                )
            shape = (1, size[0], size[1])
            writer.begin(split, len(images), shape)
            writer.put(split, "label", labels)
            for start in range(0, len(images), _CHUNK):
                rows = slice(start, min(start + _CHUNK, len(images)))
                writer.put(split, "x", _resize(images[rows, None], size), rows)
        assert shape is not None
        return DataSpec(shape=shape, levels=256, classes=len(self.label_names), label_names=self.label_names)

    def look(self, root: Path) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for name in _FILES:
            # What has a published checksum comes first; torchvision leaves both kinds.
            names = (name, f"{name}.gz") if name in self.md5 else (f"{name}.gz", name)
            folders = (root / self.torchvision_name / "raw", root / "raw", root)
            places = (folder / file for folder in folders for file in names)
            path = next((path for path in places if path.is_file()), None)
            if path is not None:
                found[name] = path
        return found

    def missing(self, found: Mapping[str, Path]) -> dict[str, str]:
        if len(found) == len(_FILES):
            return {}
        return {f"{name}.gz": md5 for name, md5 in self._packed_md5().items() if name not in found}

    def servers(self) -> list[str]:
        remote = self._remote()
        return [f"{mirror}{remote.resources[0][0]}" for mirror in remote.mirrors]

    def fetch(self, root: Path, missing: Mapping[str, str]) -> None:
        # Downloads what is missing or has another MD5 than the published one.
        self._remote()(root, download=True)

    def by_hand(self, root: Path, missing: Mapping[str, str]) -> str:
        into = root / self.torchvision_name / "raw"
        urls = " ".join(f"-O '{self._remote().mirrors[0]}{name}'" for name in missing)
        return f"curl --create-dirs --output-dir '{into}' {urls}"

    def _read(self, path: Path, name: str, dims: int, notes: list[str]) -> np.ndarray:
        """The file `name`, found at `path`, compared with a checksum if there is one for it."""
        values = read_idx(path, dims, self.md5.get(name) if self.verify else None)
        if self.verify and name not in self.md5:
            if path.suffix == ".gz":
                compare_file_md5(path, self._packed_md5()[name])
            else:
                notes.append(f"not compared with a checksum, which is published of {name}.gz alone: {path}")
        return values

    def _packed_md5(self) -> dict[str, str]:
        """MD5 of the .gz files, by their unpacked names."""
        return {file.removesuffix(".gz"): md5 for file, md5 in self._remote().resources}

    def _remote(self) -> Any:
        import torchvision

        return getattr(torchvision.datasets, self.torchvision_name)


def _resize(images: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """uint8 [n, 1, H, W] -> uint8 [n, 1, *size]."""
    if images.shape[2:] == tuple(size):
        return images
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    x = torch.from_numpy(images.copy())
    return resize(x, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).numpy()

"""The binarised MNIST of Larochelle & Murray 2011, which papers of likelihoods compare on."""

from __future__ import annotations

import http.client
import os
import shutil
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.download import Downloaded
from gentrain.data.integrity import compare_file_sha256, damaged, refuse_html
from gentrain.data.source import stamp
from gentrain.data.writer import Writer

_SIDE = 28
_LINE = 2 * _SIDE * _SIDE  # bytes: a digit and a space, or the line's end, for each pixel
_CHUNK = 2000  # images handled at a time
_SERVER = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
#: {split: (file, SHA-256)}
_FILES = {
    "train": (
        "binarized_mnist_train.amat",
        "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    ),
    "validation": (
        "binarized_mnist_valid.amat",
        "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    ),
    "test": (
        "binarized_mnist_test.amat",
        "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
    ),
}


class BinarizedMNIST(Downloaded):
    """50,000 training, 10,000 validation, 10,000 test digits, 1x28x28, drawn once to two levels; no labels.

    Not MNIST with `binarize=fixed`, which is another draw: figures of the two do not compare.

    Args:
        root: folder with the three .amat files, or where they are downloaded to.
        verify: compare the files with their SHA-256; false for other data in this format.
        binarize: "larochelle", as the pixels are.

    Raises:
        ValueError: another `binarize`, or a setting of `Source` out of range.
    """

    name = "binarized_mnist"
    torchvision_name: ClassVar[str] = "Binarized MNIST"
    places = "there"
    checksum = "SHA-256"

    def __init__(self, *, binarize: str, **settings: Any) -> None:
        if binarize != "larochelle":
            raise ValueError(
                f"dataset.binarize must be larochelle, found {binarize}: the file has two levels; other "
                "draws are those of dataset=mnist"
            )
        super().__init__(binarize="none", **settings)
        self.binarize = binarize

    def key(self) -> Mapping[str, Any]:
        return {"files": [stamp(path) for path in self.files().values()], "verify": self.verify}

    def decode(self, writer: Writer) -> DataSpec:
        files = self.files()
        for split, (name, sha256) in _FILES.items():
            path = files[name]
            refuse_html(path, "lines of 0 and 1")
            if self.verify:
                compare_file_sha256(path, sha256)
            size = path.stat().st_size
            if not size or size % _LINE:
                raise damaged(path, f"lines of {_LINE} bytes", f"{size:,} bytes")
            lines = np.memmap(path, np.uint8, "r", shape=(size // _LINE, _LINE))
            writer.begin(split, len(lines), (1, _SIDE, _SIDE))
            for start in range(0, len(lines), _CHUNK):
                rows = slice(start, min(start + _CHUNK, len(lines)))
                digits, between = lines[rows, ::2], lines[rows, 1::2]
                if not (np.isin(digits, (48, 49)).all() and np.isin(between, (32, 10)).all()):
                    raise damaged(path, "digits 0 and 1 with a space between", "other characters")
                writer.put(split, "x", (digits - 48).reshape(-1, 1, _SIDE, _SIDE), rows)
        return DataSpec(shape=(1, _SIDE, _SIDE), levels=2)

    def look(self, root: Path) -> dict[str, Path]:
        return {name: root / name for name, _ in _FILES.values() if (root / name).is_file()}

    def missing(self, found: Mapping[str, Path]) -> dict[str, str]:
        return {name: sha256 for name, sha256 in _FILES.values() if name not in found}

    def servers(self) -> list[str]:
        return [f"{_SERVER}/{_FILES['test'][0]}"]

    def fetch(self, root: Path, missing: Mapping[str, str]) -> None:
        root.mkdir(parents=True, exist_ok=True)
        for name in missing:
            partial = root / f"{name}.partial"
            with urllib.request.urlopen(f"{_SERVER}/{name}") as answer, partial.open("wb") as file:
                shutil.copyfileobj(answer, file)
                if answer.length:
                    raise http.client.IncompleteRead(b"", answer.length)
            os.replace(partial, root / name)

    def by_hand(self, root: Path, missing: Mapping[str, str]) -> str:
        urls = " ".join(f"-O '{_SERVER}/{name}'" for name in missing)
        return f"curl --create-dirs --output-dir '{root}' {urls}"

"""The handwritten digits that come with scikit-learn: real images without a download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.draws import permutation
from gentrain.data.image_source import ImageSource
from gentrain.data.writer import Writer

_TEST = 297


class Digits(ImageSource):
    """1,797 handwritten digits, 1x8x8, 17 levels, 10 classes (E. Alpaydin, C. Kaynak 1998).

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits" and have no
    official split: 297 images, drawn once with a fixed seed, are the test set here, 1,500 are train.
    `root` is not used.
    """

    name = "digits"

    def key(self) -> Mapping[str, Any]:
        return {"test": _TEST}

    def decode(self, writer: Writer) -> DataSpec:
        # Importing scikit-learn takes a second, which a cached start does not need.
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = bunch.images.astype(np.uint8)[:, None]  # [N, 1, 8, 8], 0 .. 16
        order = permutation(len(images), "digits test")
        for split, rows in (("test", order[:_TEST]), ("train", order[_TEST:])):
            writer.begin(split, len(rows), (1, 8, 8))
            writer.put(split, "x", images[rows])
            writer.put(split, "label", bunch.target[rows])
        return DataSpec(shape=(1, 8, 8), levels=17, classes=10, label_names=tuple("0123456789"))

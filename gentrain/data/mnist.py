"""MNIST, and what data sets in its format share."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from gentrain.contracts import DataSpec
from gentrain.data.cache import lock
from gentrain.data.idx import read_idx
from gentrain.data.randomness import seed_of
from gentrain.data.source import Source, stamp
from gentrain.data.writer import Writer
from gentrain.errors import CorruptFile, UserError

_NO_ANSWER = 5.0  # seconds until a server counts as out of reach
_CHUNK = 4096  # images handled at a time


class MNIST(Source):
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
    #: The class in torchvision.datasets that knows the mirrors; also the folder below root.
    torchvision_name: ClassVar[str] = "MNIST"
    label_names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    #: MD5 of the four unpacked files.
    md5: ClassVar[Mapping[str, str]] = {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(
        self,
        *,
        root: str,
        cache: str,
        validation: int | float,
        split_seed: int,
        binarize: str,
        flip: bool,
        verify: bool,
        image_size: int | None,
    ) -> None:
        super().__init__(
            root=root, cache=cache, validation=validation, split_seed=split_seed, binarize=binarize, flip=flip
        )
        if image_size is not None and image_size < 1:
            raise ValueError(f"dataset.image_size must be at least 1 or null, found {image_size}")
        self.verify = verify
        self.image_size = image_size

    def key(self) -> Mapping[str, Any]:
        files = [stamp(path) for path in self._files().values()]
        return {"files": files, "verify": self.verify, "image_size": self.image_size}

    def decode(self, writer: Writer) -> DataSpec:
        files = self._files()
        shape: tuple[int, int, int] | None = None
        for split, prefix in (("train", "train"), ("test", "t10k")):
            images_name, labels_name = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
            images = read_idx(files[images_name], 3, self.md5[images_name] if self.verify else None)
            labels = read_idx(files[labels_name], 1, self.md5[labels_name] if self.verify else None)
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
            writer.labels(split, labels)
            for start in range(0, len(images), _CHUNK):
                rows = slice(start, min(start + _CHUNK, len(images)))
                writer.images(split, rows, _resize(images[rows, None], size))
        assert shape is not None
        return DataSpec(shape=shape, levels=256, classes=len(self.label_names), label_names=self.label_names)

    def _files(self) -> dict[str, Path]:
        """The four files by name, downloaded if they are missing."""
        assert self.root is not None
        found = self._look()
        if len(found) < len(self.md5):
            # Several processes may start at once on one root.
            with lock(self.cache, f"download-{seed_of(str(self.root.resolve())):x}"):
                found = self._look()
                if len(found) < len(self.md5):
                    self._download(self.root)
                    found = self._look()
        return found

    def _look(self) -> dict[str, Path]:
        assert self.root is not None
        folders = [self.root / self.torchvision_name / "raw", self.root / "raw", self.root]
        found: dict[str, Path] = {}
        for name in self.md5:
            places = [folder / file for folder in folders for file in (name, f"{name}.gz")]
            path = next((path for path in places if path.is_file()), None)
            if path is not None:
                found[name] = path
        return found

    def _download(self, root: Path) -> None:
        import torchvision

        remote = getattr(torchvision.datasets, self.torchvision_name)
        try:
            urls = [f"{mirror}{remote.resources[0][0]}" for mirror in remote.mirrors]
            if not _any_answers(urls):
                raise OSError(f"no answer from {', '.join(remote.mirrors)} within {_NO_ANSWER:.0f} seconds")
            with _socket_timeout(2 * _NO_ANSWER):
                # Downloads what is missing or has another MD5 than the published one.
                remote(root, download=True)
            if len(self._look()) < len(self.md5):
                raise OSError("some files are still missing")
        except (RuntimeError, OSError) as error:
            into = root / self.torchvision_name / "raw"
            found = self._look()
            missing = {file: md5 for file, md5 in remote.resources if file.removesuffix(".gz") not in found}
            files = ", ".join(f"{file} (MD5 {md5})" for file, md5 in missing.items())
            names = ",".join(missing)
            fetch = f"curl --create-dirs --output-dir '{into}' -O '{remote.mirrors[0]}{{{names}}}'"
            raise UserError(
                f"{self.torchvision_name} is not in {root} (looked there, in {self.torchvision_name}/raw and "
                f"in raw) and cannot be downloaded: {error}. Wanted: {files}. To get them: {fetch}; or name "
                "the folder that has them with dataset.root=FOLDER; or use dataset=digits, which needs no "
                "download"
            ) from error


def _resize(images: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """uint8 [n, 1, H, W] -> uint8 [n, 1, *size]."""
    if images.shape[2:] == tuple(size):
        return images
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize

    x = torch.from_numpy(images.copy())
    return resize(x, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).numpy()


def _any_answers(urls: list[str]) -> bool:
    """Whether a server answers a HEAD request in time.

    In threads, because a name server that does not answer is not subject to any socket timeout.
    """
    answers: queue.Queue[bool] = queue.Queue()

    def ask(url: str) -> None:
        try:
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request, timeout=_NO_ANSWER):
                answers.put(True)
        except (OSError, ValueError, http.client.HTTPException):
            answers.put(False)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    deadline = time.monotonic() + _NO_ANSWER
    try:
        return any(answers.get(timeout=max(0.01, deadline - time.monotonic())) for _ in urls)
    except queue.Empty:
        return False


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

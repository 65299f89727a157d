"""CIFAR-10, read from its own files without trusting them.

They are Python pickles, which can run any code when they are loaded. Here nothing that a pickle names
is ever imported: a few stand-ins take the place of NumPy's classes and keep the raw bytes.

[1] A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", technical report, 2009.
"""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.download import Downloaded
from gentrain.data.integrity import compare_md5, damaged, is_html, refuse_html
from gentrain.data.source import stamp
from gentrain.data.writer import Writer

_SHAPE = (3, 32, 32)
_META = "batches.meta"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = "test_batch"
_NAMES = (_META, *_TRAIN, _TEST)
_CHUNK = 1 << 20  # bytes read at a time
_LARGEST = 256 << 20  # bytes of one file; the real ones have 31 MB


class CIFAR10(Downloaded):
    """50,000 training and 10,000 test photographs, 3x32x32, 256 levels, 10 classes [1].

    The files are looked for in `root`/cifar-10-batches-py (torchvision's layout) and in `root`, else in
    `root`/cifar-10-python.tar.gz, which is read in place; `root` may also be that archive. It is
    downloaded into `root` where all are missing.

    Args:
        root: see above.
        verify: compare the files with the published MD5; false for other data in this format.

    Raises:
        ValueError: a setting of `Source` out of range.
    """

    name = "cifar10"
    torchvision_name = "CIFAR10"
    folder: ClassVar[str] = "cifar-10-batches-py"
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    places = f"there, in {folder} and for {archive}"

    def key(self) -> Mapping[str, Any]:
        files = [stamp(path) for path in dict.fromkeys(self.files().values())]
        return {"files": files, "verify": self.verify}

    def decode(self, writer: Writer) -> DataSpec:
        files = self.files()
        label_names: tuple[str, ...] = ()
        batches: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, path, content in _contents(files):
            if self.verify:
                compare_md5(path, content, self._md5()[name])
            if name == _META:
                label_names = _label_names(path, content)
            else:
                batches[name] = _batch(path, content)
        for name, (_, labels) in batches.items():
            if not 0 <= labels.min() <= labels.max() < len(label_names):
                low, high = labels.min(), labels.max()
                expected = f"labels 0 to {len(label_names) - 1}, as {_META} names them"
                raise damaged(_named(files[name], name), expected, f"{low} to {high}")
        for split, members in (("train", _TRAIN), ("test", (_TEST,))):
            writer.begin(split, sum(len(batches[name][0]) for name in members), _SHAPE)
            writer.put(split, "label", np.concatenate([batches[name][1] for name in members]))
            start = 0
            for name in members:
                images = batches[name][0]
                writer.put(split, "x", images, slice(start, start + len(images)))
                start += len(images)
        return DataSpec(_SHAPE, levels=256, classes=len(label_names), label_names=label_names)

    def look(self, root: Path) -> dict[str, Path]:
        for folder in (root / self.folder, root):
            if all((folder / name).is_file() for name in _NAMES):
                return {name: folder / name for name in _NAMES}
        for archive in (root / self.archive, root):
            if archive.is_file():
                return dict.fromkeys(_NAMES, archive)
        return {}

    def missing(self, found: Mapping[str, Path]) -> dict[str, str]:
        return {} if found else {self.archive: self._remote().tgz_md5}

    def servers(self) -> list[str]:
        return [self._remote().url]

    def fetch(self, root: Path, missing: Mapping[str, str]) -> None:
        from torchvision.datasets.utils import download_url

        root.mkdir(parents=True, exist_ok=True)
        # Under its own name only when it is whole: an interrupted download is not to look like a file.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            for name, md5 in missing.items():
                download_url(self._remote().url, folder, name, md5)
                (Path(folder) / name).rename(root / name)

    def by_hand(self, root: Path, missing: Mapping[str, str]) -> str:
        return f"curl --create-dirs --output-dir '{root}' -O '{self._remote().url}'"

    def _md5(self) -> dict[str, str]:
        """MD5 of the seven files by name."""
        remote = self._remote()
        return {**dict(remote.train_list), **dict(remote.test_list), _META: remote.meta["md5"]}

    def _remote(self) -> Any:
        import torchvision

        return torchvision.datasets.CIFAR10


def _contents(files: Mapping[str, Path]) -> Iterator[tuple[str, str, bytes]]:
    """(name, what to call it in a message, content) of each file, in any order.

    Raises:
        CorruptFile: one is missing from the archive or too large, or the archive is damaged.
    """
    archive = files[_META]
    if archive.name == _META:
        for name, path in files.items():
            if path.stat().st_size > _LARGEST:
                raise damaged(path, f"at most {_LARGEST:,} bytes", f"{path.stat().st_size:,}")
            yield name, str(path), path.read_bytes()
        return
    expected = "a gzip archive of CIFAR-10's Python version"
    refuse_html(archive, expected)
    wanted = set(files)
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream) as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                if name not in wanted or not member.isfile():
                    continue
                called = _named(archive, name)
                if member.size > _LARGEST:
                    raise damaged(called, f"at most {_LARGEST:,} bytes", f"{member.size:,}")
                opened = tar.extractfile(member)
                assert opened is not None
                wanted.discard(name)
                yield name, called, opened.read()
            while stream.read(_CHUNK):
                pass  # the checksum of the whole lies at its end
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise damaged(archive, expected, str(error)) from error
    if wanted:
        raise damaged(archive, f"the files {', '.join(_NAMES)}", f"no {', '.join(sorted(wanted))}")


def _named(path: Path, name: str) -> str:
    """What to call one of the files, in a folder or in an archive, in a message."""
    return str(path if path.name == name else path / name)


def _label_names(path: str, content: bytes) -> tuple[str, ...]:
    expected = "a pickle with a list of names under label_names"
    names = _unpickled(path, content, expected).get("label_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise damaged(path, expected, "something else")
    return tuple(names)


def _batch(path: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 3, 32, 32] and int64 [N]."""
    size = int(np.prod(_SHAPE))
    expected = f"a pickle with data, uint8 [N, {size}], and labels, N integers"
    entry = _unpickled(path, content, expected)
    data, labels = entry.get("data"), entry.get("labels")
    if not isinstance(data, _Array) or data.dtype != "u1" or data.fortran:
        raise damaged(path, expected, "no array of bytes in rows under data")
    if len(data.shape) != 2 or data.shape[1] != size or len(data.raw) != data.shape[0] * size:
        shape = " x ".join(map(str, data.shape))
        raise damaged(path, expected, f"{len(data.raw):,} bytes for {shape} values")
    if not data.raw:
        raise damaged(path, expected, "no image")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise damaged(path, expected, "no list of integers under labels")
    if len(labels) != data.shape[0]:
        raise damaged(path, f"{data.shape[0]:,} labels, one per image", f"{len(labels):,}")
    images = np.frombuffer(data.raw, dtype=np.uint8).reshape(-1, *_SHAPE)
    return images, np.array(labels, dtype=np.int64)


# Safe unpickling


class _Dtype:
    """In the place of numpy.dtype: the code alone, e.g. u1."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which bytes do not have."""


class _Array:
    """In the place of a numpy array, and of what makes one: shape, type and raw bytes."""

    shape: tuple[int, ...] = ()
    dtype = ""
    fortran = False
    raw = b""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Dtype, bool, bytes | str]) -> None:
        _, shape, dtype, self.fortran, raw = state
        self.shape = tuple(int(side) for side in shape)
        self.dtype = dtype.code
        # Python 2 wrote its bytes as text.
        self.raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)


#: All that a pickle may name, and what it gets.
_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    # So Python 3 writes bytes in protocol 2.
    ("_codecs", "encode"): str.encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"the name {module}.{name}, which has no business there") from None


def _unpickled(path: str, content: bytes, expected: str) -> dict[str, Any]:
    """The dictionary in a pickle; of arrays it holds `_Array`s.

    Raises:
        CorruptFile: the content is anything else.
    """
    if is_html(content):
        raise damaged(path, expected, "an HTML page")
    try:
        entry = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # broken pickles raise nearly every kind
        raise damaged(path, expected, str(error) or type(error).__name__) from error
    if not isinstance(entry, dict):
        raise damaged(path, expected, "something else")
    return entry

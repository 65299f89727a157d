"""The checkpoint file: written whole or not at all, checked by its SHA-256, loaded without pickled code.

The file is torch.save's zip. The zip's comment holds the SHA-256 of everything before it: torch.load
notices almost no flipped byte.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from gentrain import __version__
from gentrain.errors import CorruptFile, Fault, UserError
from gentrain.files import LEFTOVER, replacing, sync

#: Counts changes of what the file holds; older formats go on loading.
FORMAT = 1
#: The first version that reads each format, for the message to who has an older one.
NEEDS = {1: "0.1.0"}

_MARK = b"gentrain-sha256:"
_COMMENT = len(_MARK) + 64


class _HashingFile(io.RawIOBase):
    """Passes writes on to a file and hashes them: the archive is never held in memory twice."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file
        self.tail = b""
        self.written = 0
        self._hash = hashlib.sha256()

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._file.write(data)
        # The last two bytes are the length of the zip's comment, 0 until we add one: kept back.
        ready = self.tail + data
        self._hash.update(ready[:-2])
        self.tail = ready[-2:]
        self.written += len(data)
        return len(data)

    def digest(self) -> bytes:
        return self._hash.hexdigest().encode()


def check_plain(value: Any, where: str = "checkpoint") -> None:
    """Refuse what `torch.load(weights_only=True)` could not read back.

    Raises:
        TypeError: names the place.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_plain(key, where)
            check_plain(inner, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            check_plain(inner, f"{where}[{i}]")
    elif value is not None and not isinstance(value, (bool, int, float, str, Tensor)):
        raise TypeError(f"{where} is a {type(value).__name__}; a checkpoint holds plain values and tensors")


def bytes_of(value: Any) -> int:
    """Bytes of all tensors inside `value`: what a checkpoint of it takes, nearly."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(bytes_of(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return sum(bytes_of(inner) for inner in value)
    return 0


def save(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`: to a temporary file in the same folder, fsynced, renamed.

    A file that was at `path` stays whole until the rename; a failed write leaves nothing behind.

    Raises:
        Fault: the disk is full or not writable; names the path and the bytes needed.
        TypeError: `state` holds more than plain values and tensors.
    """
    state = {"format": FORMAT, "gentrain": __version__, **state}
    check_plain(state)
    needed = bytes_of(state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with replacing(path) as temporary, open(temporary, "wb") as file:
            hashing = _HashingFile(file)
            torch.save(state, hashing)  # type: ignore[arg-type]
            if hashing.tail != b"\0\0":
                raise Fault(f"{path}: torch.save did not end the archive as expected; nothing was written")
            file.seek(-2, os.SEEK_END)
            file.write(struct.pack("<H", _COMMENT) + _MARK + hashing.digest())
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(OSError):  # not every system syncs a folder
            sync(path.parent)
    except (OSError, RuntimeError) as error:
        # torch wraps an OSError of the file in a RuntimeError of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise Fault(
            f"cannot save {path}: {cause.strerror or cause}; {needed / 2**20:.1f} MiB needed, "
            f"{free_space(path.parent)}; the checkpoints before it are intact"
        ) from error


def free_space(folder: Path) -> str:
    """`"12.3 MiB free"`."""
    try:
        return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free"
    except OSError:
        return "free space unknown"


def link(path: Path, name: Path) -> None:
    """Make `name` the same file as `path`, replacing it at once; copies where links do not work."""
    with replacing(name) as temporary:
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def clean_leftovers(folder: Path) -> None:
    """Remove what a write that was killed left behind."""
    for leftover in folder.glob(f".*{LEFTOVER}"):
        leftover.unlink(missing_ok=True)


def verify(path: Path) -> None:
    """Check the file's SHA-256.

    Raises:
        UserError: there is no such file.
        CorruptFile: it is truncated, altered, or not a checkpoint at all.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}")
    size = path.stat().st_size
    kept = size - _COMMENT - 2
    with open(path, "rb") as file:
        start = file.read(4)
        if kept <= 0:
            raise CorruptFile(f"{path} is corrupt: {size} bytes are too few for a checkpoint")
        if start != b"PK\x03\x04":
            raise CorruptFile(f"{path} is corrupt or not a checkpoint: it begins with {start!r}")
        file.seek(kept)
        tail = file.read()
        if tail[:2] != struct.pack("<H", _COMMENT) or not tail[2:].startswith(_MARK):
            raise CorruptFile(f"{path} is corrupt or not a gentrain checkpoint: its SHA-256 is missing")
        file.seek(0)
        digest = hashlib.sha256()
        left = kept
        while left:
            block = file.read(min(left, 1 << 22))
            digest.update(block)
            left -= len(block)
    if digest.hexdigest().encode() != tail[2 + len(_MARK) :]:
        raise CorruptFile(f"{path} is corrupt: its content does not match the SHA-256 stored in it")


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What `save` wrote.

    Raises:
        UserError: no such file, a newer format, or more in it than plain values and tensors.
        CorruptFile: see `verify`.
    """
    verify(path)
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} is refused: it holds more than plain values and tensors, and could run code"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CorruptFile(f"{path} is corrupt: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not isinstance(state.get("format"), int) or "config" not in state:
        raise UserError(f"{path} is not a gentrain checkpoint")
    if state["format"] > FORMAT:
        raise UserError(
            f"{path} has format {state['format']}, this gentrain {__version__} reads up to {FORMAT}: "
            f"it needs gentrain >= {state.get('needs', state.get('gentrain'))}"
        )
    return state


def check_same_model(
    model: torch.nn.Module, name: str, state: dict[str, Any], where: str = "the checkpoint"
) -> None:
    """Hold the weights in `state` against `model`'s, which the user knows as `name`.

    Raises:
        UserError: says which model the checkpoint is of, and the first keys that differ.
    """
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    other = {name: tuple(value.shape) for name, value in state["model"].items()}
    if own == other:
        return
    differ = [
        f"{key} ({describe(own.get(key))} here, {describe(other.get(key))} there)"
        for key in [*own, *(n for n in other if n not in own)]
        if own.get(key) != other.get(key)
    ]
    there = state.get("names", {}).get("model", "model")
    what = f"is a {there}, not a {name}" if there != name else f"is a {there} of another size or other data"
    raise UserError(f"{where} {what}: {len(differ)} weights differ, first {', '.join(differ[:3])}")


def describe(shape: tuple[int, ...] | None) -> str:
    """A weight's shape in words."""
    return "none" if shape is None else str(list(shape))

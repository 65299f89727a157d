"""The cache of decoded arrays: built once, by one process, complete or not there at all.

An entry is a folder of .npy files with an `entry.json`, named after a hash of what made it. It is
written to a temporary folder, fsynced, and renamed; a lock keeps a second builder waiting. The lock
belongs to the operating system, so that of a killed process is free at once.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from gentrain.errors import Fault, GentrainError, UserError
from gentrain.files import mistaken, sync

log = logging.getLogger(__name__)

#: Version of the decoders and of the entries' layout: raise it when either changes.
FORMAT = 1
_BUILDING = ".building-"


def default_place() -> str:
    """The folder of the cache where none is named: GENTRAIN_CACHE, or ~/.cache/gentrain."""
    return os.environ.get("GENTRAIN_CACHE") or "~/.cache/gentrain"


@dataclass(frozen=True)
class Entry:
    """One complete entry: memory-mapped arrays (read-only) and what the builder noted."""

    arrays: Mapping[str, np.ndarray]
    info: Mapping[str, Any]


class Builder:
    """Takes the arrays of an entry that is being built."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.info: dict[str, Any] = {}
        self._arrays: dict[str, np.memmap[Any, Any]] = {}

    def create(self, name: str, shape: tuple[int, ...], dtype: type) -> np.memmap[Any, Any]:
        """A writable memory-mapped array of the entry, for the caller to fill.

        Raises:
            Fault: the disk has no room for it, with the bytes needed and free.
        """
        path = self.folder / f"{name}.npy"
        need = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(self.folder).free
        if need > free:
            raise _disk_full(self.folder.parent, need, free)
        array: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # A page of a sparse file that finds the disk full would kill the process with SIGBUS.
            with path.open("r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
                except OSError as error:
                    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                        raise _disk_full(self.folder.parent, need, free) from error
        self._arrays[name] = array
        return array

    def add(self, name: str, array: np.ndarray) -> None:
        """Store a whole array."""
        self.create(name, array.shape, array.dtype.type)[...] = array

    def discard(self, name: str) -> None:
        """Remove an array again; its memory map stays readable while somebody holds it."""
        del self._arrays[name]
        (self.folder / f"{name}.npy").unlink()

    def release(self) -> None:
        """Give the pages of all arrays back: what is written stays, and is no longer this process's memory.

        Without it a process that fills an array seems to grow by the size of the array.
        """
        for array in self._arrays.values():
            release(array)

    def finish(self) -> None:
        """Write everything through to the disk, `entry.json` last."""
        for name, array in self._arrays.items():
            array.flush()
            sync(self.folder / f"{name}.npy")
        described = {name: [list(a.shape), a.dtype.str] for name, a in self._arrays.items()}
        path = self.folder / "entry.json"
        path.write_text(json.dumps({"arrays": described, "info": self.info}), encoding="utf-8")
        sync(path)
        sync(self.folder)
        self._arrays.clear()


def release(array: np.ndarray) -> None:
    """Give back the pages of a memory map of a file, which stays open; nothing of any other array."""
    pages: Any = array
    while isinstance(pages, np.ndarray):
        pages = pages.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)


def cached(cache: Path, name: str, key: Mapping[str, Any], build: Callable[[Builder], None]) -> Entry:
    """The entry made of `key`: opened where it is complete, else built.

    Of several processes that ask at once, one builds and the others wait. An entry whose arrays do
    not have the size they were written with is built again. Leftovers of killed builders are removed.

    Args:
        cache: folder of all entries; made if need be.
        name: readable start of the entry's name.
        key: everything that decides the arrays, as JSON can hold it.
        build: fills a Builder; whatever it raises leaves no entry behind.

    Raises:
        UserError: the folder cannot be read or written (names dataset.cache).
        Fault: the disk is full.
    """
    digest = hashlib.sha256(json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()).hexdigest()
    folder = cache / f"{name}-{digest[:20]}"
    try:
        # Without the lock first: a complete cache may lie on a read-only disk.
        entry = _open(folder)
        if entry is not None:
            return entry
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(cache, error) from error
    with lock(cache, folder.name):
        try:
            entry = _open(folder)
            if entry is not None:
                return entry
            if folder.exists():
                log.warning("the cached arrays in %s are damaged and are built again", folder)
                # Out of the way in one step: nobody may open a folder that is half deleted.
                folder.rename(_temporary(cache, folder.name))
            _remove_leftovers(cache, folder.name)
            temporary = _temporary(cache, folder.name)
            temporary.mkdir()
        except OSError as error:
            raise unusable(cache, error) from error
        try:
            builder = Builder(temporary)
            build(builder)
            try:
                builder.finish()
                temporary.rename(folder)
                sync(cache)
            except OSError as error:
                raise unusable(cache, error) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        entry = _open(folder)
    if entry is None:
        raise Fault(f"dataset.cache={cache}: the arrays just written to {folder} cannot be read back")
    return entry


@contextmanager
def lock(cache: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` of a cache folder; says so when it has to wait.

    Raises:
        UserError: the folder cannot be written (names dataset.cache).
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        held = FileLock(cache / f"{name}.lock")
        try:
            held.acquire(timeout=1)
        except Timeout:
            log.warning("waiting for another process that builds %s", cache / name)
            held.acquire()
    except OSError as error:
        raise unusable(cache, error) from error
    try:
        yield
    finally:
        held.release()


def _open(folder: Path) -> Entry | None:
    """The entry if it is complete; None where it is missing or damaged."""
    try:
        entry = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
        arrays: dict[str, np.ndarray] = {}
        for name, (shape, dtype) in entry["arrays"].items():
            array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            whole = array.offset + array.nbytes == (folder / f"{name}.npy").stat().st_size
            if list(array.shape) != shape or array.dtype.str != dtype or not whole:
                return None
            arrays[name] = array
        return Entry(arrays, entry["info"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, EOFError):
        return None


def _temporary(cache: Path, name: str) -> Path:
    return cache / f"{_BUILDING}{name}-{uuid.uuid4().hex[:12]}"


def _remove_leftovers(cache: Path, held: str) -> None:
    """Remove the temporary folders whose builder is dead: its lock is free, or is `held` by us."""
    for temporary in cache.glob(f"{_BUILDING}*"):
        name = temporary.name.removeprefix(_BUILDING).rpartition("-")[0]
        if name == held:
            shutil.rmtree(temporary, ignore_errors=True)
            continue
        try:
            with FileLock(cache / f"{name}.lock", timeout=0):
                shutil.rmtree(temporary, ignore_errors=True)
        except Timeout:
            continue


def unusable(cache: Path, error: OSError) -> GentrainError:
    """The error to raise for a cache folder: the user's mistake, or a disk that is full or fails."""
    kind = UserError if mistaken(error) else Fault
    return kind(
        f"dataset.cache={cache} cannot be used ({error.strerror or error}); "
        "name a folder that can be written with dataset.cache=FOLDER or GENTRAIN_CACHE"
    )


def _disk_full(cache: Path, need: int, free: int) -> Fault:
    return Fault(
        f"dataset.cache={cache}: the decoded images need {need / 1e6:,.1f} MB, "
        f"{free / 1e6:,.1f} MB are free; make room, or name another disk with dataset.cache=FOLDER"
    )

"""The files below a root that is a folder or a zip, read in place: nothing is ever unpacked."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gentrain.data.decoding import EXTENSIONS
from gentrain.data.source import stamp
from gentrain.errors import CorruptFile, UserError

_DEPTH = 6  # folders below the root that are looked into; links may lead in circles
_IGNORED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
# Images are compressed already: what a zip shrinks further than this is meant to fill a memory or a disk.
_BOMB_RATIO = 200
_BOMB_FILE = 4 << 20  # bytes; a small file may well be flat
_BOMB_TOTAL = 1 << 30  # bytes


@dataclass(frozen=True, slots=True)
class File:
    """One file.

    name: path below the root, with `/`; size: bytes; offset: where it lies in a zip; changed:
    modification time in ns (of a folder's file).
    """

    name: str
    size: int
    offset: int = 0
    changed: int = 0


class Archive(ABC):
    """The files below a root; hidden ones and those of file managers do not count.

    files: sorted by name; empty: folders without any file, sorted by name.
    """

    files: list[File]
    empty: list[str]

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of one file; safe to call from several threads.

        Raises:
            OSError: it cannot be read, or is damaged.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back the file handles."""

    def path(self, name: str) -> str:
        """What to call a file in a message."""
        return str(self.root / name)

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def fingerprint(root: Path) -> list[Any]:
    """What tells one state of a root from another; a zip is not opened for it.

    Raises:
        UserError: there is no such file or folder (names dataset.root).
    """
    if root.is_dir():
        listing = hashlib.sha256()
        for file in _Folder(root).files:
            listing.update(f"{file.name}\0{file.size}\0{file.changed}\0".encode(errors="surrogateescape"))
        return [str(root.resolve()), listing.hexdigest()]
    if root.is_file():
        return stamp(root)
    raise UserError(
        f"dataset.root={root} does not exist; name a folder or a .zip of images with dataset.root=PATH"
    )


def open_archive(root: Path) -> Archive:
    """The folder or zip `root`.

    Raises:
        UserError: a zip that is none, or that could do harm (paths that lead out of it, a zip bomb).
    """
    return _Folder(root) if root.is_dir() else _Zip(root)


class _Folder(Archive):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.files, self.empty = [], []
        try:
            self._walk("", 0)
        except OSError as error:
            raise UserError(f"dataset.root: {error.filename} cannot be read ({error.strerror})") from error
        self.files.sort(key=lambda file: file.name)
        self.empty.sort()

    def _walk(self, prefix: str, depth: int) -> None:
        holds_something = False
        with os.scandir(self.root / prefix) as entries:
            for entry in entries:
                if _is_ignored(entry.name):
                    continue
                holds_something = True
                name = prefix + entry.name
                if entry.is_dir():
                    if depth < _DEPTH:
                        self._walk(name + "/", depth + 1)
                else:
                    # A link to nowhere counts as a file, and is found broken when it is read.
                    status = entry.stat(follow_symlinks=entry.is_file())
                    self.files.append(File(name, status.st_size, changed=status.st_mtime_ns))
        if not holds_something:
            self.empty.append(prefix)

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def close(self) -> None:
        pass


class _Zip(Archive):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        try:
            self._zip = zipfile.ZipFile(root)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise CorruptFile(
                f"dataset.root={root} is neither a folder nor a zip that can be read ({error})"
            ) from error
        try:
            self._list()
        except BaseException:
            self._zip.close()
            raise

    def _list(self) -> None:
        self._members: dict[str, zipfile.ZipInfo] = {}
        folders: set[str] = set()
        packed = unpacked = 0
        for member in self._zip.infolist():
            # Archives made on Windows may hold backslashes, which mean folders there.
            name = member.filename.replace("\\", "/")
            parts = name.rstrip("/").split("/")
            if name.startswith("/") or ".." in parts or parts[0][1:2] == ":":
                raise self._refuse(f"it holds the path {member.filename!r}, which leads out of it")
            packed, unpacked = packed + member.compress_size, unpacked + member.file_size
            if member.file_size > max(_BOMB_FILE, _BOMB_RATIO * member.compress_size):
                raise self._refuse(
                    f"{name} would unpack {member.compress_size:,} bytes to {member.file_size:,} "
                    "(a zip bomb?); if it is an image all the same, unpack it and name the folder"
                )
            if any(_is_ignored(part) for part in parts):
                continue
            if member.is_dir() or name.endswith("/"):
                folders.add(name.rstrip("/") + "/")
                continue
            if member.flag_bits & 1:
                raise self._refuse(f"{name} is encrypted; unpack it and name the folder")
            if name in self._members:
                raise self._refuse(f"it holds {name} twice")
            self._members[name] = member
        size = self.root.stat().st_size
        # Members that share their bytes make more of a zip than there is in it.
        if packed > size or unpacked > max(_BOMB_TOTAL, _BOMB_RATIO * size):
            raise self._refuse(f"its {size:,} bytes would unpack to {unpacked:,} (a zip bomb?)")
        wrapper = self._wrapper(list(self._members))
        self._members = {name.removeprefix(wrapper): member for name, member in self._members.items()}
        self._inside = wrapper
        self.files = [
            File(name, member.file_size, member.header_offset)
            for name, member in sorted(self._members.items())
        ]
        holders = {name[: i + 1] for name in self._members for i, c in enumerate(name) if c == "/"}
        empty = {folder.removeprefix(wrapper) for folder in folders if folder != wrapper}
        # A folder that holds only folders is not empty; its own are named instead.
        self.empty = sorted(
            folder
            for folder in empty - holders
            if not any(other != folder and other.startswith(folder) for other in empty)
        )

    @staticmethod
    def _wrapper(names: list[str]) -> str:
        """`name/` where the whole data set was zipped as one folder, as file managers do, else ``."""
        tops = {name.split("/")[0] for name in names}
        if len(tops) != 1 or tops <= {"train", "test"}:
            return ""
        # With one folder level below it, the folder could be a class.
        deep = all(name.count("/") >= 2 for name in names if is_image(name))
        return f"{tops.pop()}/" if deep else ""

    def _refuse(self, why: str) -> UserError:
        return UserError(f"dataset.root={self.root} is refused: {why}")

    def path(self, name: str) -> str:
        return str(self.root / (self._inside + name))

    def read(self, name: str) -> bytes:
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise OSError(str(error)) from error

    def close(self) -> None:
        self._zip.close()


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by the ending of its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED

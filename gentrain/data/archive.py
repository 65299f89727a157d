"""The files below a root that is a folder or a zip, read in place: nothing is ever unpacked."""

from __future__ import annotations

import bz2
import copy
import hashlib
import lzma
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gentrain.data.decoding import EXTENSIONS
from gentrain.data.recordings import is_recording
from gentrain.data.source import stamp
from gentrain.errors import CorruptFile, UserError

_DEPTH = 6  # folders below the root that are looked into; links may lead in circles
# What file managers, file systems and network storage leave behind, in lower case.
_IGNORED = frozenset(
    {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "lost+found"}
    | {"system volume information", "@eadir", "@tmp", "@recycle", "#recycle", "#snapshot"}
    | {"network trash folder", "temporary items"}
)
_LARGEST = 1 << 30  # bytes of one file
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

    key, typed: the key that named the root, and `key=root`, for messages.
    files: sorted by name; empty: folders without any file, sorted by name.
    """

    files: list[File]
    empty: list[str]

    def __init__(self, root: Path, key: str) -> None:
        self.root = root
        self.key = key
        self.typed = f"{key}={root}"

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of one file; safe to call from several threads.

        Raises:
            OSError: it cannot be read, is damaged, larger than any image, or no file (a pipe, a device).
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


def fingerprint(root: Path, key: str = "dataset.root") -> list[Any]:
    """What tells one state of a root, called `key=root`, from another; a zip is not opened for it.

    Raises:
        UserError: there is no such file or folder.
    """
    if os.path.isdir(root):
        listing = hashlib.sha256()
        for file in _Folder(root, key).files:
            listing.update(f"{file.name}\0{file.size}\0{file.changed}\0".encode(errors="surrogateescape"))
        return [str(root.resolve()), listing.hexdigest()]
    if os.path.isfile(root):
        return stamp(root)
    problem = "is neither a folder nor a file" if os.path.exists(root) else "does not exist"
    raise UserError(f"{key}={root} {problem}; name a folder or a .zip with {key}=PATH")


def open_archive(root: Path, key: str = "dataset.root") -> Archive:
    """The folder or zip `root`, which messages call `key=root`.

    Raises:
        UserError: no folder and no zip, or one that could do harm (paths that lead out of it, a zip bomb).
    """
    return _Folder(root, key) if os.path.isdir(root) else _Zip(root, key)


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be read, is larger than any image, or is no file (a pipe would never end).
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError("it is no file, but a folder, a pipe or a device")
    _check_size(status.st_size)
    return path.read_bytes()


def _check_size(size: int) -> None:
    if size > _LARGEST:
        raise OSError(f"it has {size:,} bytes; at most {_LARGEST:,} are read")


class _Folder(Archive):
    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root, key)
        self.files, self.empty = [], []
        try:
            self._walk("", 0)
        except OSError as error:
            raise UserError(f"{self.typed}: {error.filename} cannot be read ({error.strerror})") from error
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
        return read_file(self.root / name)

    def close(self) -> None:
        pass


class _Zip(Archive):
    def __init__(self, root: Path, key: str) -> None:
        super().__init__(root, key)
        try:
            if os.path.exists(root) and not os.path.isfile(root):
                raise OSError("it is a pipe or a device")
            self._zip = zipfile.ZipFile(root)
        except MemoryError:
            raise
        except Exception as error:  # zipfile raises nearly every kind on damaged input
            raise CorruptFile(
                f"{self.typed} is neither a folder nor a zip that can be read ({error})"
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
            parts = [part for part in name.split("/") if part not in ("", ".")]
            if name.startswith("/") or ".." in parts or any(part[1:2] == ":" for part in parts[:1]):
                raise self._refuse(f"it holds the path {member.filename!r}, which leads out of it")
            packed, unpacked = packed + member.compress_size, unpacked + member.file_size
            if member.file_size > max(_BOMB_FILE, _BOMB_RATIO * member.compress_size):
                raise self._refuse(
                    f"{name} would unpack {member.compress_size:,} bytes to {member.file_size:,} "
                    "(a zip bomb?); if it is an image all the same, unpack it and name the folder"
                )
            if any(_is_ignored(part) for part in parts):
                continue
            is_folder, name = name.endswith("/"), "/".join(parts)
            if not name:
                continue
            if is_folder:
                folders.add(name + "/")
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
        if len(tops) != 1 or {top.lower() for top in tops} <= {"train", "test"}:
            return ""
        # With one folder level below it, the folder could be a class.
        deep = all(name.count("/") >= 2 for name in names if _is_data(name))
        return f"{tops.pop()}/" if deep else ""

    def _refuse(self, why: str) -> UserError:
        return UserError(f"{self.typed} is refused: {why}")

    def path(self, name: str) -> str:
        return str(self.root / (self._inside + name))

    def read(self, name: str) -> bytes:
        member = self._members[name]
        _check_size(member.file_size)
        packed = copy.copy(member)  # the same bytes, to be taken as they are
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
        del packed.CRC
        try:
            with self._zip.open(packed) as file:
                content = _unpacked(file.read(), member)
        except MemoryError:
            raise
        except Exception as error:  # zipfile raises nearly every kind on damaged input
            raise OSError(f"it is damaged: {error or type(error).__name__}") from error
        if len(content) != member.file_size or zlib.crc32(content) != member.CRC:
            raise OSError("it is damaged: its bytes have another CRC than the zip says")
        return content

    def close(self) -> None:
        self._zip.close()


def _unpacked(packed: bytes, member: zipfile.ZipInfo) -> bytes:
    """The content of a member: never more than the zip says, which zipfile itself does not hold to."""
    if member.compress_type == zipfile.ZIP_STORED:
        return packed
    size = max(1, member.file_size)  # 0 would be no bound
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size)
    if member.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, size)
    if member.compress_type == zipfile.ZIP_LZMA:
        # Two bytes of version and two of length, the properties, the stream; .lzma has the size between.
        alone = packed[4:9] + b"\xff" * 8 + packed[9:]
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(alone, size)
    raise NotImplementedError(
        f"packed with method {member.compress_type}, which is unknown; unpack the zip and name the folder"
    )


def is_image(name: str) -> bool:
    """Whether a file counts as an image, by the ending of its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _is_data(name: str) -> bool:
    """Whether a file counts as an image or a recording."""
    return is_image(name) or is_recording(name)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED

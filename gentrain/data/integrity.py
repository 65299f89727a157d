"""Whether a file is what it should be, and the words for what it is instead."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gentrain.errors import CorruptFile

GZIP = b"\x1f\x8b"
_LOOK = 64  # bytes that tell a kind of file


def damaged(path: Path | str, expected: str, found: str) -> CorruptFile:
    """The error for a file that is not what it should be."""
    return CorruptFile(f"{path} is damaged: expected {expected}, found {found}; delete it and fetch it again")


def is_html(start: bytes) -> bool:
    """Whether a file that begins like this is a web page, as servers send in the place of a file."""
    return start.lstrip()[:1] == b"<"


def refuse_html(path: Path, expected: str) -> None:
    """Say so where a web page lies in the place of a file.

    Raises:
        CorruptFile: it does.
    """
    with path.open("rb") as file:
        if is_html(file.read(_LOOK)):
            raise damaged(path, expected, "an HTML page")


def compare_md5(path: Path | str, content: bytes, md5: str, what: str = "MD5") -> None:
    """Compare a content that was read with its published MD5.

    Raises:
        CorruptFile: it is another, named as found in `path`.
    """
    _compare(path, hashlib.md5(content, usedforsecurity=False).hexdigest(), md5, what)


def compare_file_md5(path: Path, md5: str) -> None:
    """Compare a file of any size with its published MD5; it is not held in memory.

    Raises:
        CorruptFile: it is another.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    _compare(path, digest.hexdigest(), md5, "MD5")


def compare_file_sha256(path: Path, sha256: str) -> None:
    """Compare a file of any size with its published SHA-256; it is not held in memory.

    Raises:
        CorruptFile: it is another.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    _compare(path, digest.hexdigest(), sha256, "SHA-256")


def _compare(path: Path | str, found: str, md5: str, what: str) -> None:
    if found != md5:
        advice = "for other data in the same format: dataset.verify=false"
        raise damaged(path, f"{what} {md5}", f"{found} ({advice})")

"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

#: How a file ends whose writer was killed.
LEFTOVER = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place at once when the block ends well.

    When the block fails, what was at `path` stays and nothing is left behind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{LEFTOVER}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` so that `read_text` gives it back, whatever the locale and whatever names it holds.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def read_text(path: Path) -> str:
    """The text of a file; damaged bytes are replaced.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace")


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that it lasts through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

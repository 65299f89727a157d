"""The IDX format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist).

torchvision has a reader, but it takes neither .gz (a read-only root cannot be unpacked) nor says what
is wrong with a damaged file: its checks are assertions.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from gentrain.data.integrity import GZIP, compare_md5, damaged, is_html
from gentrain.errors import CorruptFile

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, dims: int, md5: str | None) -> np.ndarray:
    """One IDX file of unsigned bytes, plain or .gz.

    Args:
        path: the file; its name ends in .gz where it is compressed.
        dims: 1 for labels, 3 for images.
        md5: MD5 of the unpacked content that is asked for, or None not to ask.

    Returns:
        uint8, [N] or [N, H, W].

    Raises:
        CorruptFile: the file is not whole or is something else; names it, expected and found.
    """
    header = 4 + 4 * dims
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(header)
            shape = _shape(path, start, dims)
            size = math.prod(shape)
            # One byte more than there should be, and not all of a file that never ends.
            content = bytearray()
            while len(content) <= size and (piece := file.read(min(1 << 20, size + 1 - len(content)))):
                content += piece
    except (gzip.BadGzipFile, zlib.error) as error:
        with path.open("rb") as raw:
            first = raw.read(64)
        found = str(error) if first.startswith(GZIP) else _what(first) or "something else"
        if first.startswith(bytes([0, 0, _UNSIGNED_BYTE])):
            found = "unpacked IDX data (take .gz off its name)"
        raise damaged(path, "a gzip file", found) from error
    except EOFError as error:
        raise damaged(path, "a whole gzip file", "one that ends too early") from error
    except OSError as error:
        raise CorruptFile(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) != size:
        more = "more" if len(content) > size else f"{header + len(content):,} bytes"
        raise damaged(path, f"{header + size:,} bytes for {' x '.join(map(str, shape))} values", more)
    if md5 is not None:
        compare_md5(path, start + bytes(content), md5, "unpacked content of MD5")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(path: Path, start: bytes, dims: int) -> tuple[int, ...]:
    magic = _UNSIGNED_BYTE << 8 | dims
    found = int.from_bytes(start[:4], "big")
    if len(start) >= 4 and found != magic:
        raise damaged(path, f"IDX data (magic number {magic})", _what(start) or f"magic number {found}")
    if len(start) < 4 + 4 * dims:
        raise damaged(path, f"an IDX header of {4 + 4 * dims} bytes", f"{len(start)} bytes")
    shape = struct.unpack(f">{dims}I", start[4:])
    if min(shape) < 1:
        raise damaged(path, "at least one value", " x ".join(map(str, shape)))
    return shape


def _what(start: bytes) -> str | None:
    """What a file is that begins like this, where that is worth saying."""
    if is_html(start):
        return "an HTML page"
    if start.startswith(GZIP):
        return "a gzip file without .gz in its name"
    return None

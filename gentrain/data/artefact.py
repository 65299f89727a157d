"""Files that are computed from a data set once, and found again: a classifier, say.

Such a file lies in the data cache. Its name holds a hash of what made it and the SHA-256 of what is in
it, so that a figure can name the very file that it rests on, and damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gentrain.data.cache import lock, unusable
from gentrain.data.parts import PARTS
from gentrain.data.source import Data, Split
from gentrain.files import replacing, sync

#: Hexadecimal digits of each hash in a file's name.
_DIGITS = 12
_CHUNK = 4096  # images hashed at a time


def made_once(
    cache: Path,
    name: str,
    key: Mapping[str, Any],
    make: Callable[[], bytes],
    say: Callable[[str], object],
) -> tuple[bytes, str]:
    """The file made of `key`: read where it is whole, else made; of several processes one makes it.

    Args:
        cache: the folder.
        name: readable start of the file's name, `<name>-<hash of key>-<hash of content>.pt`.
        key: everything that decides the content, as JSON can hold it.
        make: makes the content.
        say: is told in a line that a damaged file was found.

    Returns:
        The content and the first 12 hexadecimal digits of its SHA-256.

    Raises:
        UserError: the folder can never be read or written (names dataset.cache).
        Fault: the disk is full, or failed.
    """
    start = f"{name}-{_hash(json.dumps(key, sort_keys=True).encode())}"
    try:
        found = _whole(cache, start)  # without the lock first: the cache may lie on a read-only disk
        if found is not None:
            return found
        with lock(cache, start):
            found = _whole(cache, start)
            if found is not None:
                return found
            for damaged in cache.glob(f"{start}-*.pt"):
                say(f"{damaged} is damaged and is made again")
                damaged.unlink()
            content = make()
            digest = _hash(content)
            path = cache / f"{start}-{digest}.pt"
            with replacing(path) as temporary:
                temporary.write_bytes(content)
                sync(temporary)
            return content, digest
    except OSError as error:
        raise unusable(cache, error) from error


def fingerprint(data: Data) -> dict[str, Any]:
    """What tells one labelled data set from another, wherever its files lie: its arrays and settings."""
    return {
        "spec": data.spec.to_dict(),
        "binarize": data.binarize,
        "flip": data.flip,
        "train": _hash_of_split(data.train),
        "test": _hash_of_split(data.test),
    }


def _whole(cache: Path, start: str) -> tuple[bytes, str] | None:
    """The content whose hash is the one in its file's name, if there is one."""
    for path in sorted(cache.glob(f"{start}-*.pt")):
        content = path.read_bytes()
        digest = _hash(content)
        if path.stem == f"{start}-{digest}":
            return content, digest
    return None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _hash_of_split(split: Split) -> str:
    digest = hashlib.sha256()
    for name in (name for name in PARTS if name in split.parts):
        array = split.parts[name]
        for start in range(0, len(array), _CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + _CHUNK]).data)
    return digest.hexdigest()

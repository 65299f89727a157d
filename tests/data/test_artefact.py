"""Files computed once: made by one, read by all, noticed when damaged."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.data.artefact import fingerprint, made_once
from gentrain.data.source import Data
from gentrain.errors import Fault, UserError


def never() -> bytes:
    pytest.fail("it was made again")


def once(cache: Path, key: dict[str, Any], make: Callable[[], bytes]) -> bytes:
    """`made_once` of an undamaged `thing`."""
    return made_once(cache, "thing", key, make, pytest.fail)[0]


def files(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if f.suffix != ".lock")


def test_it_is_made_once_and_named_after_its_content(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "er"
    digest = hashlib.sha256(b"content").hexdigest()[:12]
    assert made_once(cache, "thing", {"a": [1]}, lambda: b"content", pytest.fail) == (b"content", digest)
    assert made_once(cache, "thing", {"a": [1]}, never, pytest.fail) == (b"content", digest)
    (name,) = files(cache)
    assert re.fullmatch(rf"thing-[0-9a-f]{{12}}-{digest}\.pt", name)
    assert once(cache, {"a": [2]}, lambda: b"other") == b"other"
    assert once(cache, {"a": [1]}, never) == b"content"
    assert len(files(cache)) == 2


@pytest.mark.parametrize("damage", [b"", b"conten", b"Content", b"content "])
def test_a_damaged_file_is_made_again_and_said_so(tmp_path: Path, damage: bytes) -> None:
    once(tmp_path, {}, lambda: b"content")
    (name,) = files(tmp_path)
    (tmp_path / name).write_bytes(damage)
    said: list[str] = []
    assert made_once(tmp_path, "thing", {}, lambda: b"again", said.append)[0] == b"again"
    assert said == [f"{tmp_path / name} is damaged and is made again"]
    assert once(tmp_path, {}, never) == b"again"
    assert len(files(tmp_path)) == 1


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        once(tmp_path, {}, lambda: bytes(1 // 0))
    assert files(tmp_path) == []
    assert once(tmp_path, {}, lambda: b"x") == b"x"


def test_of_several_at_once_one_makes_it(tmp_path: Path) -> None:
    made, together = [], threading.Barrier(4, timeout=30)

    def make() -> bytes:
        made.append(1)
        return os.urandom(8)

    def ask(_: int) -> bytes:
        together.wait()
        return once(tmp_path, {}, make)

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(ask, range(4)))
    assert len(made) == len(found) == 1


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"dataset\.cache"):
        once(tmp_path / "file" / "cache", {}, lambda: b"x")


def test_a_full_disk_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Fault, match=r"dataset\.cache=.* cannot be used \(No space left on device\)"):
        once(tmp_path, {}, lambda: b"x")
    assert files(tmp_path) == []


def test_other_data_have_another_fingerprint() -> None:
    def load(*more: str) -> Data:
        return build_source(compose_train(["dataset=digits", *more]).dataset).load()

    data = load()

    def changed(split: str, part: str, index: int, value: int) -> dict[str, Any]:
        array = np.array(getattr(data, split).parts[part])
        array[index] = value
        return fingerprint(dataclasses.replace(data, **{split: getattr(data, split).with_part(part, array)}))

    assert fingerprint(load()) == fingerprint(data)
    others = [
        fingerprint(load("dataset.validation=0")),
        fingerprint(load("dataset.binarize=dynamic")),
        fingerprint(load("dataset.binarize=fixed")),
        fingerprint(load("dataset.flip=true")),
        changed("train", "x", -1, 9),
        changed("train", "label", -1, 9 - int(data.train.labels[-1])),  # type: ignore[index]
        changed("test", "x", 0, 9),
    ]
    assert all(other != fingerprint(data) for other in others)
    assert len({str(other) for other in others}) == len(others)

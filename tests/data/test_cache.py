from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gentrain.data import cache as module
from gentrain.data.cache import Builder, cached
from gentrain.errors import Fault, UserError

BUILD = """
import os, sys, time
from pathlib import Path
from gentrain.data.cache import cached
cache, log, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
def build(builder):
    array = builder.create("x", (1000, 10), "uint8")
    array[:500] = 7
    with open(log, "a") as file:
        file.write("built\\n")
    print("building", flush=True)
    time.sleep(seconds)
    array[500:] = 7
entry = cached(cache, "made", {"n": 1}, build)
print("sum", int(entry.arrays["x"].sum()), flush=True)
"""


def start(cache: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", BUILD, str(cache), str(log), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def build(builder: Builder) -> None:
    builder.add("x", np.arange(100, dtype=np.uint8).reshape(10, 10))
    builder.info["note"] = "made"


def entries(cache: Path) -> list[str]:
    return sorted(p.name for p in cache.iterdir() if p.is_dir())


def test_built_once_and_opened_read_only(tmp_path: Path) -> None:
    first = cached(tmp_path, "made", {"a": 1}, build)
    assert first.arrays["x"].sum() == 4950
    assert isinstance(first.arrays["x"], np.memmap)
    assert not first.arrays["x"].flags.writeable
    assert first.info == {"note": "made"}

    def never(builder: Builder) -> None:
        pytest.fail("built twice")

    assert cached(tmp_path, "made", {"a": 1}, never).arrays["x"].sum() == 4950
    assert len(entries(tmp_path)) == 1


def test_another_key_or_format_is_another_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, "made", {"a": 1}, build)
    cached(tmp_path, "made", {"a": 2}, build)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    cached(tmp_path, "made", {"a": 1}, build)
    assert len(entries(tmp_path)) == 3


def test_processes_that_start_at_once_build_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(tmp_path / "cache", log, 1.5) for _ in range(4)]
    ended = [process.communicate(timeout=60) for process in processes]
    assert all("sum 70000" in out for out, _ in ended), ended
    assert log.read_text() == "built\n"
    assert len(entries(tmp_path / "cache")) == 1


def test_killed_builder_leaves_nothing_that_counts(tmp_path: Path) -> None:
    cache, log = tmp_path / "cache", tmp_path / "log"
    process = start(cache, log, 600)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    waiting = start(cache, log, 0)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    out, err = waiting.communicate(timeout=60)
    assert "sum 70000" in out, err
    assert len(entries(cache)) == 1
    assert log.read_text() == "built\n" * 2


def test_leftovers_of_other_entries_are_removed_unless_their_builder_lives(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    alive = start(cache, tmp_path / "log", 600)
    try:
        assert alive.stdout is not None
        alive.stdout.readline()
        [living] = entries(cache)
        (cache / f"{module._BUILDING}old-0123-abc").mkdir()
        cached(cache, "other", {}, build)
        left = entries(cache)
        assert living in left
        assert len(left) == 2
    finally:
        alive.kill()
        alive.communicate()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_error_while_building_leaves_nothing(tmp_path: Path, kind: type[BaseException]) -> None:
    def fail(builder: Builder) -> None:
        build(builder)
        raise kind

    with pytest.raises(kind):
        cached(tmp_path, "made", {}, fail)
    assert entries(tmp_path) == []
    assert cached(tmp_path, "made", {}, build).arrays["x"].sum() == 4950


@pytest.mark.parametrize("damage", ["empty", "short", "long", "gone", "header", "entry", "no entry"])
def test_damaged_entry_is_built_again(tmp_path: Path, damage: str) -> None:
    cached(tmp_path, "made", {}, build)
    [name] = entries(tmp_path)
    array, entry = tmp_path / name / "x.npy", tmp_path / name / "entry.json"
    content = array.read_bytes()
    if damage == "gone":
        array.unlink()
    elif damage == "entry":
        entry.write_text(entry.read_text()[:10])
    elif damage == "no entry":
        entry.unlink()
    elif damage == "header":
        np.save(array, np.zeros((10, 9), dtype=np.uint8))
    else:
        array.write_bytes({"empty": b"", "short": content[:-1], "long": content + b"x"}[damage])
    assert cached(tmp_path, "made", {}, build).arrays["x"].sum() == 4950
    assert entries(tmp_path) == [name]
    assert array.read_bytes() == content
    assert json.loads(entry.read_text())["arrays"] == {"x": [[10, 10], "|u1"]}


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"dataset\.cache=.*file.* cannot be used.*GENTRAIN_CACHE"):
        cached(tmp_path / "file", "made", {}, build)
    with pytest.raises(UserError, match=r"dataset\.cache="):
        cached(tmp_path / "file" / "below", "made", {}, build)


def test_a_full_disk_is_no_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(Fault, match=r"cannot be used \(No space left on device\).*dataset\.cache=FOLDER"):
        cached(tmp_path / "new", "made", {}, build)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_with_a_complete_entry_is_enough(tmp_path: Path) -> None:
    cached(tmp_path, "made", {}, build)
    tmp_path.chmod(0o555)
    try:
        assert cached(tmp_path, "made", {}, build).arrays["x"].sum() == 4950
        with pytest.raises(UserError, match=r"dataset\.cache"):
            cached(tmp_path, "made", {"other": 1}, build)
    finally:
        tmp_path.chmod(0o755)


def test_complete_entry_is_opened_without_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path, "made", {}, build)
    monkeypatch.setattr(module, "lock", lambda *_: pytest.fail("locked"))
    assert cached(tmp_path, "made", {}, build).arrays["x"].sum() == 4950


def test_disk_without_room_is_said_beforehand(tmp_path: Path) -> None:
    def too_much(builder: Builder) -> None:
        builder.create("x", (1 << 50, 4), np.uint8)

    before = time.monotonic()
    with pytest.raises(Fault, match=r"dataset\.cache=.* need [0-9,.]+ MB, [0-9,.]+ MB are free"):
        cached(tmp_path, "made", {}, too_much)
    assert time.monotonic() - before < 5
    assert entries(tmp_path) == []

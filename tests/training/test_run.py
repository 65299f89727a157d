"""Run folders: exclusive, locked, found again."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock

from gentrain.errors import CorruptFile, Fault, UserError
from gentrain.files import check_writable
from gentrain.training import checkpoint, finding, run

NOW = datetime(2026, 1, 2, 3, 4, 5)


def test_twenty_runs_in_one_second_get_twenty_folders(workplace: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        made = list(pool.map(lambda _: run.create("vae", "digits", now=NOW).folder, range(20)))
    assert len({f.name for f in made}) == 20
    assert all(f.is_dir() for f in made)
    assert finding.find_run("outputs/vae-digits/latest").folder in made


@pytest.mark.parametrize("name", ["a/b", "a b", "a=b,c(d)", "../x", "ä"])
def test_no_odd_character_in_a_folder_that_we_name(workplace: Path, name: str) -> None:
    folder = run.create(name, "digits", now=NOW).folder
    assert folder.parent.parent == Path("outputs")
    assert not set("/ =,()'\"ä") & set(folder.parent.name)


def test_a_folder_in_use_names_the_process(workplace: Path) -> None:
    script = """
import sys, time
from gentrain.training import run
made = run.create("vae", "digits", run_dir="mine")
print("locked", flush=True)
time.sleep(60)
"""
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "locked\n"
    try:
        with pytest.raises(UserError, match=f"in use by pid {other.pid}"):
            run.Run(Path("mine")).lock()
        with pytest.raises(UserError, match=f"in use by pid {other.pid}"):
            run.create("vae", "digits", run_dir="mine")
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        other.stdout.close()
    time.sleep(0.1)
    run.Run(Path("mine")).lock()  # a lock left behind by SIGKILL blocks nobody


def test_a_folder_that_holds_something_is_refused(workplace: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        run.create("vae", "digits", run_dir="mine")


def test_a_place_that_cannot_be_written(workplace: Path) -> None:
    Path("outputs").write_text("a file")
    with pytest.raises(UserError, match="outputs: it is not a folder"):
        check_writable(Path("outputs/vae"))
    with pytest.raises(UserError, match="cannot write to /proc/x"):
        check_writable(Path("/proc/x"))


def save(path: Path, step: int) -> None:
    checkpoint.save({"config": "", "step": step}, path)


def test_the_newest_good_checkpoint(workplace: Path) -> None:
    made = run.create("vae", "digits")
    assert finding.newest_good(made) is None
    for step in (9, 10, 100):  # by number, not by the first digit
        save(made.step_file(step), step)
    checkpoint.link(made.step_file(100), made.last)
    found = finding.newest_good(made)
    assert found is not None
    assert found[1]["step"] == 100
    assert found[2] == []
    data = bytearray(made.last.read_bytes())
    data[50] ^= 1
    made.last.write_bytes(data)  # the link's other name too
    found = finding.newest_good(made)
    assert found is not None
    assert found[1]["step"] == 10
    assert len(found[2]) == 1
    assert "corrupt" in found[2][0]
    for file in made.step_files():
        file.write_bytes(b"")
    with pytest.raises(CorruptFile, match="no good checkpoint"):
        finding.newest_good(made)


def test_latest_is_the_newest_run(workplace: Path) -> None:
    with pytest.raises(UserError, match="no run in"):
        finding.find_run("latest")
    first = run.create("vae", "digits", now=NOW)
    own = run.create("vae", "mnist", run_dir="my runs/one (1)")
    assert finding.find_run("latest").folder.samefile(own.folder)
    assert finding.find_run("outputs/vae-digits").folder.samefile(first.folder)
    assert finding.find_run("outputs/vae-digits/latest").folder.samefile(first.folder)
    with pytest.raises(UserError, match="no checkpoint yet; wait"):
        finding.find_checkpoint("latest")
    save(first.last, 1)
    assert finding.find_checkpoint("latest").samefile(first.last), "one that failed hides no good one"
    save(own.last, 1)
    assert finding.find_checkpoint("latest").samefile(own.last)
    assert finding.find_checkpoint(str(own.last)) == own.last


def test_a_full_disk_leaves_no_folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FileLock) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileLock, "acquire", full)
    with pytest.raises(Fault, match=r"cannot lock outputs/.*No space left on device; make room"):
        run.create("vae", "digits", now=NOW)
    assert not list(Path("outputs").glob("*/*"))
    Path("mine").mkdir()
    with pytest.raises(Fault, match="make room"):
        run.create("vae", "digits", run_dir="mine")
    assert Path("mine").is_dir()  # not ours to remove


def test_a_run_without_a_checkpoint_says_whether_one_will_come(workplace: Path) -> None:
    made = run.create("vae", "digits", run_dir="run")
    made.config.write_text("")
    with pytest.raises(UserError, match="wait for its first"):
        finding.find_checkpoint("run")
    made.release()
    with pytest.raises(UserError, match=r"has stopped before its first, go on: gentrain train .*resume=run"):
        finding.find_checkpoint("run")

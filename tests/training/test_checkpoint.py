"""The checkpoint file: whole or not at all, every damage noticed, nothing executed."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gentrain.errors import CorruptFile, Fault, UserError
from gentrain.training import checkpoint


def state() -> dict:
    return {
        "config": "model: {}",
        "model": {"weight": torch.arange(100.0).view(10, 10), "count": torch.tensor(3)},
        "turns": {"main": {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "betas": (0.9, 0.999)}}},
        "list": [1, 2.5, None, True, "text"],
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "a.pt"
    checkpoint.save(state(), path)
    return path


def test_comes_back_as_it_was(saved: Path) -> None:
    loaded = checkpoint.load(saved)
    assert loaded["format"] == checkpoint.FORMAT
    assert loaded["list"] == state()["list"]
    assert loaded["turns"]["main"]["optimizer"]["betas"] == (0.9, 0.999)
    torch.testing.assert_close(loaded["model"], state()["model"], rtol=0, atol=0)


def test_is_an_ordinary_torch_file(saved: Path) -> None:
    plain = torch.load(saved, weights_only=True)
    assert plain["config"] == "model: {}"
    assert zipfile.ZipFile(saved).testzip() is None


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=200, deadline=None)
def test_every_flipped_bit_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: float, bit: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    good = folder / "good.pt"
    if not good.exists():
        checkpoint.save(state(), good)
    data = bytearray(good.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    damaged = folder / "damaged.pt"
    damaged.write_bytes(data)
    with pytest.raises(CorruptFile, match="corrupt"):
        checkpoint.load(damaged)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated(saved: Path, keep: float) -> None:
    data = saved.read_bytes()
    size = int(len(data) * keep) if keep == 0.5 else int(keep) % len(data) if keep < 0 else int(keep)
    saved.write_bytes(data[:size])
    with pytest.raises(CorruptFile, match="corrupt"):
        checkpoint.load(saved)


@pytest.mark.parametrize("content", [b"\0" * 5000, b"<!DOCTYPE html><html>" + b"x" * 5000])
def test_another_files_content(saved: Path, content: bytes) -> None:
    saved.write_bytes(content)
    with pytest.raises(CorruptFile, match="corrupt"):
        checkpoint.load(saved)


class Payload:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_a_pickle_that_runs_code_is_refused_and_not_run(tmp_path: Path, monkeypatch) -> None:
    ran = tmp_path / "ran"
    monkeypatch.setattr(checkpoint, "check_plain", lambda *_: None)  # write it with a sound SHA-256
    path = tmp_path / "evil.pt"
    checkpoint.save({"config": "", "payload": Payload(ran)}, path)
    with pytest.raises(UserError, match="refused"):
        checkpoint.load(path)
    assert not ran.exists()
    # And a bare pickle, as old torch files were.
    path.write_bytes(pickle.dumps(Payload(ran)) + b" " * 200)
    with pytest.raises(UserError):
        checkpoint.load(path)
    assert not ran.exists()


def test_a_newer_format_says_what_it_needs(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "new.pt"
    monkeypatch.setattr(checkpoint, "FORMAT", 99)
    checkpoint.save({**state(), "gentrain": "9.1.0"}, path)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"needs gentrain >= 9\.1\.0"):
        checkpoint.load(path)


def test_only_plain_values_are_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"\['turns'\]\['odd'\] is a set"):
        checkpoint.save({"config": "", "turns": {"odd": {1, 2}}}, tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_one_before_intact(tmp_path: Path) -> None:
    """The system itself refuses the bytes (a limit on file size), in a process of its own."""
    good = tmp_path / "a.pt"
    checkpoint.save(state(), good)
    before = good.read_bytes()
    script = f"""
import resource, signal, torch
from pathlib import Path
from gentrain.errors import Fault
from gentrain.training import checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save({{"config": "", "w": torch.zeros(1000, 1000)}}, Path({str(good)!r}))
except Fault as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert str(good) in done.stdout
    assert "3.8 MiB needed" in done.stdout
    assert good.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["a.pt"], "the partial file is removed"


def test_too_little_space_is_said_before_writing(tmp_path: Path, monkeypatch) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(Fault, match=r"No space left on device; 0\.0 MiB needed"):
        checkpoint.save(state(), tmp_path / "a.pt")
    assert not list(tmp_path.iterdir())


def test_a_write_that_was_killed(tmp_path: Path) -> None:
    """SIGKILL in the middle of a write: the file before it loads, the leftover is cleaned up."""
    good = tmp_path / "a.pt"
    checkpoint.save(state(), good)
    script = f"""
import os, signal, torch
from pathlib import Path
from gentrain.training import checkpoint
write = checkpoint._HashingFile.write
def killed(self, data):
    if self.written > 1_000_000:
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return write(self, data)
checkpoint._HashingFile.write = killed
checkpoint.save({{"config": "", "w": [torch.zeros(100_000) for _ in range(20)]}}, Path({str(good)!r}))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2, "there is a leftover to clean up"
    torch.testing.assert_close(checkpoint.load(good)["model"], state()["model"], rtol=0, atol=0)
    checkpoint.clean_leftovers(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["a.pt"]

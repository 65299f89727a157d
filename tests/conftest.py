"""Running the command line, in this process and as one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SUPPORT = TESTS / "support"
sys.path.insert(0, str(SUPPORT))


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    def one_line(self) -> str:
        """The single line on stderr that a user's mistake gets."""
        lines = [line for line in self.err.splitlines() if line.startswith("gentrain:")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One data cache for the whole session, away from the user's."""
    os.environ["GENTRAIN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gentrain(workplace: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`gentrain(*args)` in this process, in an empty folder."""
    import warnings

    from gentrain.cli import main

    def call(*args: str) -> Ended:
        capfd.readouterr()
        show = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # a warning is a line for the user here, no failure
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            status = main(list(args))
        warnings.showwarning = show
        out, err = capfd.readouterr()
        return Ended(status, out, err)

    return call


def environment(**more: str) -> dict[str, str]:
    """Of a child process: the toy models importable, one thread (they are small)."""
    path = os.pathsep.join([str(TESTS.parent), str(SUPPORT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", **more}


def start(*args: str, cwd: Path, **more: str) -> subprocess.Popen[str]:
    """`python -m gentrain <args>` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gentrain", *args],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_process(*args: str, cwd: Path, timeout: float = 120, **more: str) -> Ended:
    """Run `python -m gentrain <args>` to its end."""
    process = start(*args, cwd=cwd, **more)
    out, err = process.communicate(timeout=timeout)
    return Ended(process.returncode, out, err)


def toy(name: str, *more: str) -> list[str]:
    """Arguments that choose one of the tests' models."""
    return ["--config-dir", str(SUPPORT / "configs"), f"model={name}", "trust=[toys]", *more]

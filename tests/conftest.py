"""Fixtures for running the command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# One thread, before torch is imported: the models are small, and pools of threads fight over the cores.
os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent / "support"))

import torch
from running import Ended


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """One data cache for the whole session, away from the user's."""
    os.environ["GENTRAIN_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _subnormals() -> Iterator[None]:
    """Commands run in this process leave it flushing subnormal numbers, which hypothesis needs."""
    yield
    torch.set_flush_denormal(False)


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

"""Glow in whole runs: what its first batch set stays, over a resume and on every rank."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import same
from running import SUPPORT, Ended, environment

SMALL = ["model=glow", "dataset=digits", "model.depth=1", "model.hidden=4", "train.checkpoint_every=4"]


def test_a_resumed_run_is_the_uninterrupted_one(gentrain: Callable[..., Ended], workplace: Path) -> None:
    for name, steps in (("whole", 8), ("parted", 4)):
        done = gentrain("train", *SMALL, f"run_dir={name}", f"train.steps={steps}")
        assert done.status == 0, done.err
    done = gentrain("train", "resume=parted", "train.steps=8")
    assert done.status == 0, done.err
    whole, parted = (
        torch.load(Path(name) / "checkpoints" / "last.pt", weights_only=True) for name in ("whole", "parted")
    )
    same(whole["model"], parted["model"])
    same(whole["ema"], parted["ema"])
    marks = [value for name, value in whole["model"].items() if name.endswith("initialised")]
    assert len(marks) == 2 * 3
    assert all(marks)


@pytest.mark.slow
def test_ranks_start_from_the_same_first_batch(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = [str(SUPPORT / "ranks.py"), str(tmp_path), "train", *SMALL, "train.steps=3", "run_dir=run"]
    done = subprocess.run(
        [*command, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    same(one, two)
    assert all(value for name, value in one["model"].items() if name.endswith("initialised"))

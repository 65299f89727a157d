"""On a CPU commands take subnormal numbers for zero, in every thread that works for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

#: Runs commands; of many products below the smallest normal number, how many are then not zero.
PROGRAM = """
import sys, torch
from gentrain.cli import main
torch.set_num_threads(2)
for command in sys.argv[1:]:
    assert main(command.split()) == 0
print((torch.full((4_000_000,), 1e-30) * 1e-10).count_nonzero().item())
"""
TRAIN = "train model=vae_mlp model.hidden=[8] train.steps=2 run_dir=run device=cpu"


@pytest.mark.slow
@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor has no such setting")
@pytest.mark.parametrize("commands", [[], [TRAIN], ["sample ckpt=run n=4"]], ids=["none", "train", "sample"])
def test_they_are_zero_in_every_thread(commands: list[str], tmp_path: Path) -> None:
    def left(*commands: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *commands],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    if commands and commands != [TRAIN]:
        left(TRAIN)
    assert left(*commands) == (0 if commands else 4_000_000)

"""train.compile=true changes the speed, not the mathematics. Slow: the compiler itself takes its time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comparing import metrics
from running import OFTEN, Ended, toy

from gentrain.training import checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ["model=vae_mlp", "model.hidden=[16]", "optim.main.eps=1e-3"],
        ["model=iwae", "model.hidden=[[16]]", "model.k=4", "model.one_backward=true"],
        toy("toy_gan", "model.noise=fixed", "model.norm=false"),
    ],
    ids=["vae_mlp", "iwae one_backward", "toy_gan"],
)
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_the_compiled_loss_is_the_loss(gentrain: Callable[..., Ended], arguments: list[str]) -> None:
    settings = [*OFTEN, "train.steps=20"]
    for compiled in ("false", "true"):
        done = gentrain("train", *arguments, *settings, f"train.compile={compiled}", f"run_dir={compiled}")
        assert done.status == 0, done.err
        assert "cpp_extension" not in done.err  # that no CUDA device is there is no news
    first = [metrics(Path(folder))[0] for folder in ("false", "true")]
    assert all(first[1][key] == pytest.approx(value, rel=1e-4) for key, value in first[0].items())
    states = [checkpoint.load(Path(f"{folder}/checkpoints/last.pt"))["model"] for folder in ("false", "true")]
    assert all(torch.isfinite(value).all() for value in states[1].values())

"""What `gentrain train` says before it trains, and what a run keeps of how it was made."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from running import Ended

from gentrain.training import checkpoint, provenance

LITTLE = ["model=vae_mlp", "model.hidden=[8]", "train.batch_size=32", "train.sample_count=4"]


def test_a_run_keeps_commit_and_versions(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *LITTLE, "train.steps=2", "run_dir=run").status == 0
    made = yaml.safe_load(Path("run/config.yaml").read_text())["made"]
    assert made["versions"] == provenance.versions()
    assert (made["commit"] or "").removesuffix("-dirty") == (provenance.commit() or "").removesuffix("-dirty")
    last = Path("run/checkpoints/last.pt")
    state = checkpoint.load(last)
    assert yaml.safe_load(state["config"])["made"] == made

    # As begun by another version: it is kept, and takes nothing from what may go on.
    now = made["versions"]["torch"]
    state["config"] = state["config"].replace(f"torch: {now}", "torch: 2.0.0")
    last.unlink()
    checkpoint.save(state, last)
    resumed = gentrain("train", "resume=run", "train.steps=3")
    assert resumed.status == 0, resumed.err
    assert "not bit-exact" not in resumed.err
    assert yaml.safe_load(checkpoint.load(last)["config"])["made"]["versions"]["torch"] == "2.0.0"

    for verb in (["resume=run"], LITTLE):
        refused = gentrain("train", *verb, "made.commit=abc")
        assert refused.status == 2
        assert "made.commit" in refused.one_line()


def test_far_too_many_epochs_are_warned_of(gentrain: Callable[..., Ended], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Path("album").mkdir()
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(f"album/{i}.png")
    album = ["dataset=folder", "dataset.root=album", "train.batch_size=9"]
    many = gentrain("train", *LITTLE[:2], *album, "train.steps=2000", "dry_run=true")
    assert many.status == 0, many.err
    (line,) = [line for line in many.err.splitlines() if "epochs over" in line]
    assert re.match(r"warning: \d{3} epochs over 2\d images: .*train.epochs=100", line)
    few = gentrain("train", *LITTLE[:2], *album, "train.epochs=100", "dry_run=true")
    assert "epochs over" not in few.err
    default = gentrain("train", "model=gan", "dry_run=true")  # of all on digits, the one that goes on longest
    assert "epochs over" not in default.err


def test_the_disk_that_is_meant_is_the_run_folders(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(checkpoint, "free_space", lambda folder: asked.append(folder) or "1 MiB free")
    Path("other").mkdir()
    assert gentrain("train", *LITTLE, "run_dir=other/disk/run", "dry_run=true").status == 0
    assert asked == [Path("other").absolute()]

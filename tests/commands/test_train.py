"""What `gentrain train` says before it trains, and what a run keeps of how it was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
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

"""What must not move: every model's first steps, and the checkpoints of earlier days.

The values of this processor and torch hold to the bit. On another machine the losses of the first half of the
machine that has values must come out within rounding.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
from running import MODELS, Ended

from gentrain.training import checkpoint

VALUES = golden.read()
HERE = VALUES.get(golden.machine(), {})


def held(found: dict[str, Any], name: str) -> None:
    """Assert that a run's outcome is the golden one: to the bit here, within rounding elsewhere."""
    if name in HERE:
        assert {key: found[key] for key in ("losses", "weights")} == {
            key: HERE[name][key] for key in ("losses", "weights")
        }
        return
    entries = [models[name] for models in VALUES.values() if name in models]
    assert entries, f"{name} has no golden values: python tests/support/golden.py"
    for step, figures in entries[0]["losses"].items():
        early = int(step) <= golden.STEPS // 2  # players that answer one another make much of a rounding
        relative, absolute = (golden.RELATIVE, golden.ABSOLUTE) if early else golden.LATER
        near = pytest.approx(figures, rel=relative, abs=absolute, nan_ok=True)
        assert found["losses"][step] == near, step


@pytest.mark.parametrize("name", MODELS)
def test_a_short_training_ends_where_it_did(name: str, gentrain: Callable[..., Ended]) -> None:
    ended = gentrain(*golden.arguments(name, "run"))
    assert ended.status == 0, ended.err
    held(golden.outcome(Path("run")), name)


@pytest.mark.parametrize("name", MODELS)
def test_a_checkpoint_of_the_first_day_loads_and_trains_on(name: str, gentrain: Callable[..., Ended]) -> None:
    """A file of today's commit: resumed, it ends where the run that wrote it ended."""
    file = golden.CHECKPOINTS / f"{name}.pt"
    found = golden.shown(file)
    if name in HERE:
        assert found == HERE[name]["shown"]
    run = Path("run")
    (run / "checkpoints").mkdir(parents=True)
    shutil.copyfile(file, run / "checkpoints" / "last.pt")
    (run / "config.yaml").write_text(checkpoint.load(file)["config"])
    ended = gentrain("train", "resume=run", "resume_inexact=true")
    assert ended.status == 0, ended.err
    now = golden.outcome(run)
    losses = {step: line for step, line in now["losses"].items() if int(step) > golden.STEPS // 2}
    if name in HERE and HERE[name].get("wrote", True):
        assert now["weights"] == HERE[name]["weights"]
        assert losses == {step: HERE[name]["losses"][step] for step in losses}
    assert losses

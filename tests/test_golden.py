"""What must not move: every model's first steps, and the checkpoints of earlier days.

The values of this processor and torch hold to the bit. On another machine the losses must come out within
rounding of those of the machines that have values.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
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
    entries = [models[name]["losses"] for models in VALUES.values() if name in models]
    assert entries, f"{name} has no golden values: python tests/support/golden.py"
    known = {
        (step, figure): [e[step][figure] for e in entries]
        for step in entries[0]
        for figure in entries[0][step]
    }
    early = [key for key in known if int(key[0]) <= golden.STEPS // 2]
    # Players that answer one another make much of a rounding: in what the known machines differ early,
    # another one may as they all may later.
    agreed = {figure for _, figure in early} - {
        key[1] for key in early if not all(near(one, known[key][:1], golden.EARLY) for one in known[key])
    }
    apart = {}
    for (step, figure), values in known.items():
        value = found["losses"][step].get(figure)
        bound = golden.EARLY if (step, figure) in early and figure in agreed else golden.LATER
        if value is None or not near(value, values, bound):
            apart[f"{figure} at step {step}"] = value, values
    assert not apart


def near(value: float, known: Sequence[float], bound: tuple[float, float]) -> bool:
    """Whether a figure is that of the machines that have values, but for a (relative, absolute) difference.

    The more those differ in it themselves, the more another one may.
    """
    if any(math.isnan(one) for one in (value, *known)):
        return all(math.isnan(one) for one in (value, *known))
    low, high = min(known), max(known)
    slack = max(bound[1], bound[0] * max(abs(low), abs(high))) + golden.SPREADS * (high - low)
    return low - slack <= value <= high + slack


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


def test_what_is_near() -> None:
    """Rounding where the known machines agree, a multiple of their spread where they do not, and no more."""
    assert near(1.000001, [1.0, 1.0], golden.EARLY)
    assert not near(1.001, [1.0, 1.0], golden.EARLY)
    assert near(1.2, [1.0], golden.LATER)
    assert not near(1.3, [1.0], golden.LATER)
    assert near(1.3, [1.0, 1.1], golden.EARLY)
    assert not near(1.5, [1.0, 1.1], golden.EARLY)
    assert near(math.nan, [math.nan], golden.EARLY)
    assert not near(math.nan, [1.0], golden.LATER)


@pytest.mark.parametrize("machine", VALUES)
def test_each_machines_values_are_held_by_those_of_all(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has none; a hundredth more is not."""
    monkeypatch.setitem(globals(), "HERE", {})
    for name, entry in VALUES[machine].items():
        held(entry, name)
        moved = {step: {k: 1.01 * v for k, v in figures.items()} for step, figures in entry["losses"].items()}
        with pytest.raises(AssertionError):
            held({**entry, "losses": moved}, name)

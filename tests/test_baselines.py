"""The table of baselines is what results/baselines.json holds; bars of our own lie past them."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from composing_once import composed_once
from running import TESTS


@pytest.fixture(scope="module")
def baselines() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TESTS.parent / "scripts"))
    module = importlib.import_module("baselines")
    module.recipe = lambda name: composed_once(f"experiment={name}")  # which other tests compose too
    yield module
    sys.path.pop(0)


def a_result(**changed: Any) -> dict[str, Any]:
    """Three seeds of cgan_mnist after one update."""
    accuracies, diversities = (0.1, 0.14, 0.12), (0.3, 0.2, 0.1)
    seeds = {
        str(seed): {"labels.accuracy": accuracy, "labels.diversity": diversity}
        for seed, (accuracy, diversity) in enumerate(zip(accuracies, diversities, strict=True))
    }
    plain = {
        "experiment": "cgan_mnist",
        "seeds": seeds,
        "changed": ["seeds=[0,1,2]", "train.steps=1"],
        "date": "2026-01-02",
        "hardware": "a processor, 2 cores, 1 thread",
        "commit": "0" * 40,
        "command": "gentrain reproduce experiment=cgan_mnist seeds=[0,1,2] train.steps=1",
    }
    return plain | changed


def test_the_table_agrees_with_what_is_kept(baselines: ModuleType) -> None:
    text = baselines.PAGE.read_text()
    assert baselines.renewed(text) == text, "run: python scripts/baselines.py"


def test_an_experiments_bars_lie_past_its_baselines(baselines: ModuleType) -> None:
    """Bars that a baseline reaches say nothing of the model: one of an experiment's at least it must not.

    One alone it may: nets that draw one thing are sure of it, and colours that mean nothing are strong.
    """
    for name, entries in baselines.kept().items():
        for entry in entries:
            past = []
            for target in composed_once(f"experiment={name}").targets:
                at_least = target.at_least is not None
                values = [figures[target.metric] for figures in entry["seeds"].values()]
                least = baselines.past(values, at_least)
                bar = target.at_least if at_least else target.at_most
                past.append(bar > least if at_least else bar < least)
            assert any(past), (name, entry["with"])


def test_two_standard_deviations_by_hand(baselines: ModuleType) -> None:
    # 1, 2, 3: mean 2, deviation 1.
    assert baselines.past([1.0, 2.0, 3.0], at_least=True) == pytest.approx(4.0)
    assert baselines.past([1.0, 2.0, 3.0], at_least=False) == pytest.approx(0.0)


def test_what_is_held_against_a_baseline(baselines: ModuleType) -> None:
    assert baselines.held(None, 4.0, True) == "not yet run"
    assert baselines.held(4.5, 4.0, True) == "4.5"
    assert baselines.held(4.0, 4.0, True) == "4: not beaten"
    assert baselines.held(3.5, 4.0, False) == "3.5"
    assert baselines.held(4.5, 4.0, False) == "4.5: not beaten"


def test_a_baseline_becomes_rows_and_takes_the_place_of_the_same_one(
    baselines: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baselines, "KEPT", tmp_path / "baselines.json")
    monkeypatch.setattr(baselines, "RESULTS", tmp_path)
    assert baselines.rows() == []
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result()))
    assert baselines.keep(file) is None
    accuracy, diversity = baselines.rows()
    assert accuracy == [
        *("`cgan_mnist`", "accuracy", "at least 0.98", "`train.steps=1`"),
        "0.1, 0.14, 0.12 of seeds 0, 1, 2",
        "at least 0.16",
        "not yet run",
        "a processor, 2 cores, 1 thread, 2026-01-02",
    ]
    assert diversity[4:6] == ["0.3, 0.2, 0.1 of seeds 0, 1, 2", "at least 0.4"]

    (tmp_path / "cgan_mnist").mkdir()
    obtained = {"labels.accuracy": 0.99, "labels.diversity": 0.25}
    (tmp_path / "cgan_mnist" / "result.json").write_text(json.dumps({"obtained": obtained}))
    assert [row[6] for row in baselines.rows()] == ["0.99", "0.25: not beaten"]

    file.write_text(json.dumps(a_result(date="2026-01-03")))
    assert baselines.keep(file) is None
    assert [row[7][-10:] for row in baselines.rows()] == ["2026-01-03"] * 2
    file.write_text(json.dumps(a_result(changed=["seeds=[0,1,2]", "model.n_critic=2"])))
    assert baselines.keep(file) is None
    assert [row[3] for row in baselines.rows()] == ["`train.steps=1`"] * 2 + ["`model.n_critic=2`"] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seeds": {}}, "has fewer than 3 seeds"),
        ({"changed": ["seeds=[0,1,2]"]}, "is the experiment itself"),
        ({"seeds": {str(seed): {"labels.accuracy": 0.1} for seed in range(3)}}, "the targets are"),
        ({"commit": "0" * 40 + "-dirty"}, "differed from its commit"),
        ({"date": None, "seeds": None}, "is no result"),
    ],
)
def test_what_is_no_baseline_is_refused(
    baselines: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    reason: str,
) -> None:
    monkeypatch.setattr(baselines, "KEPT", tmp_path / "baselines.json")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result(**change)))
    assert reason in str(baselines.keep(file))
    assert not baselines.KEPT.exists()
    file.write_text("{")
    assert "cannot be read" in str(baselines.keep(file))

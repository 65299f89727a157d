"""The README's table of reproductions is what results/ holds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from running import TESTS

from gentrain.api import compose_train
from gentrain.commands.reproduce import check_targets
from gentrain.config import options

ROOT = TESTS.parent
KEPT = sorted((ROOT / "results").glob("*.json"))


@pytest.fixture(scope="module")
def accept() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accept", ROOT / "scripts" / "accept.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def a_result(**changed: Any) -> dict[str, Any]:
    """One of vae_mnist."""
    metric = "likelihood.nats"
    target = compose_train(["experiment=vae_mnist"]).targets[0]
    plain = {
        "experiment": "vae_mnist",
        "published": {metric: target.published},
        "wanted": {metric: "at most 86.76"},
        "obtained": {metric: 87.0123},
        "stderr": {metric: 0.0812},
        "tolerance": {metric: target.tolerance},
        "verdict": {metric: "reproduced"},
        "estimator": {metric: "IWAE-5000, test, 10,000 images"},
        "source": {metric: target.source},
        "minutes": 61.5,
        "steps": 10,
        "date": "2026-01-02",
        "hardware": "a processor, 2 cores, 1 thread",
        "versions": {},
        "commit": "0" * 40,
        "command": "gentrain reproduce experiment=vae_mnist",
        "changed": [],
    }
    return plain | changed


def test_the_readme_agrees_with_results(accept: ModuleType) -> None:
    text = (ROOT / "README.md").read_text()
    assert accept.renewed(text) == text, "run: make accept"
    assert "not yet run" in accept.table() or len(KEPT) == len(accept.rows())


def test_every_experiment_with_targets_has_a_row(accept: ModuleType) -> None:
    named = {row[0].strip("`") for row in accept.rows()}
    assert named == {name for name in options("experiment") if compose_train([f"experiment={name}"]).targets}
    assert {"vae_mnist", "iwae_mnist", "vae_digits", "ae_digits", "dae_digits", "vae_cifar10"} <= named


@pytest.mark.parametrize("file", KEPT, ids=lambda f: f.stem)
def test_what_is_kept_is_sound(accept: ModuleType, file: Path) -> None:
    result = json.loads(file.read_text())
    assert result["experiment"] == file.stem
    assert accept.problem(result) is None


@pytest.mark.parametrize("name", options("experiment"))
def test_targets_can_be_measured(name: str) -> None:
    config = compose_train([f"experiment={name}"])
    if config.targets:
        check_targets(config, name)


def test_a_result_becomes_a_row(accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result()))
    assert accept.accept(file) is None
    (row,) = [row for row in accept.rows() if row[0] == "`vae_mnist`"]
    assert row[2:7] == [
        "86.76",
        "87.012 +- 0.081 (IWAE-5000, test, 10,000 images)",
        "0.4",
        "reproduced",
        "61.5",
    ]
    file.write_text(json.dumps(a_result(changed=["train.steps=3"])))
    assert accept.accept(file) is None
    (row,) = [row for row in accept.rows() if row[0] == "`vae_mnist`"]
    assert row[3].endswith("with `train.steps=3`")


def test_a_cell_stays_a_cell(accept: ModuleType) -> None:
    assert accept.plain("x|y\n| <b>z") == "x\\|y \\| &lt;b&gt;z"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"commit": "0" * 40 + "-dirty"}, "differed from its commit"),
        ({"tolerance": {"likelihood.nats": 9.0}}, "its target has changed"),
        ({"obtained": {}}, "the targets are"),
        ({"obtained": {"likelihood.nats": float("nan")}}, "expected a finite number"),
        ({"obtained": {"likelihood.nats": "<script>"}}, "expected a finite number"),
        ({"verdict": {"likelihood.nats": "better"}}, "is not 'better'"),
        ({"stderr": {"likelihood.nats": "x"}}, "standard error"),
        ({"minutes": "many"}, "minutes: expected a number"),
        ({"commit": None}, "names no commit"),
        ({"stderr": None}, "is no result"),
        ({"experiment": "nothing"}, "no experiment"),
    ],
)
def test_what_is_not_kept(
    accept: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(accept, "RESULTS", tmp_path / "results")
    file = tmp_path / "result.json"
    file.write_text(json.dumps(a_result(**change)))
    assert reason in accept.accept(file)
    file.write_text("{}")
    assert "lacks" in accept.accept(file)
    file.write_text("<html>")
    assert "cannot be read" in accept.accept(file)
    assert not (tmp_path / "results").exists()

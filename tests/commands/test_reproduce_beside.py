"""An experiment of two runs: the recipe, and beside it the same with a setting changed."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from reproducing import FOLDER
from running import Ended

SHARE = {
    "metric": "translation.l1_of_beside",
    "published": None,
    "at_most": 100.0,
    "source": "a bar of our own",
}
BESIDE = {"model": {"adversarial": False}}


@pytest.fixture
def reproduce(gentrain: Callable[..., Ended], workplace: Path, quick_judge: None) -> Callable[..., Ended]:
    """`reproduce(*overrides, targets=[...], beside={...})`: of a little Pix2Pix on digits, 4 steps long."""

    def call(*more: str, targets: Any = (SHARE,), beside: Any = BESIDE) -> Ended:
        experiment = {
            "defaults": [{"override /model": "pix2pix"}, {"override /dataset": "digits"}],
            "model": {"channels": 4, "patch_channels": 4},
            "dataset": {"source": "invert"},
            "train": {"steps": 4, "batch_size": 8, "sample_every": 4, "checkpoint_every": 2},
            "targets": list(targets),
            "beside": beside,
        }
        file = workplace.parent / "own" / "experiment" / "tiny.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\n" + yaml.safe_dump(experiment))
        return gentrain("reproduce", "--config-dir", str(file.parents[1]), "experiment=tiny", *more)

    return call


def test_a_figure_is_of_both_runs(
    reproduce: Callable[..., Ended],
    result: Callable[[], dict[str, Any]],
    gentrain: Callable[..., Ended],
) -> None:
    done = reproduce()
    assert done.status == 0, done.err
    second = FOLDER / "beside"
    kept = {place: yaml.safe_load((place / "config.yaml").read_text()) for place in (FOLDER, second)}
    assert [kept[place]["model"]["adversarial"] for place in kept] == [True, False]
    differing = [
        key for key in kept[FOLDER]["model"] if len({str(c["model"][key]) for c in kept.values()}) > 1
    ]
    assert differing == ["adversarial"], "but for what is changed it is the recipe"
    assert kept[FOLDER]["train"] == kept[second]["train"]
    assert kept[FOLDER]["dataset"] == kept[second]["dataset"]

    found = result()
    assert found["beside"] == ["model.adversarial=false"]
    command = ["eval", f"ckpt={FOLDER}", "metrics=[translation]", f"beside={second}"]
    assert gentrain(*command).status == 0
    by_hand = json.loads(Path(FOLDER / "eval_translation_test.json").read_text())
    assert found["obtained"] == {"translation.l1_of_beside": by_hand["l1_of_beside"]}
    assert by_hand["l1_of_beside"] == pytest.approx(by_hand["l1"] / by_hand["l1_beside"])

    again = reproduce()
    assert again.status == 0
    assert again.out.count("is complete") == 2
    assert result()["obtained"] == found["obtained"]


def test_the_second_is_gone_on_with(reproduce: Callable[..., Ended], result: Callable[[], Any]) -> None:
    assert reproduce().status == 0
    before = result()["obtained"]
    for file in (FOLDER / "beside/checkpoints").glob("*4.pt"):
        file.unlink()
    (FOLDER / "beside/checkpoints/last.pt").unlink()
    (FOLDER / "beside/checkpoints/last.pt").symlink_to("step_00000002.pt")
    (FOLDER / "result.json").unlink()
    done = reproduce()
    assert done.status == 0, done.err
    assert done.out.count("is complete") == 1
    assert result()["obtained"] == before, "to the bit"


def test_a_second_run_that_goes_on_takes_the_result_away(
    reproduce: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce().status == 0
    shutil.rmtree(FOLDER / "beside")
    monkeypatch.setattr("gentrain.commands.reproduce.compared", lambda *arguments: 1 / 0)
    assert reproduce().status == 1
    assert not (FOLDER / "result.json").exists()


def test_another_second_run_is_another_recipe(reproduce: Callable[..., Ended]) -> None:
    assert reproduce().status == 0
    done = reproduce(beside={"model": {"adversarial": False, "l1_weight": 3.0}})
    assert done.status == 2
    assert "was begun with model.l1_weight=100" in done.one_line()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"beside": None}, "translation.l1_of_beside is of two runs: name what is changed for the second"),
        ({"targets": [{**SHARE, "metric": "translation.l1"}]}, "beside: no target is of two runs"),
        ({"beside": {"model": {"adversaril": False}}}, "beside.model.adversaril: the experiment has no"),
        ({"beside": {"train": {"steps": 0}}}, "train.steps"),
        ({"beside": {"seed": "one"}}, "seed"),
    ],
)
def test_what_cannot_stand_beside(
    reproduce: Callable[..., Ended], settings: dict[str, Any], said: str
) -> None:
    done = reproduce(**settings)
    assert done.status == 2
    assert said in done.one_line()
    assert not FOLDER.exists()


def test_overrides_are_of_both(reproduce: Callable[..., Ended], result: Callable[[], Any]) -> None:
    done = reproduce("train.steps=2", "seed=3")
    assert done.status == 0, done.err
    for place in (FOLDER, FOLDER / "beside"):
        kept = yaml.safe_load((place / "config.yaml").read_text())
        assert (kept["train"]["steps"], kept["seed"]) == (2, 3)
    assert shlex.split(result()["command"])[-2:] == ["train.steps=2", "seed=3"]

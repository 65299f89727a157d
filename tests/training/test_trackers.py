"""`track=`: a module with wandb's interface is told what TensorBoard is, and never ends a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import MODELS, OFTEN, Ended

#: A tracker that writes what it is told.
MODULE = """
import json, os
class Image:
    def __init__(self, array): self.shape = list(array.shape)
class Run:
    def log(self, values, step):
        {fails}
        told.append([step, {{k: v.shape if isinstance(v, Image) else v for k, v in values.items()}}])
    def finish(self):
        with open("told.json", "w") as file: json.dump([begun, told], file)
begun, told = {{}}, []
def init(project, name, config, dir, resume=None):
    begun.update(project=project, name=name, config=config, dir=dir, mode=os.environ["WANDB_MODE"])
    return Run()
"""
FEW = [*MODELS["vae_mlp"], *OFTEN, "train.steps=20", "run_dir=run"]


def tracker(workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, fails: str = "pass") -> None:
    """A module `name` in the current folder."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.syspath_prepend(str(workplace))
    Path(f"{name}.py").write_text(MODULE.format(fails=fails))
    sys.modules.pop(name, None)


def test_a_tracker_is_told_figures_and_pictures(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker(workplace, monkeypatch, "own_tracker")
    done = gentrain("train", *FEW, "track=[own_tracker]", "trust=own_tracker")
    assert done.status == 0, done.err
    begun, told = json.loads(Path("told.json").read_text())
    assert begun["config"]["model.hidden"] == "[16]"
    assert begun["name"] == "run", "no path from the root, where some trackers would write"
    assert begun["mode"] == "offline", "nothing is sent anywhere by itself"
    assert begun["dir"] == str(Path("run").resolve()) or begun["dir"] == "run"
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert any(step == line["step"] and values.items() <= line.items() for step, values in told)
    assert any("samples" in values for _, values in told)
    assert not list(Path("run").glob("events.out.*")), "TensorBoard was not asked for"


@pytest.mark.parametrize("fails", ["raise OSError('no network')", "raise SystemExit(1)"])
def test_a_tracker_that_fails_warns_once_and_the_run_goes_on(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    tracker(workplace, monkeypatch, "own_tracker", fails)
    done = gentrain("train", *FEW, "track=[tensorboard,own_tracker]", "trust=own_tracker")
    assert done.status == 0, done.err
    assert done.err.count("training goes on without it") == 1
    assert list(Path("run").glob("events.out.*"))
    again = gentrain("train", "resume=run", "train.steps=30", "track=[]")
    assert again.status == 0, again.err


def test_none_at_all(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *FEW, "track=[]").status == 0
    assert Path("run/metrics.jsonl").exists()
    assert not list(Path("run").glob("events.out.*"))


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["track=[tensorbord]"],
            "track: expected tensorboard, wandb, trackio, found 'tensorbord'; a module",
        ),
        (["track=[json]"], "a module of your own with wandb's interface: trust=json"),
        (["track=[trackio]"], "track=trackio: it is not installed: pip install"),
    ],
)
def test_mistakes_are_one_line(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "trackio" else find(name, *a)
    )
    done = gentrain("train", *FEW, *arguments)
    assert done.status == 2
    assert part in done.one_line()
    assert not Path("run").exists()

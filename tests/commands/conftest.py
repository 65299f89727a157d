"""Small trained models and exports of some, made once and copied into each test's folder."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from exporting import FEW
from reproducing import FOLDER, TARGET
from running import SUPPORT, Ended, quietly_in, toy

from gentrain.cli import main
from gentrain.metrics import classifier
from gentrain.metrics.classifier import Recipe

LITTLE = ["dataset=digits", "train.steps=20", "train.batch_size=32", "train.sample_count=4", "seed=3"]


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which both were trained."""
    place = tmp_path_factory.mktemp("trained")
    with quietly_in(place):
        small = ["model=vae_mlp", "model.hidden=[16]", "model.latent_dim=4", "run_dir=mlp"]
        assert main(["train", *small, *LITTLE]) == 0
        small = ["model=vae", "model.channels=[8]", "model.hidden=16", "model.latent_dim=4"]
        assert main(["train", *small, *LITTLE]) == 0
    return place


@pytest.fixture
def trained(trained_once: Path, workplace: Path) -> SimpleNamespace:
    """Both models in the current folder, for the test to do with as it likes.

    mlp: the folder of a vae_mlp; conv: that of a vae, which is the newest run; spaced: a copy of `mlp`
    whose name a shell would split.
    """
    shutil.copytree(trained_once, workplace, symlinks=True, dirs_exist_ok=True)
    shutil.copytree("mlp", "my runs/one (1)")
    (conv,) = (
        f.parent for f in Path("outputs/vae-digits").glob("*/config.yaml") if f.parent.name != "latest"
    )
    return SimpleNamespace(mlp=Path("mlp"), conv=conv, spaced=Path("my runs/one (1)"))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `flow` and `gan`, their exports `flow-export` and `gan-export`."""
    place = tmp_path_factory.mktemp("exported")
    with quietly_in(place) as patch:
        patch.syspath_prepend(str(SUPPORT))
        for name in ("flow", "gan"):
            assert main(["train", *toy(f"toy_{name}"), *FEW, f"run_dir={name}"]) == 0
            assert main(["export", f"ckpt={name}", f"out={name}-export", "trust=toys", "n=4"]) == 0
    return place


@pytest.fixture
def made(made_once: Path, workplace: Path) -> Path:
    """A copy of them in the current folder."""
    shutil.copytree(made_once, workplace, symlinks=True, dirs_exist_ok=True)
    return workplace


@pytest.fixture
def quick_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """A classifier that is trained in a second: what it sees is not what is tested."""
    monkeypatch.setattr(classifier, "RECIPE", Recipe(widths=(8, 8), steps=100))


@pytest.fixture
def follow(gentrain: Callable[..., Ended]) -> Callable[..., Ended]:
    """Types the command that the last line of an output proposes, as a shell would read it."""

    def follow_(ended: Ended, *more: str) -> Ended:
        assert ended.status == 0, ended.err
        word, _, command = ended.out.splitlines()[-1].partition(" ")
        assert word == "next"
        program, *arguments = shlex.split(command)
        assert program == "gentrain"
        return gentrain(*arguments, *more)

    return follow_


@pytest.fixture
def reproduce(gentrain: Callable[..., Ended], workplace: Path) -> Callable[..., Ended]:
    """`reproduce(*overrides, targets=[...])`: of a little VAE on digits, 20 steps long."""

    def call(*more: str, targets: Any = (TARGET,), verb: str = "reproduce", **recipe: Any) -> Ended:
        experiment = {
            "defaults": [{"override /model": "vae_mlp"}, {"override /dataset": "digits"}],
            "model": {"hidden": [16], "latent_dim": 4},
            "train": {"steps": 20, "batch_size": 32, "checkpoint_every": 5, "sample_count": 4, **recipe},
            "targets": list(targets),
        }
        file = workplace.parent / "own" / "experiment" / "tiny.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("# @package _global_\n" + yaml.safe_dump(experiment))
        return gentrain(verb, "--config-dir", str(file.parents[1]), "experiment=tiny", *more)

    return call


@pytest.fixture
def result() -> Callable[[], dict[str, Any]]:
    return lambda: json.loads((FOLDER / "result.json").read_text())

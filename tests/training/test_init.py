"""`gentrain train init=`: a new run from a checkpoint has its run's settings, but for what is typed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from running import SUPPORT, Ended, quietly_in, toy

from gentrain.cli import main
from gentrain.training import checkpoint

ODD = [
    *("model=vae_mlp", "model.hidden=[16]", "model.latent_dim=4", "dataset.flip=true", "train.steps=3"),
    *("optim.main._target_=torch.optim.SGD", "+optim.main.momentum=0.5", "optim.main.lr=0.125"),
    *("~optim.main.betas", "~optim.main.eps", "~optim.main.fused", "threads=1", "seed=5"),
    *("schedule.main._target_=constant_then_linear", "schedule.main.constant=2"),
    "schedule.main.total=${train.steps}",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the run `run`, of settings that no model has, and an export of it, `shared`."""
    folder = tmp_path_factory.mktemp("init")
    with quietly_in(folder):
        assert main(["train", *ODD, "run_dir=run"]) == 0
        assert main(["export", "ckpt=run", "out=shared", "n=4"]) == 0
        yield folder


@pytest.fixture
def place(trained: Path, workplace: Path) -> Path:
    """Where commands run: copies of both."""
    shutil.copytree(trained, workplace, dirs_exist_ok=True)
    return workplace


def config(run: str) -> DictConfig:
    found = OmegaConf.load(f"{run}/config.yaml")
    assert isinstance(found, DictConfig)
    return found


def test_all_is_as_in_the_run_but_for_what_is_typed(place: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", "init=run", "optim.main.lr=0.25", "run_dir=all")
    assert done.status == 0, done.err
    assert "note    as in run, where nothing else is typed: model=vae_mlp dataset=digits " in done.out
    then, now = config("run"), config("all")
    assert now.optim.main.lr == 0.25
    now.optim.main.lr = then.optim.main.lr
    for section in ("model", "dataset", "optim", "schedule", "train", "seed", "precision"):
        assert now[section] == then[section], section
    assert (now.names.model, now.names.dataset, now.init) == ("vae_mlp", "digits", "run")
    assert now.threads is None, "of this machine nothing is known"
    assert gentrain("train", "init=run", "run_dir=all").status == 2, "the folder of the new run holds one"


def test_an_export_says_how_its_weights_were_trained(place: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", "init=shared", "optim.main.lr=0", "run_dir=again")
    assert done.status == 0, done.err
    assert config("again").model.hidden == [16]
    assert config("again").optim.main == {**config("run").optim.main, "lr": 0}
    old, new = (checkpoint.load(Path(f"{run}/checkpoints/last.pt")) for run in ("run", "again"))
    weights = old["ema"] or old["model"]
    assert all(torch.equal(new["model"][k], v) for k, v in weights.items())


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (["model=vae_mlp", "dataset=digits"], {"model.hidden": [16], "train.steps": 3, "dataset.flip": True}),
        (["dataset.flip=false"], {"model.hidden": [16], "dataset.flip": False}),
        (["train.epochs=2"], {"model.hidden": [16], "train.epochs": 2}),
        (["optim.main._target_=torch.optim.RAdam", "~optim.main.fused"], {"optim.main.betas": [0.9, 0.999]}),
        (["~optim.main.momentum"], {"optim.main": {"_target_": "torch.optim.SGD", "lr": 0.125}}),
        (["+optim.main.nesterov=true"], {"optim.main.nesterov": True, "optim.main.lr": 0.125}),
        (["schedule={}"], {"model.hidden": [16], "schedule": {}}),
    ],
    ids=["the same names", "data", "epochs", "class", "removed", "added", "section"],
)
def test_what_counts(
    place: Path, gentrain: Callable[..., Ended], typed: list[str], kept: dict[str, object]
) -> None:
    done = gentrain("train", "init=run", *typed, "run_dir=new")
    assert done.status == 0, done.err
    for key, value in kept.items():
        assert OmegaConf.select(config("new"), key) == value, key


def test_another_model_has_its_own_settings(place: Path, gentrain: Callable[..., Ended]) -> None:
    refused = gentrain("train", "init=run", "model=gan", "dataset.validation=50", "run_dir=gan")
    assert "is a vae_mlp, not a gan" in refused.one_line()
    # Of the data what the run had, with what was typed; of the model nothing.
    assert "train 1,450, validation 50" in refused.out
    assert "dataset.flip=true" in refused.out
    assert "model.hidden" not in refused.out


def test_an_experiment_says_all(place: Path, gentrain: Callable[..., Ended]) -> None:
    refused = gentrain("train", "init=run", "experiment=vae_digits", "run_dir=other", "dry_run=true")
    assert refused.status == 2
    assert "as in run" not in refused.out


def test_on_other_pictures_of_the_same_kind(
    place: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the run are gone; where the new ones lie has a blank, a comma and an equals sign."""
    rng = np.random.default_rng(0)
    for folder in ("first", "the second, = (2)"):
        for split in ("train", "test"):
            Path(folder, split).mkdir(parents=True)
            for i in range(8):
                Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(
                    f"{folder}/{split}/{i}.png"
                )
    small = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "dataset=folder", "dataset.image_size=8"]
    more = ["dataset.channels=1", "dataset.validation=2", "train.batch_size=4"]
    done = gentrain("train", *small, *more, "dataset.root=first", "run_dir=pictures")
    assert done.status == 0, done.err
    # From another folder: the root was typed relative to the one before.
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert gentrain("train", "init=../pictures", "run_dir=same").status == 0
    Path("../first").rename("../gone")
    lost = gentrain("train", "init=../pictures", "run_dir=lost")
    assert lost.status == 2
    assert "dataset.root" in lost.one_line()
    done = gentrain("train", "init=../pictures", "dataset.root=../the second, = (2)", "run_dir=second")
    assert done.status == 0, done.err
    assert config("second").model.hidden == [8]
    again = gentrain("train", "init=second", "run_dir=third")  # its root is taken over, blanks and all
    assert again.status == 0, again.err


def test_a_model_of_ones_own(place: Path, gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *toy("toy_flow"), "train.steps=2", "run_dir=own").status == 0
    where = ["--config-dir", str(SUPPORT / "configs"), "trust=[toys]"]
    done = gentrain("train", *where, "init=own", "train.steps=1", "run_dir=own-2")
    assert done.status == 0, done.err
    unknown = gentrain("train", "trust=[toys]", "init=own", "run_dir=own-3")
    assert unknown.status == 2
    assert "model=toy_flow" in unknown.one_line()
    assert "--config-dir FOLDER" in unknown.one_line()
    assert not Path("own-3").exists()


def test_what_is_typed_wrong_is_named(place: Path, gentrain: Callable[..., Ended]) -> None:
    assert (
        "model=vea: no such model; did you mean vae" in gentrain("train", "init=run", "model=vea").one_line()
    )
    assert gentrain("train", "init='").status == 2
    assert "unknown key model.hiden" in gentrain("train", "init=run", "model.hiden=[4]").one_line()


def test_what_a_refused_change_suggests_works(place: Path, gentrain: Callable[..., Ended]) -> None:
    refused = gentrain("train", "resume=run", "optim.main.lr=0.5")
    command = refused.one_line().partition("gentrain train ")[2]
    assert command == "init=run optim.main.lr=0.5"
    assert gentrain("train", *command.split(), "run_dir=suggested").status == 0
    assert config("suggested").optim.main.lr == 0.5


def test_what_is_wrong_with_a_setting_of_the_run_says_so(place: Path, gentrain: Callable[..., Ended]) -> None:
    refused = gentrain("train", "init=run", "~optim.main._target_", "run_dir=none")
    assert refused.status == 2
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    state["config"] = state["config"].replace("momentum: 0.5", "momentum: -1")
    checkpoint.save(state, Path("bad.pt"))
    refused = gentrain("train", "init=bad.pt", "run_dir=none")
    assert "optim.main" in refused.one_line()
    assert "as in the run of init=bad.pt; type another" in refused.one_line()
    assert not Path("none").exists()


def test_a_configuration_that_is_none(place: Path, gentrain: Callable[..., Ended]) -> None:
    """With model and data typed the weights can be had all the same."""
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    state["config"] = "model: ["
    checkpoint.save(state, Path("bad.pt"))
    assert gentrain("train", "init=bad.pt", "optim.main.lr=1").status == 2
    done = gentrain("train", "init=bad.pt", *ODD, "dataset=digits", "run_dir=saved")
    assert done.status == 0, done.err
    assert "as in bad.pt" not in done.out


def test_settings_that_a_model_has_no_more_are_left_out(place: Path, gentrain: Callable[..., Ended]) -> None:
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    state["config"] = state["config"].replace("latent_dim: 4", "latent_dim: 4\n  encoder_norm: false")
    checkpoint.save(state, Path("old.pt"))
    done = gentrain("train", "init=old.pt", "run_dir=young")
    assert done.status == 0, done.err
    assert "encoder_norm" not in config("young").model


def test_several_checkpoints_are_swept_as_typed(place: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("train", "-m", *ODD, "init=run,shared", "schedule.main.total=9")
    assert done.status == 0, done.err
    assert "as in run" not in done.out
    done = gentrain("train", "-m", "init=run", "optim.main.lr=0.5,0.25", "train.steps=4")
    assert done.status == 0, done.err
    assert done.out.count("as in run, where nothing else is typed: model=vae_mlp") == 2
    assert "== init='run' optim.main.lr=0.25 train.steps=4\n" in done.out, "what was taken is not shown"

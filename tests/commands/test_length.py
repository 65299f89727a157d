"""Schedules follow a run's length, however it is given and whenever it changes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from comparing import metrics, same
from omegaconf import OmegaConf
from running import Ended, stop_at
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from gentrain.commands.length import saved_text
from gentrain.commands.schedules import check_schedules
from gentrain.config import conform
from gentrain.errors import UserError
from gentrain.schemas import TrainConfig
from gentrain.training import checkpoint

#: A cosine down to zero over the run.
COSINE = ["model=ae_linear", "model.latent_dim=2", "train.batch_size=135", "train.log_every=1"]
STEPS_OF_AN_EPOCH = 10


@pytest.fixture
def train(gentrain: Callable[..., Ended]) -> Callable[..., Ended]:
    """`gentrain train`, which ends well."""

    def call(*arguments: str) -> Ended:
        done = gentrain("train", *arguments)
        assert done.status == 0, done.err
        return done

    return call


def rates(run: str) -> list[float]:
    """The learning rate after each step."""
    return [line["lr/main"] for line in metrics(Path(run)) if "lr/main" in line]


def saved(run: str) -> dict[str, Any]:
    """The run's last state."""
    return checkpoint.load(Path(run, "checkpoints/last.pt"))


def as_before(run: str, **train: Any) -> None:
    """Write a run's configuration as it was written once: all resolved, nothing of how it was made."""
    state = saved(run)
    config = OmegaConf.create(state["config"])
    config.train.update(train)
    plain = OmegaConf.to_container(config, resolve=True)
    del plain["made"]
    state["config"] = yaml.safe_dump(plain)
    Path(run, "config.yaml").write_text(state["config"])
    last = Path(run, "checkpoints/last.pt")
    last.unlink()
    checkpoint.save(state, last)


def test_a_longer_run_has_the_rates_of_one_that_was_so_long_from_the_start(
    train: Callable[..., Ended],
) -> None:
    train(*COSINE, "train.steps=16", "run_dir=straight")
    train(*COSINE, "train.steps=8", "run_dir=longer")
    assert rates("longer")[-1] == 0
    resumed = train("resume=longer", "train.steps=16")
    assert "schedule.main is now that of a run of 16 steps" in resumed.out
    assert rates("longer")[8:] == rates("straight")[8:]
    assert rates("longer")[-1] == 0
    again = train("resume=longer", "train.steps=20")
    assert "climbs" not in again.err
    assert rates("longer")[-1] == 0
    assert max(rates("longer")[17:]) < max(rates("longer")[16:]), "it goes down, never up"


def test_a_length_in_epochs_is_one_in_steps(train: Callable[..., Ended]) -> None:
    train(*COSINE, "train.epochs=1", "run_dir=epochs")
    config = yaml.safe_load(Path("epochs/config.yaml").read_text())
    assert (config["train"]["steps"], config["train"]["epochs"]) == (STEPS_OF_AN_EPOCH, 1)
    assert yaml.safe_load(saved("epochs")["config"]) == config
    train(*COSINE, f"train.steps={STEPS_OF_AN_EPOCH}", "run_dir=steps")
    assert rates("epochs") == rates("steps")
    train("resume=epochs", "train.epochs=2")
    train(*COSINE, f"train.steps={2 * STEPS_OF_AN_EPOCH}", "run_dir=straight")
    assert rates("epochs")[STEPS_OF_AN_EPOCH:] == rates("straight")[STEPS_OF_AN_EPOCH:]
    assert rates("epochs")[-1] == 0
    shown = train(*COSINE, "train.epochs=3", "dry_run=true")
    assert f"T_max: {3 * STEPS_OF_AN_EPOCH}" in shown.out


def test_an_older_run_follows_its_length_too(train: Callable[..., Ended]) -> None:
    train(*COSINE, "train.steps=12", "run_dir=straight")
    train(*COSINE, "train.steps=6", "run_dir=older")
    as_before("older")
    resumed = train("resume=older", "train.steps=12")
    assert "schedule.main.T_max=6 was the run's length: taken to follow it" in resumed.out
    assert rates("older")[6:] == rates("straight")[6:]


def test_an_older_run_of_the_same_length_goes_on_to_the_bit(
    train: Callable[..., Ended], gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given in epochs, its schedule was held against the default of train.steps, and stays so."""
    arguments = [*COSINE, "train.steps=8", "schedule.main.T_max=6"]
    train(*arguments, "run_dir=whole")
    assert stop_at(gentrain, monkeypatch, 4, *arguments, "run_dir=broken").status == 143
    as_before("broken", steps=6, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr("gentrain.data.batches.Batches.steps", lambda self, epochs: 8)
        resumed = train("resume=broken")
    assert "the schedule ends at step 6 of 8, and the rate climbs again" in resumed.err
    whole, broken = saved("whole"), saved("broken")
    same(whole["turns"], broken["turns"])
    same(whole["model"], broken["model"])
    assert rates("whole") == rates("broken")


def test_a_schedule_that_is_too_short_is_said_before_training(train: Callable[..., Ended]) -> None:
    short = train(*COSINE, "train.steps=8", "schedule.main.T_max=4", "dry_run=true")
    assert "schedule.main.T_max=4: the schedule ends at step 4 of 8, and the rate climbs again" in short.err
    fits = train(*COSINE, "train.steps=8", "schedule.main.T_max=8", "run_dir=own")
    assert "climbs" not in fits.err
    resumed = train("resume=own", "train.steps=12")  # what was typed stays
    assert "the schedule ends at step 8 of 12, and the rate climbs again" in resumed.err


def update(kind: type, every: int = 1, **settings: Any) -> Any:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return SimpleNamespace(
        schedule=kind(optimizer, **settings), turn=SimpleNamespace(name="main", every=every)
    )


def test_schedules_without_an_end_and_turns_that_move_seldom_pass() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_schedules([update(MultiStepLR, milestones=[1])], 100)
        check_schedules([update(torch.optim.lr_scheduler.CosineAnnealingLR, every=5, T_max=20)], 100)
        check_schedules([update(OneCycleLR, max_lr=1.0, total_steps=100)], 100)
    with pytest.raises(UserError, match=r"schedule.main.total_steps=99 is too short for the 100 updates"):
        check_schedules([update(OneCycleLR, max_lr=1.0, total_steps=99)], 100)


def test_what_depends_on_the_length_is_saved_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HALF", "4")
    config = conform(
        TrainConfig,
        {
            "model": {"warm": "${train.steps}", "at": "${oc.env:HALF}", "sizes": [1, "${train.steps}"]},
            "dataset": {},
            "schedule": {"a": {"T_max": "${train.steps}"}, "b": {"T_max": "${..a.T_max}"}},
            "train": {"steps": 8, "batch_size": "${seed}"},
            "seed": 3,
        },
    )
    text = yaml.safe_load(saved_text(config))
    assert text["model"] == {"warm": "${train.steps}", "at": "4", "sizes": [1, "${train.steps}"]}
    assert text["schedule"] == {"a": {"T_max": "${train.steps}"}, "b": {"T_max": "${..a.T_max}"}}
    assert (text["train"]["steps"], text["train"]["batch_size"]) == (8, 3)
    longer = conform(TrainConfig, text)
    longer.train.steps = 9
    assert longer.schedule.b.T_max == 9

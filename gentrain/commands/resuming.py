"""`resume=` and `init=`: a run taken up where it ended, and a new one from a checkpoint's weights."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.api import check_complete, read_checkpoint, read_config
from gentrain.commands.length import follow
from gentrain.config import conform
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import read_text
from gentrain.schemas import TrainConfig
from gentrain.training import checkpoint, distributed
from gentrain.training import run as runs
from gentrain.training.checkpoint import check_same_model
from gentrain.training.run import Run
from gentrain.training.trainer import Trainer
from gentrain.trust import again

#: What a resumed run may change without becoming another run.
CHANGEABLE = (
    "train.steps",
    "train.epochs",
    "train.log_every",
    "train.eval_every",
    "train.sample_every",
    "train.checkpoint_every",
    "train.sample_count",
    "train.minutes",
    "train.patience",
    "train.say_seconds",
    "train.cuda_graph",
    "device",
    "threads",
    "dataset.root",
    "dataset.cache",
    "dataset.verify",
)
#: What says how to resume, not how to train.
HOW = ("resume", "resume_inexact", "trust", "dry_run")


class Complete(UserError):
    """The run to resume has nothing left to do."""


def reopen(
    config: DictConfig, typed: Sequence[str]
) -> tuple[Run, dict[str, Any] | None, DictConfig, list[str]]:
    """The run to resume, its newest good state (None before the first checkpoint), and its config."""
    place = str(config.resume)
    path = runs.located(place)
    if exported.is_export(path):
        raise UserError(
            f"resume={place} is an export, which has no state of an optimiser to go on with; for a new run "
            f"from its weights: gentrain train {again()}{shlex.quote(f'init={place}')}"
        )
    problems: list[str] = []
    if path.is_file():
        found: Any = (path, checkpoint.load(path))
        run = runs.find_run(place)
    else:
        run = runs.find_run(place)
        good = runs.newest_good(run)
        found = good[:2] if good else None
        problems = good[2] if good else []
    if found is not None:
        state = found[1]
        check_complete(state, found[0])
        saved = read_config(state["config"], found[0])
    elif run.config.is_file():
        saved, state = read_config(read_text(run.config), run.config), None
    else:
        raise UserError(f"{run.folder} has neither a checkpoint nor a config.yaml to start over from")
    length = (saved.train.steps, saved.train.epochs)
    for override in typed:
        key = plain_key(override)
        if key in HOW:
            continue
        asked = OmegaConf.select(config, key, default=None)
        if key not in CHANGEABLE:
            group = key in ("model", "dataset", "experiment")
            if (saved.names[key] if group else OmegaConf.select(saved, key, default=None)) == (
                override.partition("=")[2] if group else asked
            ):
                continue
            refusal = f"{key} cannot change when a run is resumed; what can: {', '.join(CHANGEABLE)}"
            if key.split(".")[0] not in ("model", "dataset", "experiment", "init"):  # the weights would fit
                changed = override if asked is None else f"{key}={asked}"
                words = shlex.join([f"init={run.folder}", changed])
                refusal += f". For a new run from these weights: gentrain train {again()}{words}"
            raise UserError(refusal)
        OmegaConf.update(saved, key, asked)
        if key == "train.steps":
            saved.train.epochs = None
    another = (saved.train.steps, saved.train.epochs) != length
    # A run that was given in epochs held its schedule against the default of train.steps: it keeps that.
    if another or saved.train.epochs is None:
        for setting in follow(saved, length[0]):
            if another and distributed.launched_rank() == 0:
                print(f"note    {setting} was the run's length: taken to follow it")
    for key in HOW:
        OmegaConf.update(saved, key, config[key])
    saved.resume = None  # a resumed run is the same run
    return run, state, conform(TrainConfig, saved), problems


def start_from(trainer: Trainer, name: str, place: str) -> None:
    """Take a checkpoint's weights into a new run; its averaged weights where it has them."""
    path = runs.find_checkpoint(place)
    state = read_checkpoint(path)
    if lacking := state.get("without"):
        print(f"note    {path} has no {', '.join(lacking)}: begun afresh")
        state["model"] = exported.filled(state, trainer.model, trainer.model.training_only)
    check_same_model(trainer.model, name, state, str(path))
    weights = state["ema"] or state["model"]
    trainer.model.load_state_dict(weights)
    if trainer.ema:
        trainer.ema.model.load_state_dict(weights)

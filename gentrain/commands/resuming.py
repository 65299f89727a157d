"""`resume=`: which run is meant, its state, and what may change in it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.commands.length import follow
from gentrain.config import conform
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import read_text
from gentrain.reading import complete, read_checkpoint, read_config
from gentrain.schemas import TrainConfig
from gentrain.training import distributed, finding
from gentrain.training.run import Run
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
    "track",
    "device",
    "threads",
    "dataset.root",
    "dataset.background",
    "dataset.cache",
    "dataset.verify",
    "dataset.license",
)
#: How to resume, not how to train: as it is typed, whatever the run had.
HOW = ("resume", "resume_inexact", "trust", "dry_run")


class Complete(UserError):
    """The run to resume has nothing left to do."""


@dataclass
class Reopened:
    """A run that is taken up again.

    Args:
        run: its folder.
        config: with what may change as it was typed now.
        before: as it was.
        state: its newest good one; None before the first checkpoint.
        problems: a line for each newer checkpoint that is damaged.
    """

    run: Run
    config: DictConfig
    before: DictConfig
    state: dict[str, Any] | None
    problems: list[str]


def reopen(config: DictConfig, typed: Sequence[str]) -> Reopened:
    """The run that `resume` names.

    Raises:
        UserError: there is none, nothing to go on from in it, or what was typed may not change.
        CorruptFile: the file that was named is damaged, or all of the run's.
    """
    run, path, state, problems = _found(str(config.resume))
    text = read_text(run.config) if state is None else state["config"]
    saved = read_config(text, path)
    before = saved.copy()
    _change(saved, config, typed, run)
    for key in HOW:
        OmegaConf.update(saved, key, config[key])
    saved.resume = None  # a resumed run is the same run
    return Reopened(run, conform(TrainConfig, saved), before, state, problems)


def _found(place: str) -> tuple[Run, Path, dict[str, Any] | None, list[str]]:
    """The run that `place` means, what its configuration is read from, its state, and the problems."""
    path = finding.located(place)
    if exported.is_export(path):
        raise UserError(
            f"resume={place} is an export, which has no state of an optimiser to go on with; for a new run "
            f"from its weights: gentrain train {again()}{shlex.quote(f'init={place}')}"
        )
    if path.is_file():
        state = read_checkpoint(path)
        return finding.find_run(place), path, state, []
    run = finding.find_run(place)
    good = finding.newest_good(run)
    if good is not None:
        path, state, problems = good
        return run, path, complete(state, path), problems
    if not run.config.is_file():
        raise UserError(f"{run.folder} has neither a checkpoint nor a config.yaml to start over from")
    return run, run.config, None, []


def _change(saved: DictConfig, config: DictConfig, typed: Sequence[str], run: Run) -> None:
    """Take over into `saved` what was typed and may change.

    Raises:
        UserError: something else was typed.
    """
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

"""The run that an experiment is held against, its `beside`: the recipe with some settings changed."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gentrain.commands.measures import METRICS
from gentrain.config import conform
from gentrain.errors import UserError, did_you_mean
from gentrain.explain import leaves_of
from gentrain.schemas import TrainConfig

#: In the folder of the run that is held against it.
FOLDER = "beside"


def second_run(config: DictConfig) -> DictConfig | None:
    """The configuration of the run beside that of `config`, with its changes; None where there is none.

    Raises:
        UserError: a setting that the recipe does not have, of another type, or out of its range.
    """
    if not config.beside:
        return None
    own = OmegaConf.create(OmegaConf.to_container(config))  # untyped: `conform` says what does not fit
    assert isinstance(own, DictConfig)
    own.beside, own.targets, own.seeds = None, [], None
    known = leaves_of(config)
    for key in leaves_of(config.beside):
        if key not in known:
            raise UserError(f"beside.{key}: the experiment has no setting {key}{did_you_mean(key, known)}")
        OmegaConf.update(own, key, OmegaConf.select(config.beside, key))
    return conform(TrainConfig, own)


def changes_of(config: DictConfig) -> list[str]:
    """What is changed for the run beside that of `config`, as overrides: ["model.adversarial=false"]."""
    if not config.beside:
        return []
    values = {key: OmegaConf.select(config.beside, key) for key in leaves_of(config.beside)}
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]


def check_second(config: DictConfig) -> None:
    """Refuse a figure that needs a run beside where none is named, and a run that no figure needs.

    Raises:
        UserError: as said.
    """
    needing = []
    for target in config.targets:
        name, _, figure = target.metric.partition(".")
        if figure in METRICS[name].beside:
            needing.append(target.metric)
    if needing and not config.beside:
        raise UserError(
            f"{needing[0]} is of two runs: name what is changed for the second, as in "
            "beside={model: {adversarial: false}}"
        )
    if config.beside and not needing:
        figures = ", ".join(
            f"{name}.{figure}" for name, metric in METRICS.items() for figure in metric.beside
        )
        raise UserError(f"beside: no target is of two runs; those that are: {figures}")


def folder_of(folder: Path) -> Path:
    """Where the run beside that in `folder` lies."""
    return folder / FOLDER

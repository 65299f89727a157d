"""What a checkpoint and the config.yaml of a run must hold: every use of either passes through here.

A checkpoint of an older version is brought to the names of today here, and nowhere else.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.config import conform
from gentrain.contracts import DataSpec
from gentrain.data.identity import is_record
from gentrain.errors import UserError
from gentrain.formerly import settings_of_now, target_of_now, weights_of_now
from gentrain.schemas import TrainConfig
from gentrain.training import checkpoint

#: What every use of a checkpoint needs of it.
NEEDED = {"config": str, "names": dict, "spec": dict, "step": int, "model": dict, "ema": dict | None}


def read_config(text: str, path: Path) -> DictConfig:
    """The configuration of a run, from the YAML in the checkpoint or config.yaml `path`.

    Checked like one that was typed.

    Raises:
        UserError: it is not one.
    """
    try:
        plain = OmegaConf.create(text)
    except Exception as error:  # YAML errors have no common base that OmegaConf exports
        raise UserError(f"{path}: its configuration cannot be read: {error}") from error
    if not isinstance(plain, DictConfig):
        raise UserError(f"{path}: its configuration is no mapping")
    for section in ("model", "dataset"):
        if OmegaConf.is_interpolation(plain, section):  # refused, where it is resolved
            continue
        if isinstance(node := plain.get(section), DictConfig):
            before: Any = OmegaConf.to_container(node, resolve=False)
            if (now := settings_of_now(before)) != before:
                plain[section] = now
    try:
        return conform(TrainConfig, plain)
    except UserError as error:
        raise UserError(f"{path}: its configuration does not fit: {error}") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What the file or the exported folder `path` holds, its entries present and of their types.

    Raises:
        UserError: no such file, corrupt, refused, of a newer format, or incomplete.
    """
    return complete(exported.read(path) if path.is_dir() else checkpoint.load(path), path)


def complete(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """The state that was loaded from `path`, its weights by their names of today.

    Raises:
        UserError: it lacks what every use of a checkpoint needs; names the entry.
    """
    for key, kind in NEEDED.items():
        if key not in state or not isinstance(state[key], kind):
            found = type(state[key]).__name__ if key in state else "nothing"
            raise UserError(f"{path} is not a complete gentrain checkpoint: found {found} as its {key}")
    for key in ("model", "ema"):
        for name, value in (state[key] or {}).items():
            if not isinstance(name, str) or not isinstance(value, torch.Tensor):
                raise UserError(f"{path} is not a gentrain checkpoint: {key}[{name!r}] is no weight")
    shapes = [{name: value.shape for name, value in (state[key] or {}).items()} for key in ("model", "ema")]
    if state["ema"] is not None and shapes[0] != shapes[1]:
        raise UserError(f"{path}: its averaged weights are not those of its model")
    try:
        DataSpec.from_dict(state["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a gentrain checkpoint: its DataSpec: {error}") from error
    if state.get("data") is not None and not is_record(state["data"]):
        raise UserError(f"{path} is not a gentrain checkpoint: what it says of its data cannot be read")
    rename_weights(state)
    return state


def rename_weights(state: dict[str, Any]) -> None:
    """Give the weights of an older checkpoint their names of today."""
    # That the configuration cannot be read is said where it is read.
    with contextlib.suppress(Exception):
        target = target_of_now(OmegaConf.select(OmegaConf.create(state["config"]), "model._target_"))
        for key in ("model", "ema"):
            if state[key] is not None:
                state[key] = weights_of_now(str(target), state[key])

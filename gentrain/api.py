"""The Python interface: `gentrain.load` and `gentrain.build`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain import exported
from gentrain.arguments import prepared
from gentrain.building import build_model
from gentrain.composing import composed
from gentrain.config import conform, names_in
from gentrain.contracts import DataSpec, GenerativeModel
from gentrain.data.identity import Change
from gentrain.data.source import Data
from gentrain.errors import CorruptFile, UserError
from gentrain.explain import explain, refuse_removals
from gentrain.reading import read_checkpoint, read_config
from gentrain.schemas import TrainConfig
from gentrain.training.checkpoint import check_same_model
from gentrain.training.finding import find_checkpoint, newest_good, short
from gentrain.training.run import Run
from gentrain.trust import admit


@dataclass
class Loaded:
    """A trained model with what its checkpoint says of it, and its data once they have been opened.

    beside: another model, whose figures stand beside those of this one.
    """

    model: GenerativeModel
    config: DictConfig
    step: int
    path: Path
    state: dict[str, Any]
    data: Data | None = None
    change: Change | None = None
    beside: Loaded | None = None

    @property
    def run(self) -> Run | None:
        """The run folder that the checkpoint lies in, if it lies in one."""
        folder = self.path.resolve().parent
        return Run(short(folder.parent)) if folder.name == "checkpoints" else None


def _another(path: Path) -> str:
    """Where the run of a corrupt checkpoint has a whole one: what to type instead."""
    try:
        good = newest_good(Run(path.parent.parent)) if path.parent.name == "checkpoints" else None
    except CorruptFile:
        return ""
    return f"; the newest whole one: ckpt={shlex.quote(str(good[0]))}" if good else ""


def load_checkpoint(
    place: str | Path,
    device: torch.device | str = "cpu",
    trust: Sequence[str] = (),
    ema: bool = True,
) -> Loaded:
    """A trained model in eval mode on `device`; the averaged weights if there are any and `ema`.

    The checkpoint's own config is not trusted: its `_target_` must be a GenerativeModel in gentrain or in
    a package that the caller names in `trust`.

    Raises:
        UserError: no such file, corrupt, refused, or of a newer format.
    """
    path = find_checkpoint(str(place))
    try:
        state = read_checkpoint(path)
    except CorruptFile as error:
        raise CorruptFile(f"{error}{_another(path)}") from error
    config = read_config(state["config"], path)
    if state.get("averaged") and not ema:
        raise UserError(f"ema=false: {path} holds the averaged weights alone; take the run's own checkpoint")
    if path.is_dir():
        _check_size(config, state, path, trust)
    try:
        model = _built(config, state, path, trust)
    except (RuntimeError, MemoryError) as error:
        if not path.is_dir():
            raise
        raise UserError(f"{path}: its model cannot be built: {str(error).splitlines()[0]}") from error
    _check_fits(model, config, state, path)
    model.load_state_dict(state["ema"] if ema and state["ema"] else state["model"])
    return Loaded(model.to(device).eval(), config, int(state["step"]), path, state)


def _built(config: DictConfig, state: dict[str, Any], path: Path, trust: Sequence[str]) -> GenerativeModel:
    """The model that `config` describes.

    Raises:
        UserError: refused.
    """
    try:
        return build_model(config.model, DataSpec.from_dict(state["spec"]), trust)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _check_fits(model: GenerativeModel, config: DictConfig, state: dict[str, Any], path: Path) -> None:
    """See that the weights of `state` are those of `model`, without the networks that an export left out.

    Raises:
        UserError: they are not.
    """
    exported.stripped(model, state.get("without", ()), model.training_only, path)
    check_same_model(model, str(config.names.model), state, str(path))


def _check_size(config: DictConfig, state: dict[str, Any], path: Path, trust: Sequence[str]) -> None:
    """See that the weights of an export fit its config, before memory is taken for what that asks for.

    Raises:
        UserError: they do not.
    """
    try:
        with torch.device("meta"):
            model = _built(config, state, path, trust)
    except (UserError, RuntimeError, NotImplementedError):
        return  # refused, or its constructor computes with weights: to be built in earnest
    _check_fits(model, config, state, path)


def load(
    place: str | Path = "latest", device: torch.device | str = "cpu", trust: str | Sequence[str] = ()
) -> GenerativeModel:
    """The trained model at `place`: a checkpoint file, a run folder (its last), an export, or `latest`.

    In eval mode, with averaged weights if there are any. `trust` names own packages whose models may be
    built; they are found where Python looks and in the current folder.

    Raises:
        UserError: no such file, corrupt, refused, or of a newer format.
    """
    trusted = names_in("trust", trust)
    admit(trusted)
    return load_checkpoint(place, device, trusted).model


def compose_train(overrides: Sequence[str]) -> DictConfig:
    """The config of `gentrain train <overrides>`, composed without running anything.

    Raises:
        UserError: overrides that do not fit.
    """
    refuse_removals("train", overrides)
    prepared_for_hydra = [prepared(word, (), sweep=False) for word in overrides]
    try:
        config = composed("train", prepared_for_hydra)
    except Exception as error:
        raise explain(error, "train", list(overrides)) from error
    return conform(TrainConfig, config)


def build(overrides: Sequence[str], spec: DataSpec) -> GenerativeModel:
    """A fresh model for images of `spec`, from the overrides that `gentrain train` takes.

    gentrain.build(["model=vae", "model.latent_dim=8"], gentrain.DataSpec(shape=(1, 28, 28)))

    Raises:
        UserError: overrides that do not fit, or a model that cannot take the shape.
    """
    config = compose_train(overrides)
    trusted = list(config.trust)
    admit(trusted)
    return build_model(config.model, spec, trusted)

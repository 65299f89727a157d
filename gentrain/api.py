"""The Python interface: `gentrain.load` and `gentrain.build`."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.arguments import prepared
from gentrain.composing import composed
from gentrain.config import build_model, conform, names_in
from gentrain.contracts import DataSpec, GenerativeModel
from gentrain.data.identity import Change, is_record
from gentrain.data.source import Data
from gentrain.errors import CorruptFile, UserError
from gentrain.explain import explain, refuse_removals
from gentrain.formerly import weights_of_now
from gentrain.schemas import TrainConfig
from gentrain.training import checkpoint
from gentrain.training.checkpoint import check_same_model
from gentrain.training.run import Run, find_checkpoint, newest_good, short
from gentrain.trust import admit


@dataclass
class Loaded:
    """A trained model with what its checkpoint says of it, and its data once they have been opened."""

    model: GenerativeModel
    config: DictConfig
    step: int
    path: Path
    state: dict[str, Any]
    data: Data | None = None
    change: Change | None = None

    @property
    def run(self) -> Run | None:
        """The run folder that the checkpoint lies in, if it lies in one."""
        folder = self.path.resolve().parent
        return Run(short(folder.parent)) if folder.name == "checkpoints" else None


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
    try:
        return conform(TrainConfig, plain)
    except UserError as error:
        raise UserError(f"{path}: its configuration does not fit: {error}") from error


#: What every use of a checkpoint needs of it.
NEEDED = {"config": str, "names": dict, "spec": dict, "step": int, "model": dict, "ema": dict | None}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What the file or the exported folder `path` holds, its entries present and of their types.

    Raises:
        UserError: no such file, corrupt, refused, of a newer format, or incomplete.
    """
    state = exported.read(path) if path.is_dir() else checkpoint.load(path)
    check_complete(state, path)
    return state


def check_complete(state: dict[str, Any], path: Path) -> None:
    """Refuse a state, read from `path`, that lacks what every use of a checkpoint needs.

    Raises:
        UserError: names the entry.
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


def rename_weights(state: dict[str, Any]) -> None:
    """Give the weights of an older checkpoint their names of today."""
    # That the configuration cannot be read is said where it is read.
    with contextlib.suppress(Exception):
        target = str(OmegaConf.select(OmegaConf.create(state["config"]), "model._target_"))
        for key in ("model", "ema"):
            if state[key] is not None:
                state[key] = weights_of_now(target, state[key])


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

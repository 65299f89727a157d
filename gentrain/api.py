"""The Python interface: `gentrain.load` and `gentrain.build`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gentrain.config import TrainConfig, build_model, compose_train, conform
from gentrain.contracts import DataSpec, GenerativeModel
from gentrain.errors import UserError
from gentrain.training import checkpoint
from gentrain.training.run import Run, find_checkpoint
from gentrain.training.trainer import check_same_model


@dataclass
class Loaded:
    """A trained model with what its checkpoint says of it."""

    model: GenerativeModel
    config: DictConfig
    step: int
    path: Path
    state: dict[str, Any]

    @property
    def run(self) -> Run | None:
        """The run folder that the checkpoint lies in, if it lies in one."""
        if self.path.resolve().parent.name != "checkpoints":
            return None
        return Run(self.path.parent.parent)


def config_in(state: dict[str, Any], path: Path) -> DictConfig:
    """The configuration that a checkpoint holds, checked like one that was typed.

    Raises:
        UserError: it is not one.
    """
    try:
        plain = OmegaConf.create(state["config"])
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a gentrain checkpoint: its config cannot be read") from error
    except Exception as error:  # YAML errors have no common base that OmegaConf exports
        raise UserError(f"{path}: its config cannot be read: {error}") from error
    if not isinstance(plain, DictConfig):
        raise UserError(f"{path} is not a gentrain checkpoint: its config is no mapping")
    return conform(TrainConfig, plain)


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
    state = checkpoint.load(path)
    config = config_in(state, path)
    try:
        spec = DataSpec.from_dict(state["spec"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a gentrain checkpoint: {error}") from error
    model = build_model(config.model, spec, trust)
    check_same_model(model, state, str(path))
    model.load_state_dict(state["ema"] if ema and state.get("ema") else state["model"])
    return Loaded(model.to(device).eval(), config, int(state["step"]), path, state)


def load(
    place: str | Path = "latest", device: torch.device | str = "cpu", trust: Sequence[str] = ()
) -> GenerativeModel:
    """The trained model at `place`: a checkpoint file, a run folder (its last), or `latest`.

    In eval mode, with averaged weights if there are any. `trust` names own packages whose models may be
    built.

    Raises:
        UserError: no such file, corrupt, refused, or of a newer format.
    """
    return load_checkpoint(place, device, trust).model


def build(overrides: Sequence[str], spec: DataSpec) -> GenerativeModel:
    """A fresh model for images of `spec`, from the overrides that `gentrain train` takes.

    gentrain.build(["model=vae", "model.latent_dim=8"], gentrain.DataSpec(shape=(1, 28, 28)))

    Raises:
        UserError: overrides that do not fit, or a model that cannot take the shape.
    """
    config = compose_train(overrides)
    return build_model(config.model, spec, list(config.trust))

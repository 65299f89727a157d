"""Sounds on the command line: how long they are to be, and recordings to go on with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.contracts import DataSpec
from gentrain.data.archive import open_archive, read_file
from gentrain.data.mu_law import compressed
from gentrain.data.recordings import BadRecording, is_recording, open_recording
from gentrain.errors import UserError

#: Recordings that are taken from a folder at most.
MOST = 64


def sounds_wanted(config: DictConfig, loaded: Loaded, keys: tuple[str, ...]) -> None:
    """See that what is typed for sounds is typed for a model of sounds.

    Args:
        config: of the command.
        loaded: the model.
        keys: of the config that sounds alone have.

    Raises:
        UserError: the model makes images.
    """
    for key in keys:
        if config[key] is not None and loaded.model.spec.sample_rate is None:
            raise UserError(
                f"{key}={config[key]}: {loaded.config.names.model} makes images; leave {key} out, or train "
                "on dataset=audio"
            )


def samples_in(seconds: float, spec: DataSpec, loaded: Loaded) -> int:
    """How many samples `seconds` of the model's sounds are, at least 1.

    Raises:
        UserError: a model that draws one length alone.
    """
    if not loaded.model.any_length:
        own = (spec.shape[2] - (spec.context or 0)) / (spec.sample_rate or 1)
        raise UserError(
            f"seconds={seconds:g}: {loaded.config.names.model} draws {own:g} s, no other length; leave "
            "seconds out"
        )
    return max(1, round(seconds * (spec.sample_rate or 1)))


def read_sounds(path: Path, spec: DataSpec) -> list[Tensor]:
    """A recording, or every one of a folder or zip, each after the silence of a context: uint8 [1, 1, T].

    Raises:
        UserError: nothing there, no recording, or one of another rate; names `sounds`.
    """
    if not path.exists():
        raise UserError(f"sounds={path}: there is no such file or folder")
    if path.is_dir() or path.suffix.lower() == ".zip":
        with open_archive(path, "sounds") as archive:
            names = [file.name for file in archive.files if is_recording(file.name)]
            if not names or len(names) > MOST:
                raise UserError(f"sounds={path} holds {len(names)} recordings; expected 1 to {MOST}")
            contents = [(archive.path(name), archive.read(name)) for name in names]
    else:
        try:
            contents = [(str(path), read_file(path))]
        except OSError as error:
            raise UserError(f"sounds={path} cannot be read: {error}") from error
    return [_levels(name, content, spec) for name, content in contents]


def _levels(name: str, content: bytes, spec: DataSpec) -> Tensor:
    try:
        recording = open_recording(name, content)
        if recording.rate != spec.sample_rate:
            raise UserError(
                f"sounds={name} has {recording.rate:,} samples a second, the model {spec.sample_rate:,}; "
                f"convert it: sox IN -r {spec.sample_rate} OUT.wav"
            )
        levels = [compressed(block) for block in recording.blocks()]
    except BadRecording as error:
        raise UserError(f"sounds={name} cannot be read: {error}") from error
    silence = np.full(spec.context or 0, spec.levels // 2, np.uint8)
    return torch.from_numpy(np.concatenate([silence, *levels]))[None, None]

"""The `next` line at the end of a command: a command that works on the same model."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.api import Loaded
from gentrain.building import build_source
from gentrain.commands.abilities import needed
from gentrain.commands.same_data import section
from gentrain.contracts import GenerativeModel, HasLikelihood, ImagesToLatents
from gentrain.errors import UserError
from gentrain.schemas import SCHEMAS
from gentrain.trust import again


def rootless(dataset: DictConfig, state: Mapping[str, Any] | None, trust: Sequence[str]) -> bool:
    """Whether the `dataset` section of a checkpoint does not say where the images lie, as of an export.

    Args:
        dataset: the section.
        state: the checkpoint; None: the section alone.
        trust: own packages whose classes may be built.
    """
    try:
        build_source(section(dataset, state, OmegaConf.create({})), trust)
    except UserError:
        return True
    return False


def next_command(
    model: GenerativeModel,
    ckpt: str,
    *verbs: str,
    config: DictConfig | None = None,
    rootless: bool = False,
) -> str:
    """`gentrain VERB CKPT` with the first of `verbs` that works as it stands; without any, `translate`, or
    `gentrain list`.

    Args:
        model: what the command is for.
        ckpt: how to name its checkpoint, quoted for a shell.
        verbs: the best first.
        config: of this command, where it reads data: if they lie elsewhere now, they do for the next too.
        rootless: whether where the data lie has to be said.
    """
    for verb in (*verbs, "translate"):  # all that a translator does
        # Without a likelihood eval asks for metrics; without a prior interpolate goes between test images.
        able: tuple[type, ...] = (HasLikelihood,) if verb == "eval" else needed(verb)
        if verb == "interpolate" and getattr(model, "latent_prior", None) == "none":
            able = (ImagesToLatents,)
        if isinstance(model, able):
            reads = any(field.name == "dataset" for field in dataclasses.fields(SCHEMAS[verb]))
            moved = None if config is None or not reads else config.dataset.root
            moved = moved or ("PATH" if rootless and reads else None)
            return f"gentrain {verb} {ckpt}" + (f" {shlex.quote(f'dataset.root={moved}')}" if moved else "")
    return "gentrain list"


def ckpt_argument(loaded: Loaded) -> str:
    """How to name this checkpoint again, quoted for a shell, with what its classes need."""
    run = loaded.run
    return again() + shlex.quote(
        f"ckpt={run.folder if run and loaded.path.name == run.last.name else loaded.path}"
    )

"""The `next` line at the end of a command: a command that works on the same model."""

from __future__ import annotations

import dataclasses
import re
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


def unsaid(dataset: DictConfig, state: Mapping[str, Any] | None, trust: Sequence[str]) -> list[str]:
    """What a checkpoint does not say of where its data lie, as an export: root, background, or both.

    Args:
        dataset: its section.
        state: the checkpoint; None: the section alone.
        trust: own packages whose classes may be built.
    """
    node = section(dataset, state, OmegaConf.create({}))
    found: list[str] = []
    while True:
        try:
            build_source(node, trust)
        except UserError as error:
            needed = re.search(r"needs dataset\.(\w+)=PATH", str(error))
            if needed is not None and needed[1] not in found:
                found.append(needed[1])
                OmegaConf.update(node, needed[1], "PATH", force_add=True)
                continue
        return found


def next_command(
    model: GenerativeModel,
    ckpt: str,
    *verbs: str,
    config: DictConfig | None = None,
    unsaid: Sequence[str] = (),
) -> str:
    """`gentrain VERB CKPT` with the first of `verbs` that works as it stands; without any, `translate`, or
    `gentrain list`.

    Args:
        model: what the command is for.
        ckpt: how to name its checkpoint, quoted for a shell.
        verbs: the best first.
        config: of this command, where it reads data: if they lie elsewhere now, they do for the next too.
        unsaid: what has to be said of where the data lie.
    """
    for verb in (*verbs, "translate"):  # all that a translator does
        # Without a likelihood eval asks for metrics; without a prior interpolate goes between test images.
        able: tuple[type, ...] = (HasLikelihood,) if verb == "eval" else needed(verb)
        if verb == "interpolate" and getattr(model, "latent_prior", None) == "none":
            able = (ImagesToLatents,)
        if isinstance(model, able):
            reads = any(field.name == "dataset" for field in dataclasses.fields(SCHEMAS[verb]))
            moved = None if config is None or not reads else config.dataset.root
            places = [shlex.quote(f"dataset.root={moved}")] if moved else []
            places += [f"dataset.{name}=PATH" for name in unsaid] if reads else []
            return " ".join([f"gentrain {verb} {ckpt}", *places])
    return "gentrain list"


def ckpt_argument(loaded: Loaded) -> str:
    """How to name this checkpoint again, quoted for a shell, with what its classes need."""
    run = loaded.run
    return again() + shlex.quote(
        f"ckpt={run.folder if run and loaded.path.name == run.last.name else loaded.path}"
    )

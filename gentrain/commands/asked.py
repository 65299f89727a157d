"""What a command is asked to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig


@dataclass(frozen=True)
class Asked:
    """A command line, composed.

    Args:
        config: composed by Hydra.
        typed: the overrides as they were typed.
        choices: the options of the config groups.
        taken: overrides that were taken from the run of `init`, which count before those that were typed.
    """

    config: DictConfig
    typed: Sequence[str] = ()
    choices: Mapping[str, Any] = field(default_factory=dict)
    taken: Sequence[str] = ()

"""What a model can do: the capabilities that a verb needs, and refusing a model that lacks one."""

from __future__ import annotations

from typing import Any, TypeVar

from gentrain import contracts
from gentrain.api import Loaded
from gentrain.commands.verbs import VERBS
from gentrain.errors import UserError

T = TypeVar("T")


def needed(verb: str) -> tuple[type, ...]:
    """The capabilities of which a model must have one for `verb`; empty where it is not for one model."""
    return tuple(getattr(contracts, name) for name in VERBS[verb].needs)


def capable(loaded: Loaded, capability: type[T], name: str) -> T:
    """The model as one that has `capability`.

    Raises:
        UserError: it has not; with the reason where the model gives one.
    """
    model: Any = loaded.model
    if isinstance(model, capability):
        return model
    reason = model.lacks.get(name)
    kind = loaded.config.names.model
    because = f": {reason}" if reason else ""
    able = "gentrain list" if name in VERBS else _able(capability)
    raise UserError(f"{name}: {kind} cannot do this{because}; what can: {able}")


def _able(capability: type) -> str:
    """The models that have what no column of `gentrain list` tells."""
    from gentrain.commands.list import models  # which needs `needed`

    names = [f"model={name}" for name, cls in models()[0].items() if issubclass(cls, capability)]
    return ", ".join(names) or "none"

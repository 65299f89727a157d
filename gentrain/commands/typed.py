"""Settings as a user types them, which Hydra makes something else of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import ListConfig, OmegaConf

from gentrain.errors import UserError
from gentrain.explain import plain_key

#: Words that Hydra takes for something else than text.
_NO_TEXT = ("null", "true", "false", "nan", "inf")


def item_of_a_list(name: str) -> str:
    """`name` as it is typed within `[...]`: in quotes where Hydra would read something else."""
    number = re.fullmatch(r"[\d_eE-]+", name)
    if re.fullmatch(r"\w[\w-]*", name, re.ASCII) and not number and name.lower() not in _NO_TEXT:
        return name
    # Backslashes before a quote, and at the end, stand for themselves when doubled.
    return '"' + re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), name) + '"'


def as_typed(typed: Sequence[str], key: str, value: Any) -> str:
    """The word `value` of `key` as it stands among the overrides: Hydra takes 1_000 and 1e3 for numbers."""
    if isinstance(value, str):
        return value
    words = [override.partition("=")[2].strip() for override in typed if plain_key(override) == key]
    return words[-1] if words else str(value)


def listed(key: str, value: Any, what: str) -> list[Any]:
    """The items of `key=[...]`; none where it is null.

    Raises:
        UserError: it is no list; with the list that was meant.
    """
    if value is None:
        return []
    if not isinstance(value, ListConfig):
        raise UserError(f"{key}={value}: expected a list of {what}, e.g. {key}=[{value}]")
    return list(OmegaConf.to_container(value))  # type: ignore[arg-type]

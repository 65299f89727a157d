"""Checks of the settings that constructors take."""

from __future__ import annotations

from collections.abc import Sequence


def check_positive(setting: str, *values: int) -> None:
    """Refuse settings that count something and are below 1.

    Raises:
        ValueError: no value at all, or one below 1; names `model.<setting>`.
    """
    if not values or min(values) < 1:
        found = ", ".join(map(str, values)) or "an empty list"
        raise ValueError(f"model.{setting} must be at least 1, found {found}")


def check_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a setting that is none of `choices`.

    Raises:
        ValueError: names `model.<setting>` and the choices.
    """
    if value not in choices:
        raise ValueError(f"model.{setting} must be one of {', '.join(choices)}, found {value!r}")

"""Checks of the settings that constructors take."""

from __future__ import annotations

import math
from collections.abc import Sequence


class WrongSize(ValueError):
    """Images of a size that a network does not take.

    Args:
        problem: what they are, and what it takes.
        sizes: which sizes are near that it takes, as values of dataset.image_size; empty: to be chosen.
        instead: what else may be done about it, where something may.
    """

    def __init__(self, problem: str, sizes: str = "", instead: str = "") -> None:
        self.problem, self.instead = problem, instead
        size = f"dataset.image_size{'=' if sizes else ''}{sizes} where the data set takes it"
        super().__init__(f"{problem}; set {size}" + (f", or {instead}" if instead else ""))


def check_positive(setting: str, *values: int) -> None:
    """Refuse settings that count something and are below 1.

    Raises:
        ValueError: no value at all, or one below 1; names `model.<setting>`.
    """
    if not values or min(values) < 1:
        found = ", ".join(map(str, values)) or "an empty list"
        raise ValueError(f"model.{setting} must be at least 1, found {found}")


def check_odd(setting: str, size: int, least: int = 1) -> None:
    """Refuse a size of a kernel that has no middle, or is too small.

    Raises:
        ValueError: names `model.<setting>`.
    """
    if size < least or size % 2 == 0:
        raise ValueError(f"model.{setting} must be odd and at least {least}, found {size}")


def check_weight(setting: str, weight: float) -> None:
    """Refuse what weighs a term of a loss and is negative or not finite.

    Raises:
        ValueError: names `model.<setting>`.
    """
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"model.{setting} must be at least 0, found {weight}")


def check_for_colours(setting: str, features: int, colours: int) -> None:
    """Refuse fewer feature maps than colour channels, each of which is to have one.

    Raises:
        ValueError: names `model.<setting>`.
    """
    if features < colours:
        raise ValueError(
            f"model.{setting} must be at least {colours}, one for each colour channel, found {features}"
        )


def check_choice(setting: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a setting that is none of `choices`.

    Raises:
        ValueError: names `model.<setting>` and the choices.
    """
    if value not in choices:
        raise ValueError(f"model.{setting} must be one of {', '.join(choices)}, found {value!r}")

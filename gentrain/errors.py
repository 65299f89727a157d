"""The errors that end a command in one line.

Everything that a user can cause is a `UserError` (exit status 2); everything that the machine or the
numbers do to a run is a `Fault` (exit status 1). Both carry one line: what was wrong, what was
expected and found, what to type instead.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class GentrainError(Exception):
    """Base of the two kinds; `exit_status` is what the process returns."""

    exit_status = 1

    def __str__(self) -> str:
        # One line, whatever was quoted from elsewhere.
        return " ".join(super().__str__().split())


class UserError(GentrainError):
    """A mistake in what was typed or in the files that were named. Exit status 2."""

    exit_status = 2


class Fault(GentrainError):
    """Something broke while a correct command was running. Exit status 1."""

    exit_status = 1


class CorruptFile(UserError):
    """A file that is there but damaged, e.g. a truncated checkpoint or data file."""


@contextmanager
def control_c_kept() -> Iterator[None]:
    """Context in which Control-C ends as such where a library was in the midst of something.

    OmegaConf, for one, puts back what it has changed, fails at what is half made, and raises that instead.

    Raises:
        KeyboardInterrupt: it is what an error began with.
    """
    try:
        yield
    except Exception as error:
        if getattr(error, "exit_status", 0) < 128 and _began_with_control_c(error):
            raise KeyboardInterrupt from error
        raise


def _began_with_control_c(error: BaseException) -> bool:
    """Whether there is a KeyboardInterrupt among the errors in whose handling this one was raised."""
    seen: dict[int, BaseException] = {}
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen[id(one)] = one
            left += [one.__cause__, one.__context__]
    return any(isinstance(one, KeyboardInterrupt) for one in seen.values())


def nearest(word: str, choices: Iterable[str], n: int = 3) -> list[str]:
    """The up to `n` of `choices` that are spelt most like `word`, best first."""
    spelt = {choice.lower(): choice for choice in choices}
    return [spelt[near] for near in difflib.get_close_matches(word.lower(), spelt, n=n, cutoff=0.5)]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean a or b?"`, or the valid names when none is near (empty without choices)."""
    choices = sorted(choices)
    near = nearest(word, choices)
    if near:
        return "; did you mean " + " or ".join(near) + "?"
    return "; valid: " + ", ".join(choices) if choices else ""

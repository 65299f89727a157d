"""Lines for a reader who may be gone: a closed pipe or terminal costs nothing of the work they tell of."""

from __future__ import annotations

import sys
from typing import Any


def say(line: str) -> None:
    """A line on stdout; nothing more is said there once it cannot be written."""
    try:
        print(line, flush=True)
    except (OSError, ValueError):  # nobody reads the pipe; the terminal, or the stream itself, was closed
        sys.stdout = None


def complain(line: str) -> None:
    """A line on stderr, in the same way."""
    if sys.stderr is None:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        sys.stderr = None


def warn_in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """For `warnings.showwarning`: a warning without its place in the code."""
    complain(f"warning: {message}")

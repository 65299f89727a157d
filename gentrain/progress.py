"""Progress of work inside a model, shown by whoever asked for it; imports neither torch nor tqdm at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

_shown: ContextVar[bool] = ContextVar("shown", default=False)


@contextmanager
def shown() -> Iterator[None]:
    """Within this context, `track` draws a bar where stderr is a terminal."""
    token = _shown.set(True)
    try:
        yield
    finally:
        _shown.reset(token)


def track(items: Iterable[T], unit: str, total: int | None = None) -> Iterable[T]:
    """`items`, with a bar that counts them in `unit` inside of `shown()`; as they are elsewhere.

    Models call this in loops that a user waits for (the rows of an autoregressive sample); the
    trainer's own pictures stay silent.
    """
    if not _shown.get():
        return items
    from tqdm import tqdm

    bar: Iterable[T] = tqdm(items, unit=unit, total=total, leave=False, disable=None)
    return bar

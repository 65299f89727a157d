"""Signals: the first one asks the run to finish its step, save and end; a second SIGINT ends it at once."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Self

from gentrain.errors import GentrainError


class Stopped(GentrainError):
    """A run ended early because a signal asked for it; its state is saved."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_status = 128 + signum


class StopOnSignal:
    """Context in which SIGTERM and SIGINT only set `signum`."""

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, signal.Handlers | int | object] = {}

    def __enter__(self) -> Self:
        for signum in (signal.SIGTERM, signal.SIGINT):
            self._before[signum] = signal.getsignal(signum)
            signal.signal(signum, self._take)
        return self

    def _take(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]

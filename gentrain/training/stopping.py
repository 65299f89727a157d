"""Signals: the first one asks the run to finish its step, save and end; a second SIGINT ends it at once."""

from __future__ import annotations

import os
import signal
import subprocess
from types import FrameType, TracebackType
from typing import Self

from gentrain.errors import GentrainError

#: What asks a run to end: a request, Control-C, a terminal that was closed, a job whose time is nearly over.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
#: Those that stay ignored where whoever started the process had them ignored, as nohup does.
OPTIONAL = (signal.SIGHUP, signal.SIGUSR1)


class Stopped(GentrainError):
    """A run ended early because a signal asked for it; its state is saved."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_status = 128 + signum


class StopOnSignal:
    """Context in which `SIGNALS` only set `signum`."""

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, signal.Handlers | int | object] = {}
        self._terminals: list[int] = []

    def __enter__(self) -> Self:
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]
        for signum in SIGNALS:
            before = signal.getsignal(signum)
            if signum in OPTIONAL and before == signal.SIG_IGN:
                continue
            self._before[signum] = before
            signal.signal(signum, self._take)
        return self

    def _take(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if signum == signal.SIGHUP:
            self._leave_the_terminal()

    def _leave_the_terminal(self) -> None:
        """What is printed from here on goes nowhere, where the terminal is gone: it would raise."""
        for descriptor in self._terminals:
            if not os.isatty(descriptor):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]


def requeue() -> str | None:
    """Put this process's SLURM job into the queue again; what came of it. None outside SLURM."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        trouble = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        trouble = str(error)
    if trouble:
        return f"job {job} could not be queued again: {trouble}"
    return f"job {job} is queued again; the same command goes on with this run"

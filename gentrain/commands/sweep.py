"""`gentrain train -m ...`: the runs of a sweep beside one another, and a table of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from gentrain.errors import Fault, UserError
from gentrain.training import run as runs
from gentrain.training.stopping import Stopped


class Sweep:
    """Runs each job of a sweep; a job that fails does not end those after it."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.rows: list[tuple[str, str, str]] = []
        self.done = 0  # jobs, whatever came of them
        self.status = 0  # the largest of the jobs that did not end well

    def run(
        self, command: ModuleType, config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]
    ) -> None:
        """One job, its run folder under outputs/sweeps/<date>_<time>/."""
        label = " ".join(typed)
        if command.__name__ != "gentrain.commands.train":
            try:
                command.run(config, typed, choices)
                self.done += 1
            except (Fault, UserError) as error:
                self._failed(error)
                print(f"gentrain: {label}: {error}", file=sys.stderr)
            return
        if self.folder is None and not config.dry_run:
            parent = runs.OUTPUTS / "sweeps"
            runs.check_writable(parent)
            parent.mkdir(parents=True, exist_ok=True)
            self.folder = runs.exclusive(parent, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        print(f"== {label}", flush=True)
        try:
            done = command.run(config, typed, choices, base=self.folder)
            self.done += 1
        except (Fault, UserError) as error:
            self._failed(error)
            print(f"gentrain: {error}", file=sys.stderr)
            self.rows.append((label, "failed: " + str(error)[:60], ""))
            return
        except (Stopped, KeyboardInterrupt):
            self.rows.append((label, "stopped", ""))
            self.finish()
            print("jobs after this one were not begun: type a sweep of what is left", flush=True)
            raise
        finally:
            if self.folder is not None and not any(self.folder.iterdir()):
                self.folder.rmdir()  # nothing was trained
                self.folder = None
        if done:
            self.rows.append((label, done["outcome"].figures or "-", str(done["run"])))

    def _failed(self, error: Fault | UserError) -> None:
        """Count a job that did not end well, which ends the sweep where no job has: nothing is lost.

        Raises:
            UserError: `error`, a mistake before anything was done.
        """
        if isinstance(error, UserError) and not self.done:
            raise error
        self.status = max(self.status, error.exit_status)
        self.done += 1

    def finish(self) -> int:
        """Print the table; the exit status."""
        if self.rows:
            labels = [label.split() for label, _, _ in self.rows]
            common = set.intersection(*map(set, labels)) if len(labels) > 1 else set()
            self.rows = [
                (" ".join(word for word in words if word not in common), *row[1:])
                for words, row in zip(labels, self.rows, strict=True)
            ]
            width = [max(len(row[i]) for row in self.rows) for i in range(3)]
            print("\nsweep" + (f" {self.folder}" if self.folder else ""))
            for row in self.rows:
                print("  " + "  ".join(cell.ljust(width[i]) for i, cell in enumerate(row)).rstrip())
            print(f"curves  tensorboard --logdir {self.folder}")
        return self.status

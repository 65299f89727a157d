"""`gentrain train -m ...`: the runs of a sweep beside one another, and a table of them."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType

from gentrain.commands.asked import Asked
from gentrain.errors import Fault, UserError, control_c_kept
from gentrain.files import check_writable
from gentrain.training import run as runs
from gentrain.training.finding import short
from gentrain.training.stopping import Stopped


class Sweep:
    """Runs each job of a sweep; a job that fails does not end those after it."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.rows: list[tuple[Sequence[str], str, str]] = []  # what was typed, what came of it, the run
        self.done = 0  # jobs, whatever came of them
        self.status = 0  # the largest of the jobs that did not end well

    def run(self, command: ModuleType, asked: Asked) -> None:
        """One job, its run folder under outputs/sweeps/<date>_<time>/."""
        config, typed = asked.config, asked.typed
        label = " ".join(typed)
        if command.__name__ != "gentrain.commands.train":
            try:
                with control_c_kept():
                    command.run(asked)
                self.done += 1
            except (Fault, UserError) as error:
                self._failed(error)
                print(f"gentrain: {label}: {error}", file=sys.stderr)
            return
        own = config.run_dir is not None or config.resume is not None  # a folder of its own
        if self.folder is None and not config.dry_run and not own:
            parent = runs.OUTPUTS / "sweeps"
            check_writable(parent)
            parent.mkdir(parents=True, exist_ok=True)
            self.folder = runs.exclusive(parent, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        print(f"== {label}", flush=True)
        try:
            with control_c_kept():
                done = command.run(asked, base=self.folder)
            self.done += 1
        except (Fault, UserError) as error:
            self._failed(error)
            print(f"gentrain: {error}", file=sys.stderr)
            self.rows.append((typed, "failed: " + str(error)[:60], ""))
            return
        except (Stopped, KeyboardInterrupt):
            self.rows.append((typed, "stopped", ""))
            self.finish()
            print("jobs after this one were not begun: type a sweep of what is left", flush=True)
            raise
        finally:
            if self.folder is not None and not any(self.folder.iterdir()):
                self.folder.rmdir()  # nothing was trained
                self.folder = None
        if done:
            self.rows.append(
                (typed, done["outcome"].figures.removeprefix("validation ") or "-", str(done["run"]))
            )

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
            labels = [set(typed) for typed, _, _ in self.rows]
            common = set.intersection(*labels) if len(labels) > 1 else set()
            rows = [(" ".join(w for w in words if w not in common), *rest) for words, *rest in self.rows]
            width = [max(len(row[i]) for row in rows) for i in range(3)]
            print("\nsweep" + (f" {self.folder}" if self.folder else ""))
            for row in rows:
                print("  " + "  ".join(cell.ljust(width[i]) for i, cell in enumerate(row)).rstrip())
            if above := self._above():
                print(f"curves  tensorboard --logdir {shlex.quote(str(above))}")
        return self.status

    def _above(self) -> Path | None:
        """The folder that holds all the runs; None where that is the root, or nothing was trained."""
        if self.folder is not None:
            return self.folder
        folders = [Path(run).resolve() for _, _, run in self.rows if run]
        above = Path(os.path.commonpath(folders)) if folders else Path("/")
        return short(above) if above != Path(above.anchor) else None

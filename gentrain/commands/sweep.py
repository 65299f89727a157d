"""`gentrain train -m ...`: the runs of a sweep beside one another, and a table of them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from gentrain.errors import Fault
from gentrain.training import run as runs


class Sweep:
    """Runs each job of a sweep; a job that fails while it runs does not end the others."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.rows: list[tuple[str, str, str]] = []
        self.failed = False

    def run(
        self, command: ModuleType, config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]
    ) -> None:
        """One job, its run folder under outputs/sweeps/<date>_<time>/."""
        label = " ".join(typed)
        if command.__name__ != "gentrain.commands.train":
            try:
                command.run(config, typed, choices)
            except Fault as error:
                print(f"gentrain: {label}: {error}", file=sys.stderr)
                self.failed = True
            return
        if self.folder is None and not config.dry_run:
            parent = runs.OUTPUTS / "sweeps"
            runs.check_writable(parent)
            parent.mkdir(parents=True, exist_ok=True)
            self.folder = runs.exclusive(parent, datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
        print(f"== {label}", flush=True)
        try:
            done = command.run(config, typed, choices, base=self.folder)
        except Fault as error:
            print(f"gentrain: {error}", file=sys.stderr)
            self.failed = True
            self.rows.append((label, "failed: " + str(error)[:60], ""))
            return
        finally:
            if self.folder is not None and not any(self.folder.iterdir()):
                self.folder.rmdir()  # nothing was trained
                self.folder = None
        if done:
            figures = ", ".join(
                f"{k.removeprefix('eval/')} {v:.4f}" for k, v in done["outcome"].evaluation.items()
            )
            self.rows.append((label, figures or "-", str(done["run"])))

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
        return 1 if self.failed else 0

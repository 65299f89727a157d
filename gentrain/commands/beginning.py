"""How a run begins: new, started over because it was killed before its first checkpoint, or resumed."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.building import build_source
from gentrain.commands.length import changed_schedules
from gentrain.commands.resuming import Complete, Reopened
from gentrain.commands.same_data import PLACE, reconciled, section
from gentrain.data.source import Data
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import check_writable, expanded
from gentrain.reading import read_checkpoint
from gentrain.training import distributed, finding
from gentrain.training import run as runs
from gentrain.training.checkpoint import check_same_model
from gentrain.training.distributed import World
from gentrain.training.run import Run
from gentrain.training.trainer import Trainer
from gentrain.trust import again


class New:
    """A new run, perhaps from a checkpoint's weights (`init`).

    Args:
        config: of the run.
        base: where a sweep wants its run folders.
    """

    #: What the checkpoint that the run goes on from says of its data.
    record: Mapping[str, Any] | None = None

    def __init__(self, config: DictConfig, base: Path | None = None) -> None:
        self.config, self._base = config, base

    @property
    def folder(self) -> Path:
        """Where the run folder is, or the folder that it will be made in."""
        config, base = self.config, self._base or runs.OUTPUTS
        return expanded(config.run_dir or base / f"{config.names.model}-{config.names.dataset}")

    def check(self) -> None:
        """See that the folder can be written, before data are read.

        Raises:
            UserError: it cannot, or another process trains there.
        """
        check_writable(expanded(self.config.run_dir or self._base or runs.OUTPUTS))

    def data(self, typed: Sequence[str], world: World) -> Data:
        """The data to train on.

        Raises:
            UserError: missing or damaged; on resume, others than before in a way that matters.
        """
        return build_source(self.config.dataset, list(self.config.trust)).load()

    def take_up(self, trainer: Trainer) -> None:
        """Bring the trainer to where the run begins.

        Raises:
            UserError: the checkpoint to begin from is not of this model, or incomplete.
        """
        if self.config.init is not None:
            path = finding.find_checkpoint(self.config.init)
            state = read_checkpoint(path)
            if lacking := state.get("without"):
                if distributed.launched_rank() == 0:
                    print(f"note    {path} has no {', '.join(lacking)}: begun afresh")
                state["model"] = exported.filled(state, trainer.model, trainer.model.training_only)
            check_same_model(trainer.model, self.config.names.model, state, str(path))
            trainer.begin_with(state["ema"] or state["model"])

    def check_begins(self, trainer: Trainer) -> None:
        """See that there is something to train, once all else fits, and in a dry run that it has a place.

        Raises:
            Complete: there is nothing left to train.
            UserError: `run_dir` holds something.
        """
        if self.config.dry_run and self.config.run_dir:  # else `open` says so
            runs.check_new(self.folder)

    def open(self, world: World) -> Run:
        """The run folder: made on rank 0, which tells the others its name."""
        made: Run | None = None
        failure: UserError | None = None
        if world.is_main:
            names = self.config.names
            try:
                made = runs.create(names.model, names.dataset, self.config.run_dir, self._base)
            except UserError as error:
                failure = error
        folder, message = world.from_main((str(made.folder) if made else None, str(failure or "")))
        if folder is None:
            raise failure or UserError(message)
        return made or Run(Path(folder))

    def close(self) -> None:
        """Give back what `check` took."""


class StartedOver(New):
    """A run that was killed before its first checkpoint, in its own folder.

    Args:
        reopened: the run.
    """

    def __init__(self, reopened: Reopened) -> None:
        super().__init__(reopened.config)
        self.run = reopened.run

    @property
    def folder(self) -> Path:
        """The run's own."""
        return self.run.folder

    def check(self) -> None:
        """As for a new run; the folder is locked, but for a dry run."""
        instead = "a resumed run goes on in its own folder: copy that to where it can be written"
        for folder in (self.run.folder, self.run.checkpoints):
            check_writable(folder, instead)
        if distributed.launched_rank() == 0 and not self.config.dry_run:
            self.run.lock()

    def data(self, typed: Sequence[str], world: World) -> Data:
        """As for a new run, from where they lie now."""
        return self._load(self._places(typed), None)

    def _places(self, typed: Sequence[str]) -> dict[str, Any]:
        """Where the data lie, as far as it was typed."""
        keys = {plain_key(override) for override in typed}
        return {key: self.config.dataset[key] for key in PLACE if f"dataset.{key}" in keys}

    def _load(self, given: dict[str, Any], state: dict[str, Any] | None) -> Data:
        node = section(self.config.dataset, state, OmegaConf.create(given))
        return build_source(node, list(self.config.trust)).load()

    def check_begins(self, trainer: Trainer) -> None:
        """Nothing is done yet."""

    def open(self, world: World) -> Run:
        """The run's own."""
        return self.run

    def close(self) -> None:
        """Unlock the folder."""
        self.run.release()


class Resumed(StartedOver):
    """A run that goes on from a checkpoint.

    Args:
        reopened: the run.
        state: its newest good one.
    """

    def __init__(self, reopened: Reopened, state: dict[str, Any]) -> None:
        super().__init__(reopened)
        self._before, self._state = reopened.before, state
        self.record = state.get("data")

    def data(self, typed: Sequence[str], world: World) -> Data:
        """Those of the run, held against what the checkpoint says of them."""
        given = self._places(typed)
        data = self._load(given, self._state)
        with warnings.catch_warnings():
            if not world.is_main:  # one line is enough
                warnings.simplefilter("ignore")
            named = not given.keys().isdisjoint(("root", "background"))
            return reconciled(data, self._state, typed=named, resumed=True)[0]

    def take_up(self, trainer: Trainer) -> None:
        """Go on from the state, which is given up."""
        changed = changed_schedules(self._before, self.config)
        for turn in changed if trainer.world.is_main else ():
            print(f"note    schedule.{turn} is now that of a run of {trainer.plan.steps} steps")
        state, self._state = self._state, {}
        trainer.take_up(state, self.config.names.model, self.config.resume_inexact, changed)

    def check_begins(self, trainer: Trainer) -> None:
        """See that the run is not complete.

        Raises:
            Complete: it is; says how to train on.
        """
        if trainer.progress.evaluated and (ended := trainer.ended()):
            named = again() + shlex.quote(f"resume={self.run.folder}")
            why = f" ({ended.reason})" if ended.reason else ""
            raise Complete(
                f"{self.run.folder} is complete at step {trainer.step}{why}; "
                f"train on with: gentrain train {named} {ended.more}"
            )

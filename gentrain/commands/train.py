"""`gentrain train`: build everything, check everything, then make the run folder and train."""

from __future__ import annotations

import shlex
import signal
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.api import read_config
from gentrain.commands.assemble import assemble
from gentrain.commands.length import changed_schedules, saved_text
from gentrain.commands.resuming import Complete, reopen, start_from
from gentrain.commands.same_data import PLACE, reconciled, section
from gentrain.commands.summary import print_dry_run, print_outcome, print_summary
from gentrain.config import build_source, conform
from gentrain.data.source import Data
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import replacing, write_text
from gentrain.saying import say, warn_in_one_line
from gentrain.schemas import TrainConfig
from gentrain.training import capture, checkpoint, distributed, processor, provenance, randomness, stopping
from gentrain.training import run as runs
from gentrain.training.distributed import World
from gentrain.training.precision import pick_device, pick_precision
from gentrain.training.run import Run
from gentrain.training.stopping import Stopped
from gentrain.training.trainer import Trainer
from gentrain.trust import again


def run(
    config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any], base: Path | None = None
) -> dict[str, Any]:
    """Train as `config` says.

    Args:
        config: composed by Hydra.
        typed: the overrides as they were typed.
        choices: the options of the config groups.
        base: where a sweep wants its run folders.

    Returns:
        {"run": folder, "outcome": Outcome} (empty for a dry run, or a restart that has nothing left to do).

    Raises:
        Complete: there is nothing left to train in the run to resume.
        UserError: anything else that does not fit, before a folder is made or a step taken.
        Fault: what went wrong while training.
    """
    warnings.showwarning = warn_in_one_line
    previous: Run | None = None
    state: dict[str, Any] | None = None
    problems: list[str] = []
    config = conform(TrainConfig, config)
    restarted = runs.restarted(config.run_dir) if config.resume is None else None
    if restarted is not None:
        config.resume = str(restarted.folder)
        typed = []
    if config.resume is not None:
        previous, state, config, problems = reopen(config, typed)
    else:
        refuse_ours(typed)
        if config.names.model == "":
            config.names.update({g: choices.get(g) for g in ("model", "dataset", "experiment")})
        config.made.update(commit=provenance.commit(), versions=provenance.versions())
        if any(plain_key(o) == "train.steps" for o in typed):
            if any(plain_key(o) == "train.epochs" for o in typed):
                raise UserError("train.steps and train.epochs both say how long to train; give one")
            config.train.epochs = None
    trust = list(config.trust)
    for problem in problems:
        warnings.warn(f"{problem}; falling back to an older checkpoint", stacklevel=2)

    device = pick_device(config.device, distributed.local_rank())
    precision = pick_precision(config.precision, device)
    if config.train.cuda_graph:
        capture.check_run(device, precision.name, distributed.launched_size(), config.train.compile)
    place = previous.folder if previous else runs.expanded(config.run_dir or base or runs.OUTPUTS)
    if previous is None:
        runs.check_writable(place)
    else:
        instead = "a resumed run goes on in its own folder: copy that to where it can be written"
        for folder in (place, previous.checkpoints):
            runs.check_writable(folder, instead)
    if previous is not None and distributed.launched_rank() == 0 and not config.dry_run:
        previous.lock()
    processor.prepare(device, config.threads)
    if config.deterministic:
        randomness.make_deterministic()
    world = distributed.start(device)
    try:
        data = open_data(config, typed, previous, state, world)
        record = state.get("data") if state is not None else None
        trainer, batches = assemble(config, data, device, precision, world, trust, record)
        if world.is_main:
            print_summary(config, data, trainer, device, precision, batches)
        if config.init is not None and state is None:
            start_from(trainer, config.names.model, config.init)
        if config.dry_run:
            if config.run_dir and previous is None:
                runs.check_new(place)
            if world.is_main:
                print_dry_run(config, trainer, precision, place, previous)
            return {}
        if state is not None and previous is not None:
            changed = changed_schedules(read_config(state["config"], previous.folder), config)
            for turn in changed if world.is_main else ():
                print(f"note    schedule.{turn} is now that of a run of {trainer.plan.steps} steps")
            trainer.load_state_dict(state, config.resume_inexact, changed)
            del state
        if previous is not None and trainer.evaluated and (ended := trainer.ended()):
            if restarted is not None:
                print(f"trained {restarted.folder} is complete")
                return {}
            named = again() + shlex.quote(f"resume={previous.folder}")
            why = f" ({ended.reason})" if ended.reason else ""
            raise Complete(
                f"{previous.folder} is complete at step {trainer.step}{why}; "
                f"train on with: gentrain train {named} {ended.more}"
            )
        trainer.run = previous or open_run(config, world, base)
        if world.is_main:
            checkpoint.clean_leftovers(trainer.run.checkpoints)
            write_config(config, trainer.run)
        return train(trainer, world)
    finally:
        if previous is not None:
            previous.release()
        distributed.stop()


def open_data(
    config: DictConfig, typed: Sequence[str], previous: Run | None, state: dict[str, Any] | None, world: World
) -> Data:
    """The data to train on: those that `config` names, or those of the run that is resumed.

    Raises:
        UserError: missing or damaged; on resume, others than before in a way that matters.
    """
    if previous is None:
        return build_source(config.dataset, list(config.trust)).load()
    keys = {plain_key(o) for o in typed}
    given = {key: config.dataset[key] for key in PLACE if f"dataset.{key}" in keys}
    node = section(config.dataset, state, OmegaConf.create(given))
    data = build_source(node, list(config.trust)).load()
    if state is None:
        return data
    with warnings.catch_warnings():
        if not world.is_main:  # one line is enough
            warnings.simplefilter("ignore")
        return reconciled(data, state, typed="root" in given, resumed=True)[0]


def train(trainer: Trainer, world: World) -> dict[str, Any]:
    """Train to the end and say what was reached and what to type next."""
    run = trainer.run
    if world.is_main:
        where = "from step " + str(trainer.step) if trainer.step else "to step " + str(trainer.plan.steps)
        say(f"run     {run.folder} ({where})")
    try:
        outcome = trainer.fit()
    except Stopped as stopped:
        if stopped.signum == signal.SIGUSR1 and world.is_main and (came := stopping.requeue()):
            print(f"note    {came}", flush=True)
        raise
    finally:
        run.release()
    if world.is_main:
        print_outcome(outcome, run, trainer.model)
    return {"run": run.folder, "outcome": outcome}


#: The sections that the command fills in, and what to type instead.
OURS = {"names": "; choose a folder with run_dir=FOLDER", "made": ""}


def refuse_ours(typed: Sequence[str]) -> None:
    """Refuse overrides of what is not for typing.

    Raises:
        UserError: `names` or `made`, which the command fills in.
    """
    for override in typed:
        key = plain_key(override)
        section = key.split(".")[0]
        if section in OURS:
            raise UserError(f"{key} is filled in by the command{OURS[section]}")


# The run folder


def open_run(config: DictConfig, world: World, base: Path | None) -> Run:
    """Make the run folder on rank 0; the other ranks learn its name."""
    made: Run | None = None
    failure: UserError | None = None
    if world.is_main:
        try:
            made = runs.create(config.names.model, config.names.dataset, config.run_dir, base)
        except UserError as error:
            failure = error
    folder, message = world.from_main((str(made.folder) if made else None, str(failure or "")))
    if folder is None:
        raise failure or UserError(message)
    return made or Run(Path(folder))


def write_config(config: DictConfig, run: Run) -> None:
    """The configuration, from which a run killed before its first checkpoint starts over."""
    with replacing(run.config) as temporary:
        write_text(temporary, saved_text(config))

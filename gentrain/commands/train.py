"""`gentrain train`: settle what to do, assemble what does it, and perform: make the run folder and train."""

from __future__ import annotations

import shlex
import signal
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from gentrain.commands.asked import Asked
from gentrain.commands.assemble import Assembled, make_trainer
from gentrain.commands.beginning import New, Resumed, StartedOver
from gentrain.commands.length import saved_text
from gentrain.commands.resuming import Complete, reopen
from gentrain.commands.retyped import plain_settings
from gentrain.commands.summary import print_dry_run, print_outcome, print_summary
from gentrain.config import conform
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import replacing, write_text
from gentrain.saying import say, warn_in_one_line
from gentrain.schemas import TrainConfig
from gentrain.training import (
    checkpoint,
    cpu,
    cuda_graph,
    distributed,
    finding,
    provenance,
    randomness,
    stopping,
)
from gentrain.training.distributed import World
from gentrain.training.plan import Outcome
from gentrain.training.precision import Precision, pick_device, pick_precision
from gentrain.training.run import Run
from gentrain.training.stopping import Stopped


def run(asked: Asked, base: Path | None = None) -> dict[str, Any]:
    """Train as its config says.

    Args:
        asked: the command line.
        base: where a sweep wants its run folders.

    Returns:
        {"run": folder, "outcome": Outcome} (empty for a dry run, or a restart that has nothing left to do).

    Raises:
        Complete: there is nothing left to train in the run to resume.
        UserError: anything else that does not fit, before a folder is made or a step taken.
        Fault: what went wrong while training.
    """
    warnings.showwarning = warn_in_one_line
    settled = settle(replace(asked, config=conform(TrainConfig, asked.config)), base)
    try:
        settled.beginning.check()
        world = prepare(settled)
        assembled = assemble(settled, world)
        if settled.config.dry_run:
            if world.is_main:
                target = settled.beginning.folder
                print_dry_run(settled.config, assembled.trainer, settled.precision, target)
            return {}
        return perform(settled, assembled)
    except Complete:
        if not settled.restarted:
            raise
        print(f"trained {settled.beginning.folder} is complete")
        return {}
    finally:
        settled.beginning.close()
        distributed.stop()


# Settle


@dataclass(frozen=True)
class Settled:
    """What is to be done.

    Args:
        beginning: how the run begins; has its config.
        typed: the overrides that count.
        device: to train on.
        precision: to train in.
        restarted: whether torchrun or SLURM has started this command again.
    """

    beginning: New
    typed: Sequence[str]
    device: torch.device
    precision: Precision
    restarted: bool

    @property
    def config(self) -> DictConfig:
        """Of the run."""
        return self.beginning.config


def settle(asked: Asked, base: Path | None = None) -> Settled:
    """Which run is meant, with which configuration, on which device. Nothing is changed by it.

    Raises:
        UserError: overrides that do not fit, no such run, or a device that is not there.
    """
    config = asked.config
    restarted = finding.restarted(config.run_dir) if config.resume is None else None
    if restarted is not None:
        config.resume = str(restarted.folder)
        asked = replace(asked, typed=())
    beginning = beginning_of(asked, base)
    config = beginning.config
    device = pick_device(config.device, distributed.local_rank())
    precision = pick_precision(config.precision, device)
    if type(beginning) is New:
        config.made.machine = provenance.machine(device)
    if config.train.cuda_graph:
        cuda_graph.check_run(device, precision.name, distributed.launched_size(), config.train.compile)
    return Settled(beginning, asked.typed, device, precision, restarted is not None)


def beginning_of(asked: Asked, base: Path | None) -> New:
    """How the run begins, with its configuration."""
    config, typed = asked.config, asked.typed
    if config.resume is not None:
        reopened = reopen(config, typed)
        for problem in reopened.problems:
            warnings.warn(f"{problem}; falling back to an older checkpoint", stacklevel=2)
        return StartedOver(reopened) if reopened.state is None else Resumed(reopened, reopened.state)
    refuse_ours(typed)
    if asked.taken and distributed.launched_rank() == 0:
        print(f"note    as in {config.init}, where nothing else is typed: {shlex.join(asked.taken)}")
    if config.names.model == "":
        config.names.update({g: asked.choices.get(g) for g in ("model", "dataset", "experiment")})
    config.made.update(commit=provenance.commit(), versions=provenance.versions())
    keys = {plain_key(o) for o in typed}
    if "dataset.root" in keys and "dataset.license" not in keys and config.dataset.get("license"):
        config.dataset.license = None  # what an experiment says of its own images is not said of others
        if distributed.launched_rank() == 0:
            print("note    no licence of the data in dataset.root is known; for the card: dataset.license=ID")
    if any(plain_key(o) == "train.steps" for o in typed):
        if any(plain_key(o) == "train.epochs" for o in typed):
            raise UserError("train.steps and train.epochs both say how long to train; give one")
        config.train.epochs = None
    return New(config, base)


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


# Assemble


def prepare(settled: Settled) -> World:
    """Set this process up, and join the other ranks.

    Raises:
        Fault: the ranks do not find each other.
    """
    cpu.prepare(settled.device, settled.config.threads)
    if settled.config.deterministic:
        randomness.make_deterministic()
    return distributed.start(settled.device)


def assemble(settled: Settled, world: World) -> Assembled:
    """The data, and all that trains on them, where the run begins.

    Raises:
        UserError: what does not fit, data that are missing, or a run that has nothing left to do.
    """
    config, beginning = settled.config, settled.beginning
    data = beginning.data(settled.typed, world)
    assembled = make_trainer(config, data, settled.device, settled.precision, world, beginning.record)
    trainer = assembled.trainer
    if world.is_main:
        print_summary(config, data, trainer, settled.device, settled.precision)
    beginning.take_up(trainer)
    beginning.check_begins(trainer)
    return assembled


# Perform


def perform(settled: Settled, assembled: Assembled) -> dict[str, Any]:
    """Make the run folder, train to the end, and say what was reached and what to type next."""
    trainer, world = assembled.trainer, assembled.trainer.world
    run = settled.beginning.open(world)
    if world.is_main:
        checkpoint.clean_leftovers(run.checkpoints)
        write_config(settled.config, run)
        where = "from step " + str(trainer.step) if trainer.step else "to step " + str(trainer.plan.steps)
        say(f"run     {run.folder} ({where})")
    outcome = fit(assembled, run, plain_settings(settled.config))
    if world.is_main:
        print_outcome(outcome, run, trainer.model)
    return {"run": run.folder, "outcome": outcome}


def fit(assembled: Assembled, run: Run, settings: Mapping[str, float | str]) -> Outcome:
    """Train in the folder, which is given back in the end; a job that is to be queued again, is."""
    trainer = assembled.trainer
    try:
        return trainer.fit(run, assembled.identity, settings)
    except Stopped as stopped:
        if stopped.signum == signal.SIGUSR1 and trainer.world.is_main and (came := stopping.requeue()):
            print(f"note    {came}", flush=True)
        raise
    finally:
        run.release()


def write_config(config: DictConfig, run: Run) -> None:
    """The configuration, from which a run killed before its first checkpoint starts over."""
    with replacing(run.config) as temporary:
        write_text(temporary, saved_text(config))

"""`gentrain train`: build everything, check everything, then make the run folder and train."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.api import check_complete, read_checkpoint, read_config
from gentrain.commands.assemble import assemble
from gentrain.commands.summary import print_dry_run, print_outcome, print_summary, warn_in_one_line
from gentrain.config import build_source, conform
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.files import read_text, write_text
from gentrain.schemas import TrainConfig
from gentrain.training import capture, checkpoint, distributed, processor, randomness
from gentrain.training import run as runs
from gentrain.training.checkpoint import check_same_model
from gentrain.training.distributed import World
from gentrain.training.precision import pick_device, pick_precision
from gentrain.training.run import Run
from gentrain.training.trainer import Trainer
from gentrain.trust import again

#: What a resumed run may change without becoming another run.
CHANGEABLE = (
    "train.steps",
    "train.epochs",
    "train.log_every",
    "train.eval_every",
    "train.sample_every",
    "train.checkpoint_every",
    "train.cuda_graph",
    "device",
    "dataset.root",
)
#: What says how to resume, not how to train.
HOW = ("resume", "resume_inexact", "trust", "dry_run")


class Complete(UserError):
    """The run to resume has nothing left to do."""


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
        {"run": folder, "outcome": Outcome} (empty for a dry run).

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
    if config.resume is None and (restarted := runs.restarted(config.run_dir)):
        config.resume = str(restarted.folder)
        typed = []
    if config.resume is not None:
        previous, state, config, problems = reopen(config, typed)
    else:
        refuse_ours(typed)
        if config.names.model == "":
            config.names.update({g: choices.get(g) for g in ("model", "dataset", "experiment")})
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
    place = previous.folder if previous else Path(config.run_dir or base or runs.OUTPUTS).expanduser()
    runs.check_writable(place)
    if previous is not None and distributed.launched_rank() == 0 and not config.dry_run:
        previous.lock()
    processor.prepare(device)
    if config.deterministic:
        randomness.make_deterministic()
    world = distributed.start(device)
    try:
        data = build_source(config.dataset, trust).load()
        trainer, batches = assemble(config, data, device, precision, world, trust)
        if world.is_main:
            print_summary(config, data, trainer, device, precision, batches)
        if config.init is not None and state is None:
            start_from(trainer, config.names.model, config.init)
        if config.dry_run:
            if config.run_dir and previous is None:
                runs.check_new(place)
            if world.is_main:
                print_dry_run(config, trainer, place, previous)
            return {}
        if state is not None:
            trainer.load_state_dict(state, config.resume_inexact)
            del state
        if trainer.step >= trainer.plan.steps and previous is not None:
            named = shlex.quote(f"resume={previous.folder}")
            raise Complete(
                f"{previous.folder} is complete at step {trainer.step}; "
                f"train on with: gentrain train {again()}{named} train.steps={2 * trainer.step}"
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


def train(trainer: Trainer, world: World) -> dict[str, Any]:
    """Train to the end and say what was reached and what to type next."""
    run = trainer.run
    if world.is_main:
        where = "from step " + str(trainer.step) if trainer.step else "to step " + str(trainer.plan.steps)
        print(f"run     {run.folder} ({where})", flush=True)
    try:
        outcome = trainer.fit()
    finally:
        run.release()
    if world.is_main:
        print_outcome(outcome, run, trainer.model)
    return {"run": run.folder, "outcome": outcome}


def refuse_ours(typed: Sequence[str]) -> None:
    """Refuse overrides of what is not for typing.

    Raises:
        UserError: `names`, which the command fills in.
    """
    for override in typed:
        key = plain_key(override)
        if key.split(".")[0] == "names":
            raise UserError(f"{key} is filled in by the command; choose a folder with run_dir=FOLDER")


# Resume


def reopen(
    config: DictConfig, typed: Sequence[str]
) -> tuple[Run, dict[str, Any] | None, DictConfig, list[str]]:
    """The run to resume, its newest good state (None before the first checkpoint), and its config."""
    place = str(config.resume)
    path = Path(place).expanduser()
    problems: list[str] = []
    if path.is_file():
        found: Any = (path, checkpoint.load(path))
        run = runs.find_run(place)
    else:
        run = runs.find_run(place)
        good = runs.newest_good(run)
        found = good[:2] if good else None
        problems = good[2] if good else []
    if found is not None:
        state = found[1]
        check_complete(state, found[0])
        saved = read_config(state["config"], found[0])
    elif run.config.is_file():
        saved, state = read_config(read_text(run.config), run.config), None
    else:
        raise UserError(f"{run.folder} has neither a checkpoint nor a config.yaml to start over from")
    for override in typed:
        key = plain_key(override)
        if key in HOW:
            continue
        asked = OmegaConf.select(config, key, default=None)
        if key not in CHANGEABLE:
            group = key in ("model", "dataset", "experiment")
            if (saved.names[key] if group else OmegaConf.select(saved, key, default=None)) == (
                override.partition("=")[2] if group else asked
            ):
                continue
            refusal = f"{key} cannot change when a run is resumed; what can: {', '.join(CHANGEABLE)}"
            if key.split(".")[0] not in ("model", "dataset", "experiment", "init"):  # the weights would fit
                changed = override if asked is None else f"{key}={asked}"
                words = shlex.join([f"init={run.folder}", changed])
                refusal += f". For a new run from these weights: gentrain train {again()}{words}"
            raise UserError(refusal)
        OmegaConf.update(saved, key, asked)
        if key == "train.steps":
            saved.train.epochs = None
    for key in HOW:
        OmegaConf.update(saved, key, config[key])
    saved.resume = None  # a resumed run is the same run
    return run, state, conform(TrainConfig, saved), problems


def start_from(trainer: Trainer, name: str, place: str) -> None:
    """Take a checkpoint's weights into a new run; its averaged weights where it has them."""
    path = runs.find_checkpoint(place)
    state = read_checkpoint(path)
    check_same_model(trainer.model, name, state, str(path))
    weights = state["ema"] or state["model"]
    trainer.model.load_state_dict(weights)
    if trainer.ema:
        trainer.ema.model.load_state_dict(weights)


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
    """The resolved configuration, from which a run killed before its first checkpoint starts over."""
    write_text(run.config, OmegaConf.to_yaml(config, resolve=True))

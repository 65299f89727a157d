"""What `gentrain train` tells its reader: before the first step, instead of it, and after the last."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from gentrain.commands.footprint import footprint
from gentrain.commands.next import next_command
from gentrain.contracts import GenerativeModel, Translates
from gentrain.data.source import Data
from gentrain.saying import say
from gentrain.training import checkpoint
from gentrain.training.plan import Outcome
from gentrain.training.precision import Precision
from gentrain.training.run import Run
from gentrain.training.trainer import Trainer
from gentrain.trust import again

#: More passes than these over fewer images than these are warned of; no default of ours makes them.
MANY_EPOCHS = 500
FEW_IMAGES = 10_000
#: How much slower than in float32 a product in bf16 may be before it is warned of.
SLOW = 3


def print_summary(
    config: DictConfig,
    data: Data,
    trainer: Trainer,
    device: torch.device,
    precision: Precision,
) -> None:
    """What will be trained on what, before the first step."""
    for line in data.describe():
        say(line)
    count = sum(p.numel() for p in trainer.model.parameters())
    plan = trainer.plan
    epochs = plan.steps * plan.batch_size / len(data.train)
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    say(f"model   {config.names.model}, {count:,} parameters")
    if data.spec.source_shape is not None and not isinstance(trainer.model, Translates):
        say(f"note    {config.names.model} makes no use of the sources that its images have here")
    say(f"device  {device} ({name}), {precision.name}, {trainer.world.size} process(es)")
    if device.type == "cpu" and precision.name == "bf16" and (times := precision.slowness()) > SLOW:
        say(
            f"note    this CPU has no instructions for bf16, and takes {times:.0f} times as long in it as in "
            "float32; take precision=fp32"
        )
    say(f"train   {plan.steps} steps of {plan.batch_size} {data.spec.words[0]}s ({epochs:.1f} epochs)")
    if epochs > MANY_EPOCHS and len(data.train) < FEW_IMAGES:
        warnings.warn(
            f"{epochs:.0f} epochs over {len(data.train):,} {data.spec.words[0]}s: a model knows so few by "
            "heart long before, and makes nothing else; train.epochs=100 is a length to begin with",
            stacklevel=2,
        )


def print_dry_run(config: DictConfig, trainer: Trainer, precision: Precision, target: Path) -> None:
    """The rest of what a dry run shows; `target` is where the run's folder is, or will be made."""
    found = footprint(config, trainer, precision)
    size, kept = found.checkpoint, trainer.plan.keep + 2
    images = config.train.batch_size // (config.train.accumulate * trainer.world.size)
    print(f"output  {target}")
    print(
        f"disk    {size * kept / 2**20:.1f} MiB at most for checkpoints "
        f"({size / 2**20:.1f} MiB each, {kept} at once), {checkpoint.free_space(existing(target))}"
    )
    print(
        f"memory  about {found.memory / 2**20:.1f} MiB{' of each process' if trainer.world.size > 1 else ''} "
        f"for a step on {images} images at once (MiB: {found.in_words()})"
    )
    print("        and what it does not count: torch itself, its workspaces, the data, evaluation, pictures")
    print("\n" + OmegaConf.to_yaml(config, resolve=True), end="")
    print("dry run: nothing was written but decoded data, to the cache")
    print("Type the same line without dry_run=true")


def existing(place: Path) -> Path:
    """`place`, or the nearest folder above it that is there."""
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


def print_outcome(outcome: Outcome, run: Run, model: GenerativeModel) -> None:
    """What was reached, and the next commands."""
    found = f"; {outcome.figures}" if outcome.figures else ""
    ended = f"; ended: {outcome.ended}" if outcome.ended else ""
    say(
        f"done    step {outcome.step} in {outcome.seconds:.0f} s of training, "
        f"{outcome.images_per_second:.0f} images/s{found}{ended}"
    )
    say(f"curves  tensorboard --logdir {shlex.quote(str(run.folder))}")
    ckpt = again() + shlex.quote(f"ckpt={run.folder}")
    say(f"next    {next_command(model, ckpt, 'sample', 'reconstruct', 'eval')}")

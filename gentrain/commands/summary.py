"""What `gentrain train` tells its reader: before the first step, instead of it, and after the last."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gentrain.commands.trained import next_command
from gentrain.contracts import GenerativeModel
from gentrain.data.batches import Batches
from gentrain.data.source import Data
from gentrain.training import checkpoint
from gentrain.training.precision import Precision
from gentrain.training.run import Run
from gentrain.training.trainer import Outcome, Trainer
from gentrain.trust import again


def warn_in_one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """A warning without its place in the code."""
    print(f"warning: {message}", file=sys.stderr)


def print_summary(
    config: DictConfig,
    data: Data,
    trainer: Trainer,
    device: torch.device,
    precision: Precision,
    batches: Batches,
) -> None:
    """What will be trained on what, before the first step."""
    for line in data.describe():
        print(line)
    count = sum(p.numel() for p in trainer.model.parameters())
    plan = trainer.plan
    epochs = plan.steps * plan.batch_size / len(data.train.images)
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"model   {config.names.model}, {count:,} parameters")
    print(f"device  {device} ({name}), {precision.name}, {trainer.world.size} process(es)")
    print(f"train   {plan.steps} steps of {plan.batch_size} images ({epochs:.1f} epochs)", flush=True)


def print_dry_run(config: DictConfig, trainer: Trainer, place: Path, previous: Run | None) -> None:
    """The rest of what a dry run shows."""
    settings = trainer.plan
    size = checkpoint.bytes_of(trainer.state_dict())
    # Adam's two moments do not exist before the first step.
    size += 2 * checkpoint.bytes_of(list(trainer.model.parameters()))
    kept = settings.keep + 2
    target = place if previous or config.run_dir else place / f"{config.names.model}-{config.names.dataset}"
    print(f"output  {target}")
    print(
        f"disk    {size * kept / 2**20:.1f} MiB at most for checkpoints "
        f"({size / 2**20:.1f} MiB each, {kept} at once), {checkpoint.free_space(Path())}"
    )
    print("\n" + OmegaConf.to_yaml(config, resolve=True), end="")
    print("dry run: nothing was written. Type the same line without dry_run=true")


def print_outcome(outcome: Outcome, run: Run, model: GenerativeModel) -> None:
    """What was reached, and the next commands."""
    figures = ", ".join(f"{k.removeprefix('eval/')} {v:.4f}" for k, v in outcome.evaluation.items())
    print(
        f"done    step {outcome.step} in {outcome.seconds:.0f} s of training, "
        f"{outcome.images_per_second:.0f} images/s" + (f"; validation {figures}" if figures else "")
    )
    print(f"curves  tensorboard --logdir {shlex.quote(str(run.folder))}")
    ckpt = again() + shlex.quote(f"ckpt={run.folder}")
    print(f"next    {next_command(model, ckpt, 'sample', 'reconstruct', 'eval')}", flush=True)

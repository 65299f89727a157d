"""Everything that trains, put together from a config: model, turns, batches, trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gentrain.building import build_model, build_optimizer
from gentrain.commands.length import saved_text
from gentrain.commands.schedules import check_schedules, schedule_of
from gentrain.contracts import GenerativeModel
from gentrain.data.batches import Batches, in_order
from gentrain.data.source import Data
from gentrain.errors import UserError, did_you_mean
from gentrain.training import cuda_graph, randomness
from gentrain.training.distributed import World
from gentrain.training.ema import EMA
from gentrain.training.plan import Plan
from gentrain.training.precision import Precision
from gentrain.training.steps import CapturedSteps, Steps
from gentrain.training.trackers import check_names
from gentrain.training.trainer import Trainer
from gentrain.training.update import TurnUpdate


@dataclass(frozen=True)
class Assembled:
    """What is to train, on its device, and what its checkpoints say of it."""

    trainer: Trainer
    identity: dict[str, Any]


def make_trainer(
    config: DictConfig,
    data: Data,
    device: torch.device,
    precision: Precision,
    world: World,
    record: Mapping[str, Any] | None = None,
) -> Assembled:
    """Everything that trains; no folder yet. A length in epochs becomes one in steps in `config`.

    `record` is what the checkpoint that the run goes on from says of its data.

    Raises:
        UserError: settings that do not fit one another, the model or the data.
    """
    settings, seed = config.train, int(config.seed)
    batches = make_batches(config, data, device, world)
    if settings.epochs:
        settings.steps = batches.steps(settings.epochs)  # before anything asks for ${train.steps}
    steps = make_steps(config, data, batches, device, precision, world)
    randomness.seed_everything(seed + 2 + 1_000_003 * world.rank)
    validation = None
    if data.validation is not None:
        order = {"batch_size": min(settings.batch_size, 256), "rank": world.rank, "world": world.size}
        validation = partial(in_order, data, data.validation, device=device, seed=seed, **order)
    if settings.patience is not None and (validation is None or steps.model.merit is None):
        lack = "validation images (dataset.validation)" if validation is None else "validation figure"
        raise UserError(
            f"train.patience={settings.patience} waits for better evaluations, and there are no {lack} for "
            f"{config.names.model}; say when to end with train.steps, train.epochs or train.minutes"
        )
    identity = {
        "config": saved_text(config),
        "names": OmegaConf.to_container(config.names),
        "spec": data.spec.to_dict(),
        "data": data.identity.to_dict(record) if data.identity else None,
    }
    return Assembled(Trainer(steps, batches, validation, make_plan(config, data)), identity)


def make_batches(config: DictConfig, data: Data, device: torch.device, world: World) -> Batches:
    """The training batches.

    Raises:
        UserError: a batch that cannot be split evenly.
    """
    settings = config.train
    if settings.batch_size % (world.size * settings.accumulate):
        raise UserError(
            f"train.batch_size={settings.batch_size} is not divisible by {world.size} rank(s) x "
            f"train.accumulate={settings.accumulate}"
        )
    return Batches(
        data,
        data.train,
        batch_size=settings.batch_size,
        seed=int(config.seed),
        device=device,
        rank=world.rank,
        world=world.size,
    )


def make_steps(
    config: DictConfig,
    data: Data,
    batches: Batches,
    device: torch.device,
    precision: Precision,
    world: World,
) -> Steps:
    """The model, initialised, its average and the updates of its turns."""
    settings, seed, trust = config.train, int(config.seed), list(config.trust)
    randomness.seed_everything(seed)
    model = build_model(config.model, data.spec, trust).to(device)
    randomness.seed_everything(seed + 1)
    with torch.no_grad():
        model.data_dependent_init(batches.at(0))
    world.broadcast_module(model)
    ema = EMA(model, settings.ema) if settings.ema is not None else None
    updates = build_updates(config, model, precision, world, trust)
    check_schedules(updates, settings.steps, quiet=not world.is_main)
    if not settings.cuda_graph:
        return Steps(model, updates, ema, world)
    cuda_graph.check_updates(updates)
    return CapturedSteps(model, updates, ema, world, cuda_graph.CAPTURES[device.type](device))


def make_plan(config: DictConfig, data: Data) -> Plan:
    """How long the run is and what it does when."""
    keys = (
        *("steps", "batch_size", "log_every", "eval_every", "sample_every", "checkpoint_every", "keep"),
        *("sample_count", "minutes", "patience", "say_seconds"),
    )
    settings = {key: config.train[key] for key in keys}
    names = tuple(map(str, config.track))
    check_names(names, list(config.trust), installed=config.resume is None)
    return Plan(
        seed=int(config.seed), train_images=len(data.train), pixels=data.pixels, track=names, **settings
    )


def build_updates(
    config: DictConfig, model: GenerativeModel, precision: Precision, world: World, trust: Sequence[str]
) -> list[TurnUpdate]:
    """One per turn of the model, each with its own optimiser and schedule, or with those of another turn."""
    turns, settings = model.turns(), config.train
    names = [turn.name for turn in turns if turn.shares is None]
    for section in ("optim", "schedule"):
        for name in config[section]:
            if name not in names and name not in model.idle_turns:
                hint = did_you_mean(str(name), names).replace("mean ", f"mean {section}.")
                raise UserError(f"unknown key {section}.{name}: the model's turns: {', '.join(names)}{hint}")
    updates: list[TurnUpdate] = []
    for turn in turns:
        if turn.shares is None and turn.name not in config.optim:
            raise UserError(f"optim.{turn.name} is missing: turn {turn.name} needs an optimiser")
        parameters = turn.parameters()
        if not parameters:
            raise UserError(f"turn {turn.name} has no parameter to train")
        if turn.shares is None:
            optimizer = build_optimizer(config.optim[turn.name], turn.name, parameters, trust)
        else:
            optimizer = next(update.optimizer for update in updates if update.turn.name == turn.shares)
        node = config.schedule.get(turn.name)
        schedule = schedule_of(node, turn.name, optimizer, trust) if node is not None else None
        own = {id(p) for p in parameters}
        updates.append(
            TurnUpdate(
                turn,
                [p for p in model.parameters() if id(p) not in own],
                optimizer,
                schedule,
                precision,
                world,
                settings.accumulate,
                settings.clip_grad_norm,
                settings.max_skips,
                settings.compile,
            )
        )
    return updates

"""Learning-rate schedules: made from `schedule.<turn>`, and held against a run's length.

`schedule.<turn>` is one schedule, or a list of schedules that follow one another. Each entry but the last
says how many `updates` it takes, beside its `_target_` and settings:

    schedule:
      main:
        - {_target_: torch.optim.lr_scheduler.ConstantLR, factor: 0.1, updates: 100}
        - {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 900}
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, SequentialLR

from gentrain.building import build_schedule
from gentrain.commands.length import STEPS
from gentrain.config import config_error
from gentrain.errors import UserError, did_you_mean
from gentrain.training.schedules import NAMED, Schedule, in_sequence
from gentrain.training.update import TurnUpdate


def schedule_of(node: Any, turn: str, optimizer: Optimizer, trust: Sequence[str] = ()) -> LRScheduler:
    """What `schedule.<turn>` describes.

    Raises:
        UserError: one line that names the key.
    """
    try:
        plain: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    except OmegaConfBaseException as error:
        raise config_error(error) from error
    if isinstance(plain, str) and plain in NAMED:
        where = f"schedule.{turn}"
        raise UserError(
            f"{where}: expected a _target_ and its settings, found {plain!r}; write {where}._target_={plain}"
        )
    if not isinstance(plain, list):
        return build_schedule(_with_class(plain, turn), turn, optimizer, trust)
    if not plain:
        raise UserError(f"schedule.{turn}: expected at least one schedule, found []; for none: null")
    updates = [_updates(part, f"schedule.{turn}[{i}]") for i, part in enumerate(plain[:-1])]
    if isinstance(plain[-1], dict) and "updates" in plain[-1]:
        where = f"schedule.{turn}[{len(plain) - 1}].updates"
        raise UserError(f"{where}: the last schedule goes on to the end of the run; leave it out")
    places = [f"{turn}[{i}]" for i in range(len(plain))]
    parts = [
        build_schedule(_with_class(part, place), place, optimizer, trust)
        for part, place in zip(plain, places, strict=True)
    ]
    try:
        return in_sequence(optimizer, parts, updates)
    except ValueError as error:
        raise UserError(f"schedule.{turn}: {error}") from error


def _updates(part: Any, where: str) -> int:
    """Take out of an entry how many updates it takes."""
    found = part.pop("updates", None) if isinstance(part, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise UserError(
            f"{where}.updates: expected how many updates this schedule takes before the next begins, at "
            f"least 1, found {found}"
        )
    return found


def _with_class(part: Any, turn: str) -> Any:
    """An entry whose `_target_` is one of `NAMED`, with the class that is meant."""
    target = part.get("_target_") if isinstance(part, dict) else None
    if not isinstance(target, str) or "." in target:
        return part
    if target not in NAMED:
        hint = did_you_mean(target, NAMED) or f"; expected a class, or one of {', '.join(NAMED)}"
        raise UserError(f"schedule.{turn}._target_: no schedule {target}{hint}")
    return {**part, "_target_": f"{NAMED[target].__module__}.{NAMED[target].__name__}"}


# Held against a run's length


@dataclass(frozen=True)
class _Share:
    """The updates of one schedule: where its key is, how many come before it, how many it takes."""

    where: str
    before: int
    updates: int
    every: int  # steps for an update of its turn
    last: bool = True  # of the run, or of a sequence

    def step(self, update: int) -> int:
        """The step of the run at which so many of its updates are done."""
        return (self.before + update) * self.every

    def length(self, key: str) -> str:
        """What to set `key` to."""
        return f"{self.where}.{key}={STEPS if self.last and not self.before else self.updates}"


def check_schedules(updates: Sequence[TurnUpdate], steps: int, quiet: bool = False) -> None:
    """Hold the schedules against the run's length.

    Args:
        updates: one per turn.
        steps: of the run.
        quiet: without the warnings.

    Raises:
        UserError: a schedule that cannot go on so long.
    """
    for update in updates:
        schedule, every = update.schedule, update.turn.every
        if schedule is None:
            continue
        for part, share in _shares(schedule, f"schedule.{update.turn.name}", steps // every, every):
            found = _never(share, steps) if share.updates < 1 else _unlike(part, share, steps)
            if found is not None and not quiet:
                warnings.warn(found, stacklevel=2)


def _shares(schedule: LRScheduler, where: str, updates: int, every: int) -> list[tuple[LRScheduler, _Share]]:
    """Each schedule of a sequence, or the only one, with its share of a run of so many updates."""
    if not isinstance(schedule, SequentialLR):
        return [(schedule, _Share(where, 0, updates, every))]
    begins = [0, *schedule._milestones]
    ends = [*schedule._milestones, max(updates, begins[-1])]
    return [
        (part, _Share(f"{where}[{i}]", begin, min(end, updates) - begin, every, end >= updates))
        for i, (part, begin, end) in enumerate(zip(schedule._schedulers, begins, ends, strict=True))
    ]


def _never(share: _Share, steps: int) -> str:
    return f"{share.where} begins at step {share.step(0)}, after the run's {steps}"


def _unlike(schedule: LRScheduler, share: _Share, steps: int) -> str | None:
    """What the reader should know of a schedule that ends before or after its updates do.

    Raises:
        UserError: it cannot go on so long.
    """
    if isinstance(schedule, OneCycleLR) and schedule.total_steps < share.updates:
        raise UserError(
            f"{share.where}.total_steps={schedule.total_steps} is too short for the {share.updates} updates "
            f"of {steps} steps; give {share.length('total_steps')}"
        )
    whose = f"of {steps}" if share.last else f"before the next begins at step {share.step(share.updates)}"
    follows = "follows the run's length" if share.length("").endswith(STEPS) else "is its share of the run"
    end = getattr(schedule, "T_max", None)
    if isinstance(end, int) and end < share.updates:
        return (
            f"{share.where}.T_max={end}: the schedule ends at step {share.step(end)} {whose}, and the rate "
            f"climbs again; {share.length('T_max')} {follows}"
        )
    if isinstance(schedule, Schedule) and share.last and (total := schedule.total) != share.updates:
        ends = f"the schedule ends at step {share.step(total)}"
        ends += (
            f" of {steps}, and the rate stays at {schedule.final:g}"
            if total < share.updates
            else (f", after the run's {steps}")
        )
        return f"{share.where}.total={total}: {ends}; {share.length('total')} {follows}"
    return None

"""What the next step depends on: what a checkpoint holds of a run, and a run that takes it up."""

from __future__ import annotations

import warnings
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from gentrain.errors import UserError
from gentrain.training import randomness
from gentrain.training.checkpoint import check_same_model
from gentrain.training.distributed import World
from gentrain.training.provenance import environment
from gentrain.training.steps import Steps


@dataclass
class Progress:
    """How far a run is.

    Args:
        step: steps done.
        best: the best validation figure so far; None before the first.
        evaluation: the figures of the last evaluation.
        evaluated: false from a step's checkpoint on to the end of the evaluation due there.
        stale: evaluations in a row without a better figure.
        seconds: of training, over the sessions of the run before this one.
    """

    step: int = 0
    best: float | None = None
    evaluation: dict[str, float] = field(default_factory=dict)
    evaluated: bool = True
    stale: int = 0
    seconds: float = 0.0


def state_of(steps: Steps, progress: Progress) -> dict[str, Any]:
    """Everything that the next step depends on, on rank 0; other ranks contribute."""
    # A rank's running means are its own: the sums travel, one mean is kept.
    turns, world = {}, steps.world
    for update in steps.updates:
        state = update.state_dict()
        state["rank_sums"] = world.gather(state.pop("sums").cpu())
        turns[update.turn.name] = state
    return {
        "step": progress.step,
        "model": steps.model.state_dict(),
        "ema": steps.ema.model.state_dict() if steps.ema else None,
        "turns": turns,
        "random": world.gather(randomness.snapshot(steps.device)),
        "best": progress.best,
        "evaluation": dict(progress.evaluation),
        "evaluated": progress.evaluated,
        "stale": progress.stale,
        "seconds": progress.seconds,
        "environment": environment(steps.device, world),
    }


def take_up(
    steps: Steps, state: dict[str, Any], name: str, inexact: bool = False, anew: Collection[str] = ()
) -> Progress:
    """Bring `steps` to where `state` left them.

    Args:
        steps: of the same model, just made.
        state: of `state_of`.
        name: of the model, for the reader.
        inexact: go on without random state.
        anew: turns whose schedule is another one than in `state`: it goes on as if it had always been.

    Raises:
        UserError: state of another model, or without random state.
    """
    check_same_model(steps.model, name, state)
    try:
        progress = _weights(steps, state, anew)
        _warn_inexact(steps, state.get("environment", {}))
        _random(steps, state, inexact)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            "the checkpoint does not hold what going on from it needs "
            f"({type(error).__name__}: {error}); start a new run from its weights with init="
        ) from error
    return progress


def _weights(steps: Steps, state: dict[str, Any], anew: Collection[str]) -> Progress:
    """Take up all but random state."""
    steps.model.load_state_dict(state["model"])
    if steps.ema:
        if state["ema"] is None:
            raise UserError("the checkpoint has no averaged weights, but train.ema asks for them")
        steps.ema.model.load_state_dict(state["ema"])
    for update in steps.updates:
        turn = dict(state["turns"][update.turn.name])
        if update.turn.name in anew:
            turn["schedule"] = None
        turn["sums"] = _own(turn.pop("rank_sums"), steps.world)
        update.load_state_dict(turn)
    return Progress(
        step=state["step"],
        best=state["best"],
        evaluation=dict(state["evaluation"]),
        # Older checkpoints were written after the evaluation.
        evaluated=state.get("evaluated", True),
        stale=state.get("stale", 0),
        seconds=state["seconds"],
    )


def _random(steps: Steps, state: dict[str, Any], inexact: bool) -> None:
    try:
        randomness.restore(_own(state["random"], steps.world), steps.device)
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        if not inexact:
            raise UserError(
                "the checkpoint lacks random state, so the run cannot go on exactly; "
                "add resume_inexact=true to go on all the same"
            ) from error
        warnings.warn("not bit-exact: the checkpoint lacks random state", stacklevel=2)


def _own(of_ranks: list[Any], world: World) -> Any:
    """This rank's of what was gathered; the last one's where there were fewer ranks."""
    return of_ranks[min(world.rank, len(of_ranks) - 1)]


def _warn_inexact(steps: Steps, before: dict[str, Any]) -> None:
    now = environment(steps.device, steps.world)
    changed = [f"{k} was {before.get(k)}, is {v}" for k, v in now.items() if before.get(k) != v]
    if changed and steps.world.is_main:
        warnings.warn("not bit-exact: " + "; ".join(changed), stacklevel=3)

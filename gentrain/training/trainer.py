"""One loop for every family: it never asks what family it trains.

A step is one fresh batch and all turns that are due. The loop owns backward, precision, clipping,
stepping and averaging (`update.py`, `steps.py`), evaluation, pictures, checkpoints and the end.
"""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
import torch

from gentrain.contracts import Batch, GenerativeModel
from gentrain.errors import Fault, UserError
from gentrain.training import checkpoint, randomness
from gentrain.training.capture import Capture
from gentrain.training.checkpoint import check_same_model
from gentrain.training.distributed import World
from gentrain.training.ema import EMA
from gentrain.training.run import Run
from gentrain.training.steps import CapturedSteps, Steps
from gentrain.training.stopping import StopOnSignal, Stopped
from gentrain.training.tracking import Tracker
from gentrain.training.update import TurnUpdate
from gentrain.training.watching import evaluate, is_better, pictures
from gentrain.trust import again


class TrainingBatches(Protocol):
    """Where training batches come from: a pure function of the step."""

    def at(self, step: int) -> Batch:
        """This rank's part of the batch of `step`."""


@dataclass(frozen=True)
class Plan:
    """How long a run is and what it does when; every number in steps."""

    steps: int
    batch_size: int
    log_every: int
    eval_every: int
    sample_every: int
    checkpoint_every: int
    keep: int
    sample_count: int
    seed: int


@dataclass
class Outcome:
    """What a finished run reached."""

    step: int
    seconds: float
    images_per_second: float
    evaluation: dict[str, float]
    best: float | None


class Trainer:
    """Trains a model.

    Args:
        model: on its device, initialised.
        updates: one per turn, in the model's order.
        ema: the average of the model's weights, or None.
        batches: training batches.
        validation: makes an iterator over the validation batches of this rank, or None without any.
        plan: lengths and intervals.
        world: the ranks.
        run: the run folder (rank 0 writes).
        identity: what the checkpoint says of the run: its config as YAML, names, DataSpec.
        device: of the model.
        capture: how steps are captured and replayed; None: they are run operation by operation.
    """

    def __init__(
        self,
        model: GenerativeModel,
        updates: Sequence[TurnUpdate],
        ema: EMA | None,
        batches: TrainingBatches,
        validation: Callable[[], Iterator[Batch]] | None,
        plan: Plan,
        world: World,
        run: Run,
        identity: dict[str, Any],
        device: torch.device,
        capture: Capture | None = None,
    ) -> None:
        self.model, self.updates, self.ema = model, list(updates), ema
        self.batches, self.validation, self.plan = batches, validation, plan
        self.world, self.run, self.identity, self.device = world, run, identity, device
        self.step = 0  # steps done
        self.best: float | None = None
        self._seconds = 0.0  # of training, over all sessions of the run
        self._evaluation: dict[str, float] = {}
        self._tracker: Tracker | None = None
        self._warned: set[str] = set()
        buffers = [b for b in model.buffers() if b.is_floating_point()]
        parts = (self.updates, ema, world, buffers, device)
        self._run_step = Steps(*parts) if capture is None else CapturedSteps(*parts, capture)

    @property
    def averaged(self) -> GenerativeModel:
        """The model with the averaged weights, or the model itself: what is evaluated and sampled."""
        model = self.ema.model if self.ema else self.model
        assert isinstance(model, GenerativeModel)
        return model

    # The loop

    def fit(self) -> Outcome:
        """Train from the present step to the plan's end.

        Raises:
            Fault: a loss or gradient was not finite (step, turn and term are named), a part of the
                model went bad, or a checkpoint could not be written.
            Stopped: a signal asked for the end; the state is saved.
        """
        started, first = time.perf_counter(), self.step
        self.model.train()
        with StopOnSignal() as stop:  # first: a signal that comes from here on finds the run saved
            if self.world.is_main:
                self._tracker = Tracker(self.run.folder, self.plan.steps, self.step)
            self._log_clock, self._log_step = time.perf_counter(), self.step
            try:
                while self.step < self.plan.steps:
                    self.one_step()
                    if self._tracker:
                        self._tracker.step()
                    signum = self.world.any(stop.signum)
                    self._after_step(signum, started)
                    if signum:
                        self._say_where(signum)
            finally:
                if self._tracker:
                    self._tracker.close()
        seconds = time.perf_counter() - started
        rate = (self.step - first) * self.plan.batch_size / max(seconds, 1e-9)
        return Outcome(self.step, self._seconds + seconds, rate, self._evaluation, self.best)

    def one_step(self) -> None:
        """One fresh batch and all turns that are due."""
        self._run_step(self.batches.at(self.step), self.step)
        self.step += 1

    def _after_step(self, signum: int, started: float) -> None:
        plan, end = self.plan, self.step >= self.plan.steps

        def due(every: int) -> bool:
            return self.step % every == 0 or end

        if due(plan.log_every):
            self._log()
        better = False
        if due(plan.eval_every):
            self._examine()
            better = self._evaluate() if self.validation else False
        if due(plan.sample_every):
            self._pictures()
        if due(plan.checkpoint_every) or signum or better:
            self._check_finite()  # a checkpoint holds sound weights only
            self.save(better, self._seconds + time.perf_counter() - started)

    def _say_where(self, signum: int) -> None:
        raise Stopped(
            f"stopped at step {self.step} of {self.plan.steps}, saved; "
            f"go on with: gentrain train {again()}{shlex.quote(f'resume={self.run.folder}')}",
            signum,
        )

    # Figures

    def _log(self) -> None:
        values: dict[str, float] = {}
        for update in self.updates:
            means, name = update.read(), update.turn.name
            group = "loss" if len(self.updates) == 1 else f"loss/{name}"
            for term, value in means.items():
                if term == "grad_norm":
                    values[f"grad_norm/{name}"] = value
                elif term in ("loss_scale", "skipped"):
                    values[f"scaler/{name}_{term}"] = value
                else:
                    values[f"{group}/{'total' if term == 'loss' else term}"] = value
            values[f"lr/{name}"] = update.learning_rate()
        self._check_finite()
        now = time.perf_counter()
        images = (self.step - self._log_step) * self.plan.batch_size
        values["speed/images_per_second"] = images / max(now - self._log_clock, 1e-9)
        self._log_clock, self._log_step = now, self.step
        if self._tracker:
            self._tracker.scalars(self.step, values)
            for warning in self.model.warnings(values):
                if warning not in self._warned:
                    self._warned.add(warning)
                    self._tracker.say(f"warning: step {self.step}: {warning}")
        if trouble := self.model.healthy():
            raise Fault(f"step {self.step}: {trouble}; {self._way_on()}")

    def _check_finite(self) -> None:
        if not bool(self._run_step.latch):
            return
        reasons = [r for update in self.updates if (r := update.what_went_wrong())]
        raise Fault(
            f"the loss or gradient was not finite at {'; '.join(reasons)}. The weights were kept from "
            f"before that step; lower optim.*.lr or set train.clip_grad_norm; {self._way_on()}"
        )

    def _way_on(self) -> str:
        if self.run.last.exists():
            return f"the last good checkpoint is {self.run.last}"
        return "there is no checkpoint yet"

    def _examine(self) -> None:
        """Log the model's own figures that are too dear for every step."""
        if self._tracker is None:
            return
        with self._looking(self.plan.seed) as model:
            found = model.examine(self._held_out())
        if found:
            self._tracker.scalars(self.step, {f"check/{name}": float(v) for name, v in found.items()})

    def _held_out(self) -> Batch:
        """A batch to look at, the same each time."""
        return next(self.validation()) if self.validation else self.batches.at(0)

    def _evaluate(self) -> bool:
        """Evaluate on the validation images; whether this is the best so far."""
        assert self.validation is not None
        with self._looking(self.plan.seed + self.world.rank) as model:
            found = evaluate(model, self.validation(), self.step, len(self.updates), self.world)
        if found is None:
            return False
        self._evaluation, figure = found
        if self._tracker:
            self._tracker.scalars(self.step, self._evaluation)
            shown = ", ".join(f"{k.removeprefix('eval/')} {v:.4f}" for k, v in self._evaluation.items())
            self._tracker.say(f"step {self.step}/{self.plan.steps}: validation {shown}")
        if not is_better(figure, self.best):
            return False
        self.best = figure
        return True

    def _pictures(self) -> None:
        """A sample grid from the same noise each time, and reconstruction pairs."""
        if self._tracker is None:
            return
        with self._looking(self.plan.seed) as model:
            for name, picture in pictures(model, self._held_out(), self.plan.sample_count).items():
                path = self.run.folder / name / f"step_{self.step:08d}.png"
                self._tracker.picture(self.step, name, picture, path)

    @contextmanager
    def _looking(self, seed: int) -> Iterator[GenerativeModel]:
        """The averaged model in eval mode, without gradients and apart from the run's random state."""
        model = self.averaged
        mode = model.training
        model.eval()
        try:
            with randomness.aside(seed, self.device), torch.no_grad():
                yield model
        finally:
            model.train(mode)

    # State

    def state_dict(self, seconds: float = 0.0) -> dict[str, Any]:
        """Everything that the next step depends on, on rank 0; other ranks contribute."""
        # A rank's running means are its own: the sums travel, one mean is kept.
        turns = {}
        for update in self.updates:
            state = update.state_dict()
            state["rank_sums"] = self.world.gather(state.pop("sums").cpu())
            turns[update.turn.name] = state
        return {
            **self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict() if self.ema else None,
            "turns": turns,
            "random": self.world.gather(randomness.capture(self.device)),
            "best": self.best,
            "evaluation": dict(self._evaluation),
            "seconds": seconds,
            "environment": environment(self.device, self.world),
        }

    def save(self, best: bool, seconds: float) -> None:
        """Write this step's checkpoint, point last.pt (and best.pt) at it, drop the oldest."""
        state = self.state_dict(seconds)
        if not self.world.is_main:
            return
        assert self._tracker is not None
        self._tracker.sync()
        path = self.run.step_file(self.step)
        checkpoint.save(state, path)
        checkpoint.link(path, self.run.last)
        if best:
            checkpoint.link(path, self.run.best)
        for old in self.run.step_files():
            if int(old.stem.removeprefix("step_")) > self.step:
                old.unlink()  # from before a resume at an earlier step
        for old in self.run.step_files()[self.plan.keep :]:
            old.unlink()  # best.pt is a link of its own and keeps its content

    def load_state_dict(self, state: dict[str, Any], inexact: bool = False) -> None:
        """Take up a run where `state` left it.

        Args:
            state: of `state_dict`.
            inexact: go on without random state.

        Raises:
            UserError: state of another model, or without random state.
        """
        check_same_model(self.model, self.identity["names"].get("model", "model"), state)
        try:
            self._restore(state, inexact)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                "the checkpoint does not hold what going on from it needs "
                f"({type(error).__name__}: {error}); start a new run from its weights with init="
            ) from error

    def _restore(self, state: dict[str, Any], inexact: bool) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema:
            if state["ema"] is None:
                raise UserError("the checkpoint has no averaged weights, but train.ema asks for them")
            self.ema.model.load_state_dict(state["ema"])
        for update in self.updates:
            turn = dict(state["turns"][update.turn.name])
            sums = turn.pop("rank_sums")
            update.load_state_dict({**turn, "sums": sums[min(self.world.rank, len(sums) - 1)]})
        self.step, self.best = state["step"], state["best"]
        self._evaluation, self._seconds = dict(state["evaluation"]), state["seconds"]
        self._warn_inexact(state.get("environment", {}))
        try:
            states = state["random"]
            randomness.restore(states[min(self.world.rank, len(states) - 1)], self.device)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            if not inexact:
                raise UserError(
                    "the checkpoint lacks random state, so the run cannot go on exactly; "
                    "add resume_inexact=true to go on all the same"
                ) from error
            warnings.warn("not bit-exact: the checkpoint lacks random state", stacklevel=2)

    def _warn_inexact(self, before: dict[str, Any]) -> None:
        now = environment(self.device, self.world)
        changed = [f"{k} was {before.get(k)}, is {v}" for k, v in now.items() if before.get(k) != v]
        if changed and self.world.is_main:
            warnings.warn("not bit-exact: " + "; ".join(changed), stacklevel=3)


def environment(device: torch.device, world: World) -> dict[str, Any]:
    """What, besides the state, decides the bits of the next step."""
    return {
        "torch": str(torch.__version__),
        "torchvision": version("torchvision"),
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": world.size,
    }

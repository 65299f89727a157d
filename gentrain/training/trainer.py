"""One loop for every family: it never asks what family it trains.

A step is one fresh batch and all turns that are due. The loop owns backward, precision, clipping,
stepping and averaging (`update.py`, `steps.py`), checkpoints, evaluation, pictures and the end. What a
step leaves is saved before anything looks at it.
"""

from __future__ import annotations

import shlex
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch

from gentrain.contracts import Batch, GenerativeModel
from gentrain.errors import Fault, UserError
from gentrain.faults import memory, out_of_memory, reason
from gentrain.training import randomness
from gentrain.training.capture import Capture
from gentrain.training.checkpoint import check_same_model
from gentrain.training.distributed import World
from gentrain.training.ema import EMA
from gentrain.training.plan import Ended, Outcome, Plan, TrainingBatches, figures
from gentrain.training.provenance import environment
from gentrain.training.run import Run, keep_checkpoint
from gentrain.training.steps import CapturedSteps, Steps
from gentrain.training.stopping import StopOnSignal, Stopped
from gentrain.training.tracking import Tracker
from gentrain.training.update import TurnUpdate
from gentrain.training.watching import (
    evaluate,
    examines,
    has_figure,
    is_better,
    looking,
    pictures,
    training_figures,
)
from gentrain.trust import again

#: Above every signal's number: what the ranks tell one another where train.minutes are over.
_TIME_IS_UP = 256


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
        pixels: what a likelihood is of, for the reader: levels, binarisation.
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
        pixels: str = "",
    ) -> None:
        self.model, self.updates, self.ema = model, list(updates), ema
        self.batches, self.validation, self.plan = batches, validation, plan
        self.world, self.run, self.identity, self.device = world, run, identity, device
        self.step = 0  # steps done
        self.best: float | None = None
        self.evaluated = True  # false from a step's checkpoint on to the end of the evaluation due there
        self._stale = 0  # evaluations in a row without a better figure
        self._seconds = 0.0  # of training, over the sessions of the run before this one
        self._started: float | None = None  # on the clock, this session
        self._time_is_up = False
        self._evaluation: dict[str, float] = {}
        self._checks: dict[str, float] = {}
        self._measures = validation is not None and has_figure(model, len(self.updates))
        self._pixels, self._kind = pixels, ""
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
        """Train from the present step to the run's end; what the last session did not get to comes first.

        Raises:
            Fault: a loss or gradient was not finite (step, turn and term are named), a part of the
                model went bad, memory ran out, an evaluation failed, or a checkpoint could not be written.
            Stopped: a signal asked for the end; the state is saved.
        """
        self._started = time.perf_counter()
        self.model.train()
        with StopOnSignal() as stop:  # first: a signal that comes from here on finds the run saved
            if self.world.is_main:
                self._tracker = Tracker(self.run.folder, self.plan, self.step, self.evaluated)
            self._log_clock, self._log_step = time.perf_counter(), self.step
            try:
                self._catch_up()
                while not self.ended():
                    self.one_step()
                    if self._tracker:
                        self._tracker.step()
                    flag = self.world.any(stop.signum + _TIME_IS_UP * self._minutes_over())
                    self._time_is_up = flag >= _TIME_IS_UP
                    self._after_step(flag % _TIME_IS_UP)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                raise Fault(
                    f"{memory(error, 'train', self.model.spec.shape)}; {self.run.what_is_left()}"
                ) from error
            finally:
                if self._tracker:
                    self._tracker.close()
        seconds, ended = self.seconds(), self.ended()
        rate = self.step * self.plan.batch_size / max(seconds, 1e-9)
        why = ended.reason if ended else ""
        reached = (self._evaluation, self.best, self._checks, why, self._kind)
        return Outcome(self.step, seconds, rate, *reached)

    def one_step(self) -> None:
        """One fresh batch and all turns that are due."""
        self._run_step(self.batches.at(self.step), self.step)
        self.step += 1

    def seconds(self) -> float:
        """Of training, over all sessions of the run."""
        return self._seconds + (0.0 if self._started is None else time.perf_counter() - self._started)

    def ended(self) -> Ended | None:
        """Why there is no step left to do, if so; the same on every rank."""
        return self.plan.ended(self.step, self._time_is_up, self._stale)

    def _minutes_over(self) -> bool:
        return self.plan.minutes is not None and self.seconds() >= 60 * self.plan.minutes

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.ended() is not None

    def _after_step(self, signum: int) -> None:
        """Log, save, look, save again: what looking breaks is not lost."""
        plan = self.plan
        if self._due(plan.log_every):
            self._log()
        looks = self._measures or examines(self.model)
        self.evaluated = not (looks and self._due(plan.eval_every))
        if self._due(plan.checkpoint_every) or signum or not self.evaluated:
            self._check_finite()  # a checkpoint holds sound weights only
            self.save()
        if signum:  # a resumed run does first what was due here
            words = f"{again()}{shlex.quote(f'resume={self.run.folder}')}"
            where = f"stopped at step {self.step} of {plan.steps}, saved"
            raise Stopped(f"{where}; go on with: gentrain train {words}", signum)
        if not self.evaluated:
            self._look()
        if self._due(plan.sample_every):
            self._pictures()

    def _catch_up(self) -> None:
        """What was due at the step where the last session ended, and did not happen."""
        if not self.step:
            return
        if self._due(self.plan.eval_every) and not self.evaluated:
            self._look()
        self.evaluated = True
        shown = bool(list(self.run.folder.glob(f"*/step_{self.step:08d}.png")))
        if self._due(self.plan.sample_every) and not shown:
            self._pictures()

    def _look(self) -> None:
        """The figures of this step, and its checkpoint once more, which now holds them."""
        self._examine()
        better = self._evaluate() if self._measures else False
        self.evaluated = True
        self.save(better)

    # Figures

    def _log(self) -> None:
        values = training_figures(self.updates)
        self._check_finite()
        now = time.perf_counter()
        images = (self.step - self._log_step) * self.plan.batch_size
        values["speed/images_per_second"] = images / max(now - self._log_clock, 1e-9)
        values["speed/seconds"] = self.seconds()
        self._log_clock, self._log_step = now, self.step
        if self._tracker:
            self._tracker.scalars(self.step, values)
            self._tracker.progress(self.step, values)
            for warning in self.model.warnings(values):
                self._warn(warning, f"step {self.step}: {warning}")
        if trouble := self.model.healthy():
            raise Fault(f"step {self.step}: {trouble}; {self.run.what_is_left()}")

    def _warn(self, kind: str, line: str) -> None:
        """Once per session and `kind`."""
        assert self._tracker is not None
        if kind not in self._warned:
            self._warned.add(kind)
            self._tracker.say(f"warning: {line}")

    def _check_finite(self) -> None:
        if not bool(self._run_step.latch):
            return
        reasons = [r for update in self.updates if (r := update.what_went_wrong())]
        raise Fault(
            f"the loss or gradient was not finite at {'; '.join(reasons)}. The weights were kept from "
            f"before that step; lower optim.*.lr or set train.clip_grad_norm; {self.run.what_is_left()}"
        )

    def _examine(self) -> None:
        """Log the model's own figures that are too dear for every step; without them training goes on."""
        if self._tracker is None:
            return
        try:
            with looking(self.averaged, self.plan.seed, self.device) as model:
                found = model.examine(self._held_out())
                self._checks = {f"check/{name}": float(value) for name, value in found.items()}
        except Exception as error:
            self._checks = {}
            self._warn(
                "check/",
                f"step {self.step}: no check/ figures: {reason(error)}; training goes on; "
                "raise train.eval_every to ask for them less often",
            )
        if self._checks:
            self._tracker.scalars(self.step, self._checks)
            if not self._measures:
                self._tracker.say(f"step {self.step}/{self.plan.steps}: check {figures(self._checks)}")

    def _held_out(self) -> Batch:
        """A batch to look at, the same each time."""
        return next(self.validation()) if self.validation else self.batches.at(0)

    def _evaluate(self) -> bool:
        """Evaluate on the validation images; whether this is the best so far."""
        assert self.validation is not None
        try:
            with looking(self.averaged, self.plan.seed + self.world.rank, self.device) as model:
                found = evaluate(model, self.validation(), self.step, len(self.updates), self.world)
        except Exception as error:
            failed = f"the evaluation at step {self.step} failed: {reason(error)}"
            raise Fault(f"{failed}; {self._without_evaluation()}") from error
        assert found is not None
        self._evaluation, figure, kind = found
        self._kind = ", ".join(filter(None, [kind, self._pixels])) if kind else ""
        if self._tracker:
            self._tracker.scalars(self.step, self._evaluation)
            shown = figures(self._evaluation, self._kind)
            self._tracker.say(f"step {self.step}/{self.plan.steps}: validation {shown}")
        if not is_better(figure, self.best):
            self._stale += 1
            return False
        self.best, self._stale = figure, 0
        return True

    def _without_evaluation(self) -> str:
        """What is left of a step whose evaluation failed, and how to go on."""
        if self.ended():
            words = shlex.quote(f"ckpt={self.run.folder}")
            return f"the trained model is saved; measure it with: gentrain eval {words} batch_size=10"
        words = shlex.join([f"resume={self.run.folder}", f"train.eval_every={self.plan.steps}"])
        return f"the step is saved; go on without evaluations: gentrain train {words}"

    def _pictures(self) -> None:
        """A sample grid from the same noise each time, and reconstruction pairs; training goes on without."""
        if self._tracker is None:
            return
        try:
            with looking(self.averaged, self.plan.seed, self.device) as model:
                for name, picture in pictures(model, self._held_out(), self.plan.sample_count).items():
                    path = self.run.folder / name / f"step_{self.step:08d}.png"
                    self._tracker.picture(self.step, name, picture, path)
        except Exception as error:
            self._warn(
                "pictures",
                f"step {self.step}: no pictures: {reason(error)}; training goes on; lower train.sample_count "
                "or raise train.sample_every (both may change on resume)",
            )

    # State

    def state_dict(self) -> dict[str, Any]:
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
            "evaluated": self.evaluated,
            "stale": self._stale,
            "seconds": self.seconds(),
            "environment": environment(self.device, self.world),
        }

    def save(self, best: bool = False) -> None:
        """Write this step's checkpoint, point last.pt (and best.pt) at it, drop the oldest."""
        state = self.state_dict()
        if not self.world.is_main:
            return
        assert self._tracker is not None
        self._tracker.sync()
        keep_checkpoint(self.run, state, best, self.plan.keep)

    def load_state_dict(
        self, state: dict[str, Any], inexact: bool = False, anew: Collection[str] = ()
    ) -> None:
        """Take up a run where `state` left it.

        Args:
            state: of `state_dict`.
            inexact: go on without random state.
            anew: turns whose schedule is another one than in `state`: it goes on as if it had always been.

        Raises:
            UserError: state of another model, or without random state.
        """
        check_same_model(self.model, self.identity["names"].get("model", "model"), state)
        try:
            self._restore(state, inexact, anew)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                "the checkpoint does not hold what going on from it needs "
                f"({type(error).__name__}: {error}); start a new run from its weights with init="
            ) from error

    def _restore(self, state: dict[str, Any], inexact: bool, anew: Collection[str]) -> None:
        self.model.load_state_dict(state["model"])
        if self.ema:
            if state["ema"] is None:
                raise UserError("the checkpoint has no averaged weights, but train.ema asks for them")
            self.ema.model.load_state_dict(state["ema"])
        for update in self.updates:
            turn = dict(state["turns"][update.turn.name])
            if update.turn.name in anew:
                turn["schedule"] = None
            sums = turn.pop("rank_sums")
            update.load_state_dict({**turn, "sums": sums[min(self.world.rank, len(sums) - 1)]})
        self.step, self.best = state["step"], state["best"]
        self._evaluation, self._seconds = dict(state["evaluation"]), state["seconds"]
        # Older checkpoints were written after the evaluation.
        self.evaluated, self._stale = state.get("evaluated", True), state.get("stale", 0)
        self._time_is_up = self._minutes_over()
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

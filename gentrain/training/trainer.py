"""One loop for every family: it never asks what family it trains.

A step is one fresh batch and all turns that are due. The loop owns backward, precision, clipping,
stepping and averaging (`update.py`, `steps.py`), checkpoints, evaluation, pictures and the end. What a
step leaves is saved before anything looks at it.
"""

from __future__ import annotations

import shlex
import textwrap
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gentrain.contracts import Batch, GenerativeModel
from gentrain.errors import Fault
from gentrain.faults import compiler_failed, memory, out_of_memory, reason
from gentrain.training.distributed import World
from gentrain.training.plan import Ended, Outcome, Plan, TrainingBatches, figures
from gentrain.training.run import Run, keep_checkpoint
from gentrain.training.state import Progress, state_of, take_up
from gentrain.training.steps import Steps
from gentrain.training.stopping import StopOnSignal, Stopped
from gentrain.training.tracking import Tracker
from gentrain.training.watching import (
    evaluate,
    examines,
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
        steps: of the model, with its turns' updates.
        batches: training batches.
        validation: makes an iterator over the validation batches of this rank, or None without any.
        plan: lengths and intervals.
    """

    #: The run folder, from `fit` on; rank 0 writes.
    run: Run

    def __init__(
        self,
        steps: Steps,
        batches: TrainingBatches,
        validation: Callable[[], Iterator[Batch]] | None,
        plan: Plan,
    ) -> None:
        self.steps, self.batches, self.validation, self.plan = steps, batches, validation, plan
        self.progress = Progress()
        self._identity: dict[str, Any] = {}
        self._started: float | None = None  # on the clock, this session
        self._time_is_up = False
        self._checks: dict[str, float] = {}
        self._measures = validation is not None and self.model.merit is not None
        self._kind = ""
        self._tracker: Tracker | None = None
        self._warned: set[str] = set()

    @property
    def model(self) -> GenerativeModel:
        """The model that is trained."""
        return self.steps.model

    @property
    def world(self) -> World:
        """The ranks."""
        return self.steps.world

    @property
    def step(self) -> int:
        """Steps done."""
        return self.progress.step

    @property
    def averaged(self) -> GenerativeModel:
        """The model with the averaged weights, or the model itself: what is evaluated and sampled."""
        model = self.steps.ema.model if self.steps.ema else self.model
        assert isinstance(model, GenerativeModel)
        return model

    # Where it begins

    def begin_with(self, weights: dict[str, Tensor]) -> None:
        """Begin a new run with another one's weights."""
        self.model.load_state_dict(weights)
        if self.steps.ema:
            self.steps.ema.model.load_state_dict(weights)

    def take_up(
        self, state: dict[str, Any], name: str, inexact: bool = False, anew: Collection[str] = ()
    ) -> None:
        """Go on where `state` left a run; as `state.take_up`.

        Raises:
            UserError: state of another model, or without random state.
        """
        self.progress = take_up(self.steps, state, name, inexact, anew)
        self._time_is_up = self._minutes_over()

    # The loop

    def fit(
        self, run: Run, identity: dict[str, Any], settings: Mapping[str, float | str] | None = None
    ) -> Outcome:
        """Train from the present step to the run's end; what the last session did not get to comes first.

        Args:
            run: its folder.
            identity: what checkpoints say of the run: its config as YAML, names, DataSpec, data.
            settings: {dotted key: value} of that config, by which TensorBoard compares runs.

        Raises:
            Fault: a loss or gradient was not finite (step, turn and term are named), a part of the
                model went bad, memory ran out, an evaluation failed, or a checkpoint could not be written.
            Stopped: a signal asked for the end; the state is saved.
        """
        self.run, self._identity = run, identity
        self._started = time.perf_counter()
        self.model.train()
        with StopOnSignal() as stop:  # first: a signal that comes from here on finds the run saved
            if self.world.is_main:
                self._tracker = Tracker(run.folder, self.plan, self.step, self.progress.evaluated)
                self._tracker.describe(identity["config"], settings or {})
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
                if stop.signum and compiler_failed(error):  # Control-C ends the C++ compiler as well
                    raise self._stopped(", while it was compiled", stop.signum) from error
                if compiler_failed(error):
                    what = textwrap.shorten(str(error), 160, placeholder=" ...")
                    raise Fault(
                        f"torch.compile failed ({what}); set train.compile=false, and see gentrain doctor; "
                        f"{self.run.what_is_left()}"
                    ) from error
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
        reached = (self.progress.evaluation, self.progress.best, self._checks, why, self._kind)
        return Outcome(self.step, seconds, rate, *reached)

    def one_step(self) -> None:
        """One fresh batch and all turns that are due."""
        self.steps(self.batches.at(self.step), self.step)
        self.progress.step += 1

    def seconds(self) -> float:
        """Of training, over all sessions of the run."""
        now = 0.0 if self._started is None else time.perf_counter() - self._started
        return self.progress.seconds + now

    def ended(self) -> Ended | None:
        """Why there is no step left to do, if so; the same on every rank."""
        return self.plan.ended(self.step, self._time_is_up, self.progress.stale)

    def _minutes_over(self) -> bool:
        return self.plan.minutes is not None and self.seconds() >= 60 * self.plan.minutes

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.ended() is not None

    def _stopped(self, how: str, signum: int) -> Stopped:
        words = f"{again()}{shlex.quote(f'resume={self.run.folder}')}"
        where = f"stopped at step {self.step} of {self.plan.steps}{how}"
        return Stopped(f"{where}; go on with: gentrain train {words}", signum)

    def _after_step(self, signum: int) -> None:
        """Log, save, look, save again: what looking breaks is not lost."""
        plan = self.plan
        if self._due(plan.log_every):
            self._log()
        looks = self._measures or examines(self.model)
        self.progress.evaluated = not (looks and self._due(plan.eval_every))
        if self._due(plan.checkpoint_every) or signum or not self.progress.evaluated:
            self._check_finite()  # a checkpoint holds sound weights only
            self.save()
        if signum:  # a resumed run does first what was due here
            raise self._stopped(", saved", signum)
        if not self.progress.evaluated:
            self._look()
        if self._due(plan.sample_every):
            self._pictures()

    def _catch_up(self) -> None:
        """What was due at the step where the last session ended, and did not happen."""
        if not self.step:
            return
        if self._due(self.plan.eval_every) and not self.progress.evaluated:
            self._look()
        self.progress.evaluated = True
        shown = bool(list(self.run.folder.glob(f"*/step_{self.step:08d}.png")))
        if self._due(self.plan.sample_every) and not shown:
            self._pictures()

    def _look(self) -> None:
        """The figures of this step, and its checkpoint once more, which now holds them."""
        self._examine()
        better = self._evaluate() if self._measures else False
        self.progress.evaluated = True
        self.save(better)

    # Figures

    def _log(self) -> None:
        values = training_figures(self.steps.updates)
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
        if not bool(self.steps.latch):
            return
        reasons = [r for update in self.steps.updates if (r := update.what_went_wrong())]
        raise Fault(
            f"the loss or gradient was not finite at {'; '.join(reasons)}. The weights were kept from "
            f"before that step; lower optim.*.lr or set train.clip_grad_norm; {self.run.what_is_left()}"
        )

    def _examine(self) -> None:
        """Log the model's own figures that are too dear for every step; without them training goes on."""
        if self._tracker is None:
            return
        try:
            with looking(self.averaged, self.plan.seed, self.steps.device) as model:
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
            with looking(self.averaged, self.plan.seed + self.world.rank, self.steps.device) as model:
                found = evaluate(model, self.validation(), self.step, self.world)
        except Exception as error:
            failed = f"the evaluation at step {self.step} failed: {reason(error)}"
            raise Fault(f"{failed}; {self._without_evaluation()}") from error
        self.progress.evaluation, figure, kind = found
        self._kind = ", ".join(filter(None, [kind, self.plan.pixels])) if kind else ""
        if self._tracker:
            self._tracker.scalars(self.step, self.progress.evaluation)
            shown = figures(self.progress.evaluation, self._kind)
            self._tracker.say(f"step {self.step}/{self.plan.steps}: validation {shown}")
        if not is_better(figure, self.progress.best):
            self.progress.stale += 1
            return False
        self.progress.best, self.progress.stale = figure, 0
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
            with looking(self.averaged, self.plan.seed, self.steps.device) as model:
                for name, shown in pictures(model, self._held_out(), self.plan.sample_count).items():
                    path = self.run.folder / name / f"step_{self.step:08d}.png"
                    self._tracker.picture(self.step, name, shown.picture, path)
                    if shown.wav is not None:
                        self._tracker.sound(self.step, name, shown.wav, path.with_suffix(".wav"))
        except Exception as error:
            self._warn(
                "pictures",
                f"step {self.step}: no pictures: {reason(error)}; training goes on; lower train.sample_count "
                "or raise train.sample_every (both may change on resume)",
            )

    def save(self, best: bool = False) -> None:
        """Write this step's checkpoint, point last.pt (and best.pt) at it, drop the oldest."""
        progress = replace(self.progress, seconds=self.seconds())
        state = {**self._identity, **state_of(self.steps, progress)}
        if not self.world.is_main:
            return
        assert self._tracker is not None
        self._tracker.sync()
        keep_checkpoint(self.run, state, best, self.plan.keep)

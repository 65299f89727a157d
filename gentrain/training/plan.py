"""What a run is to do, when it has ended, and what it reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from gentrain.contracts import Batch


class TrainingBatches(Protocol):
    """Where training batches come from: a pure function of the step."""

    def at(self, step: int) -> Batch:
        """This rank's part of the batch of `step`."""


@dataclass(frozen=True)
class Ended:
    """Why a run has nothing left to do ("": its steps are done), and the override that gives it more."""

    reason: str
    more: str


@dataclass(frozen=True)
class Plan:
    """How long a run is and what it does when; in steps where nothing else is said.

    train_images: how many there are, for the epoch. None: unknown.
    minutes: of training over all sessions, after which the run ends. None: no limit.
    patience: evaluations in a row without a better figure, after which the run ends. None: no limit.
    say_seconds: between two lines of progress where the output is no terminal.
    track: where figures and pictures go besides metrics.jsonl: `trackers` says what can be named.
    pixels: what a likelihood is of, for the reader: levels, binarisation.
    """

    steps: int
    batch_size: int
    log_every: int
    eval_every: int
    sample_every: int
    checkpoint_every: int
    keep: int
    sample_count: int
    seed: int
    train_images: int | None = None
    minutes: float | None = None
    patience: int | None = None
    say_seconds: float = 30.0
    track: tuple[str, ...] = ("tensorboard",)
    pixels: str = ""

    def seen(self, step: int) -> dict[str, float]:
        """How many images `step` steps have taken, and how often each."""
        images = step * self.batch_size
        epoch = {"epoch": images / self.train_images} if self.train_images else {}
        return {"images": images, **epoch}

    def ended(self, step: int, time_is_up: bool, stale: int) -> Ended | None:
        """Why no step is left to do, if so.

        Args:
            step: steps done.
            time_is_up: whether `minutes` are over.
            stale: evaluations in a row without a better figure.
        """
        why, more = [], []
        if time_is_up and self.minutes is not None:
            why.append(f"train.minutes={self.minutes:g} are over")
            more.append(f"train.minutes={2 * self.minutes:g}")
        if self.patience is not None and stale >= self.patience:
            why.append(f"no better figure in {stale} evaluations")
            more.append(f"train.patience={2 * stale}")
        if step >= self.steps:
            return Ended("", " ".join([f"train.steps={2 * step}", *more]))
        return Ended(" and ".join(why), " ".join(more)) if why else None


@dataclass
class Outcome:
    """What a finished run reached.

    seconds: of training, over all sessions; images_per_second: in them.
    checks: the last figures of `GenerativeModel.examine`.
    ended: why, where it was not the number of steps.
    kind: of the evaluation's likelihood, and of what pixels.
    """

    step: int
    seconds: float
    images_per_second: float
    evaluation: dict[str, float]
    best: float | None
    checks: dict[str, float] = field(default_factory=dict)
    ended: str = ""
    kind: str = ""

    @property
    def figures(self) -> str:
        """What was found for a reader: the evaluation, else the checks; empty without either."""
        if self.evaluation:
            return f"validation {figures(self.evaluation, self.kind)}"
        return f"check {figures(self.checks)}" if self.checks else ""


def figures(found: dict[str, float], kind: str = "") -> str:
    """ "nats 84.1234, nats_stderr 0.1234 (ELBO, 2 levels, binarize=dynamic)" of `eval/nats` and so on."""
    shown = ", ".join(f"{name.partition('/')[2]} {value:.4f}" for name, value in found.items())
    return f"{shown} ({kind})" if kind else shown

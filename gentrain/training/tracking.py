"""What a run writes while it trains: TensorBoard, metrics.jsonl, pictures, the progress bar."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import shlex
import sys
import time
import warnings
import wave
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from torch import Tensor
from tqdm import tqdm

from gentrain.errors import Fault
from gentrain.files import replacing, writing
from gentrain.images import save_png
from gentrain.saying import say
from gentrain.training.plan import Plan
from gentrain.training.trackers import OURS, OtherTracker

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Tracker:
    """Writes one run's figures and pictures; on ranks other than 0 it is not made at all.

    Args:
        folder: the run folder.
        plan: of the run.
        start: steps already done; anything in metrics.jsonl beyond them is dropped.
        evaluated: whether the evaluation of step `start` was done; else its figures are dropped too.
    """

    def __init__(self, folder: Path, plan: Plan, start: int, evaluated: bool = True) -> None:
        self.folder, self.plan = folder, plan
        self._disk_warned = False
        self._said = time.perf_counter()  # when progress was last told
        self._settings: dict[str, float | str] = {}
        self._figures: set[str] = set()  # that runs are compared by
        self._writer = self._open(start) if OURS in plan.track else None
        self._others: list[OtherTracker] = []
        truncate_metrics(folder / "metrics.jsonl", start, evaluated)
        self._metrics = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        # disable=None: quiet when not on a terminal.
        self._bar = tqdm(total=plan.steps, initial=start, unit="step", disable=None, dynamic_ncols=True)

    def _open(self, start: int) -> SummaryWriter | None:
        """TensorBoard's writer; None, with a warning, where the folder's name is not stored as UTF-8."""
        from torch.utils.tensorboard import SummaryWriter

        if os.fsencode(self.folder) != str(self.folder).encode("utf-8", "replace"):
            self._warn_disk("it takes names in UTF-8 only")
            return None
        return SummaryWriter(str(self.folder), purge_step=start + 1 if start else None)

    def step(self) -> None:
        """One more step is done."""
        self._bar.update()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl and a TensorBoard scalar each. Not-a-number is written as null.

        Raises:
            Fault: metrics.jsonl cannot be written.
        """
        finite = {k: v if math.isfinite(v) else None for k, v in values.items()}
        try:
            line = {"step": step, **self.plan.seen(step), **finite}
            self._metrics.write(json.dumps(line) + "\n")
            self._metrics.flush()
        except OSError as error:
            self._cannot_write(error)

        def write(writer: SummaryWriter) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        self._figures |= {name for name in values if name.startswith(("loss/", "eval/", "check/"))}
        self._tensorboard(write)
        for other in self._others:
            other.scalars(step, values)
        shown = {k: v for k, v in values.items() if k.startswith(("loss/", "eval/"))}
        self._bar.set_postfix({k: f"{v:.4g}" for k, v in shown.items()}, refresh=False)

    def picture(self, step: int, name: str, picture: Tensor, path: Path) -> None:
        """A PNG under the run folder and the same picture, uint8 [C, height, width], in TensorBoard."""
        save_png(picture, path)
        self._tensorboard(lambda writer: writer.add_image(name, picture, step))
        for other in self._others:
            other.picture(step, name, picture)

    def sound(self, step: int, name: str, wav: bytes, path: Path) -> None:
        """A WAV file under the run folder, and the same sound in TensorBoard."""
        with writing(path) as temporary:
            temporary.write_bytes(wav)
        with wave.open(io.BytesIO(wav)) as file:
            rate, frames = file.getframerate(), file.readframes(file.getnframes())
        samples = np.frombuffer(frames, "<i2").astype(np.float32) / 2**15
        self._tensorboard(lambda writer: writer.add_audio(name, samples[None], step, rate))

    def describe(self, config: str, settings: Mapping[str, float | str]) -> None:
        """What is trained, for the trackers: the config as text, and its settings beside the final figures.

        The figures are those that this session logs: the page of hyperparameters compares runs by them.

        Args:
            config: YAML.
            settings: {dotted key: value}.
        """
        self._settings = dict(settings)
        self._others = [OtherTracker(name, self.folder, settings) for name in self.plan.track if name != OURS]
        # Four spaces more make it code in Markdown.
        text = "".join(f"    {line}\n" for line in config.splitlines())
        self._tensorboard(lambda writer: writer.add_text("config", text))

    def _compare(self, writer: SummaryWriter) -> None:
        """Write the settings, and which figures the runs are compared by."""
        from torch.utils.tensorboard.summary import hparams

        # Not by add_hparams, which leaves a folder with another event file.
        for summary in hparams(self._settings, dict.fromkeys(sorted(self._figures), 0.0)):
            writer._get_file_writer().add_summary(summary)

    def say(self, line: str) -> None:
        """A line for the reader that does not tear the bar."""
        with tqdm.external_write_mode(file=sys.stdout):
            say(line)

    def progress(self, step: int, values: Mapping[str, float]) -> None:
        """A line on how far the run is, now and then, where there is no bar to see it.

        Args:
            step: steps done.
            values: of a log line: losses, `speed/images_per_second` and `speed/seconds`.
        """
        now = time.perf_counter()
        seen = not self._bar.disable and sys.stdout is not None and sys.stdout.isatty()
        if seen or now - self._said < self.plan.say_seconds:
            return
        self._said = now
        losses = {k.removesuffix("/total"): v for k, v in values.items() if k.endswith("/total")}
        shown = ", ".join(f"{k.removeprefix('loss/')} {v:.4g}" for k, v in losses.items())
        rate = values["speed/images_per_second"]
        left = (self.plan.steps - step) * self.plan.batch_size / max(rate, 1e-9)
        if self.plan.minutes is not None:
            left = min(left, max(0.0, 60 * self.plan.minutes - values["speed/seconds"]))
        self.say(
            f"step {step}/{self.plan.steps}: {shown}, {rate:.0f} images/s, {tqdm.format_interval(left)} left"
        )

    def _tensorboard(self, write: Callable[[SummaryWriter], Any]) -> None:
        if self._writer is None:
            return
        try:
            write(self._writer)
        except (OSError, RuntimeError) as error:  # the writer's own thread re-raises what it met
            self._warn_disk(error)

    def _warn_disk(self, error: BaseException | str) -> None:
        if not self._disk_warned:
            self._disk_warned = True
            warnings.warn(
                f"TensorBoard cannot write to {self.folder}: {error}; training goes on", stacklevel=3
            )

    def sync(self) -> None:
        """Put every line of metrics on the disk, before a checkpoint says that they are there.

        Raises:
            Fault: they cannot be written.
        """
        try:
            self._metrics.flush()
            os.fsync(self._metrics.fileno())
        except OSError as error:
            self._cannot_write(error)

    def _cannot_write(self, error: OSError) -> NoReturn:
        words = shlex.quote(f"resume={self.folder}")
        raise Fault(
            f"cannot write {self._metrics.name}: {error.strerror or error}; make room, then go on with: "
            f"gentrain train {words}"
        ) from error

    def close(self) -> None:
        """End the bar and the files."""
        self._bar.close()
        with contextlib.suppress(OSError):  # said by the write that failed
            self._metrics.close()
        if self._settings and self._figures:
            self._tensorboard(self._compare)
        self._tensorboard(lambda writer: writer.close())
        for other in self._others:
            other.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a metrics.jsonl; a torn last line is left out."""
    lines = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict) and "step" in entry:
                lines.append(entry)
    return lines


def truncate_metrics(path: Path, step: int, evaluated: bool = True) -> None:
    """Drop what was written after `step`, or by its evaluation if that was not done: it comes again."""
    if not path.is_file():
        return

    def stays(entry: dict[str, Any]) -> bool:
        of_evaluation = any(key.startswith(("eval/", "check/")) for key in entry)
        return entry["step"] < step or (entry["step"] == step and (evaluated or not of_evaluation))

    kept = [entry for entry in read_metrics(path) if stays(entry)]
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")

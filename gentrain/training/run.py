"""The run folder: made exclusively once every check has passed, and locked while it is in use."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gentrain.errors import Fault, UserError
from gentrain.files import LEFTOVER, check_writable, expanded, unwritable
from gentrain.training import checkpoint, distributed, latest
from gentrain.trust import again

OUTPUTS = Path("outputs")


def safe_name(name: str) -> str:
    """A model's or data set's name as part of a folder's: letters, digits, `.`, `_` and `-` alone."""
    return re.sub(r"[^\w.-]+", "_", name.replace("/", "_"), flags=re.ASCII).strip(".") or "run"


@dataclass
class Run:
    """One run's folder.

    config.yaml, metrics.jsonl, the TensorBoard events, samples/ and checkpoints/ (step_00001000.pt, last.pt,
    best.pt).
    """

    folder: Path
    _lock: FileLock | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.folder / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation figure."""
        return self.checkpoints / "best.pt"

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.folder / "config.yaml"

    def step_file(self, step: int) -> Path:
        """The checkpoint of `step`."""
        return self.checkpoints / f"step_{step:08d}.pt"

    def step_files(self) -> list[Path]:
        """The checkpoints by step, newest first."""
        files = {
            int(m.group(1)): f
            for f in self.checkpoints.glob("step_*.pt")
            if (m := re.fullmatch(r"step_(\d+)\.pt", f.name))
        }
        return [files[step] for step in sorted(files, reverse=True)]

    def what_is_left(self) -> str:
        """What there is to go on from after a failure, in words."""
        return (
            f"the last good checkpoint is {self.last}" if self.last.exists() else "there is no checkpoint yet"
        )

    def lock(self) -> None:
        """Take the folder for this process until it ends; a killed process leaves no lock behind.

        Raises:
            UserError: another process trains here; names its pid.
        """
        owner = self.folder / ".pid"
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
            owner.unlink(missing_ok=True)  # it may be another user's
            owner.write_text(f"{os.getpid()}\n")
        except Timeout:
            pid = owner.read_text().strip() if owner.is_file() else "unknown"
            raise UserError(f"{self.folder} is in use by pid {pid}; wait for it or stop it") from None
        except OSError as error:
            raise unwritable(f"cannot lock {self.folder}", error) from error
        self._lock = lock

    def in_use(self) -> bool:
        """Whether a process trains here now."""
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except (Timeout, OSError):  # where nothing can be locked nothing can be known
            return True
        lock.release()
        return False

    def release(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            (self.folder / ".pid").unlink(missing_ok=True)
            self._lock.release()
            self._lock = None


def _before_config(entry: Path) -> bool:
    """Whether a run that ended before its config.yaml may have left this: it holds nothing of value.

    Its own marks, checkpoints/ without any, settings that are empty (a power cut) or half written, and a log,
    which stays.
    """
    if entry.name == "checkpoints":
        return entry.is_dir() and not any(entry.iterdir())
    if entry.name in (".lock", ".pid", ".launch") or entry.name.endswith(LEFTOVER):
        return True
    if entry.name == "config.yaml":
        return entry.stat().st_size == 0
    # What a shell or a queue writes of the command to the folder that it names; no file of ours is called so.
    return entry.suffix in (".log", ".out", ".err") and entry.is_file()


def check_new(folder: Path) -> None:
    """See that a new run may begin in `folder`, which need not exist.

    Raises:
        UserError: it holds something, or another process is at work there.
    """
    if not folder.exists() or all(_before_config(entry) for entry in folder.iterdir()):
        return
    if (folder / ".lock").exists():
        Run(folder).lock()  # says "in use" where that is why
    raise UserError(
        f"run_dir={folder} is not empty; choose another, or: gentrain train {again()}"
        + shlex.quote(f"resume={folder}")
    )


def create(
    model: str,
    dataset: str,
    run_dir: str | None = None,
    base: Path | None = None,
    now: datetime | None = None,
) -> Run:
    """Make a new run folder, lock it and let `latest` name it.

    Args:
        model, dataset: names for outputs/<model>-<dataset>/<date>_<time>.
        run_dir: the user's own folder instead; it must be new, empty, or left before its config.yaml.
        base: a folder for the run's folder instead of outputs/<model>-<dataset> (sweeps).
        now: the time in the name.

    Raises:
        UserError: `run_dir` holds something, or nothing can be written there.
    """
    if run_dir is not None:
        folder = expanded(run_dir)
        check_writable(folder)
        check_new(folder)
        folder.mkdir(parents=True, exist_ok=True)
    else:
        parent = base or OUTPUTS / f"{safe_name(model)}-{safe_name(dataset)}"
        check_writable(parent)
        parent.mkdir(parents=True, exist_ok=True)
        stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
        folder = exclusive(parent, stamp)
    run = Run(folder)
    try:
        run.lock()
        checkpoint.clean_leftovers(folder)
        run.checkpoints.mkdir(exist_ok=True)
    except (OSError, Fault) as error:  # the disk is full
        run.release()
        if run_dir is None:  # ours, made just now; a folder that was named may be somebody's
            shutil.rmtree(folder, ignore_errors=True)
        raise error if isinstance(error, Fault) else unwritable(f"cannot make {folder}", error) from error
    if launch := distributed.launch_id():
        (folder / ".launch").write_text(launch)
    name_latest(folder, [OUTPUTS] if run_dir is not None or base is not None else [OUTPUTS, folder.parent])
    return run


def exclusive(parent: Path, name: str) -> Path:
    """Make the folder `name` in `parent`, or `name-2`, `name-3`, ... where that is taken."""
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def name_latest(folder: Path, places: Sequence[Path]) -> None:
    """Let `latest` in each of `places` name the run in `folder`, or say that it cannot."""
    for place in places:
        try:
            place.mkdir(exist_ok=True)
            latest.tidy(place)
            latest.point(place / latest.NAME, folder)
        except OSError as error:
            print(
                f"note    {place / latest.NAME} cannot be written ({error.strerror}): "
                f"name this run by its folder, {folder}"
            )


def keep_checkpoint(run: Run, state: dict, best: bool, keep: int) -> None:
    """Write a step's checkpoint, point last.pt at it, and best.pt if it is the `best`; drop the oldest.

    Args:
        run: whose it is.
        state: of the trainer.
        best: whether its evaluation is the best so far.
        keep: how many checkpoints stay; best.pt besides, which is a link of its own and keeps its content.

    Raises:
        Fault: it cannot be written; what was there stays.
    """
    path = run.step_file(state["step"])
    checkpoint.save(state, path)
    if best:  # first: killed in between, the run is resumed from a last.pt that is not evaluated yet
        checkpoint.link(path, run.best)
    checkpoint.link(path, run.last)
    for old in run.step_files():
        if int(old.stem.removeprefix("step_")) > state["step"]:
            old.unlink()  # from before a resume at an earlier step
    for old in run.step_files()[keep:]:
        old.unlink()

"""The run folder: made exclusively once every check has passed, locked while in use, found again."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from gentrain import exported
from gentrain.errors import CorruptFile, Fault, UserError
from gentrain.files import expanded, unwritable
from gentrain.training import checkpoint, distributed, latest
from gentrain.trust import again

OUTPUTS = Path("outputs")


def safe_name(name: str) -> str:
    """A model's or data set's name as part of a folder's: letters, digits, `.`, `_` and `-` alone."""
    return re.sub(r"[^\w.-]+", "_", name.replace("/", "_"), flags=re.ASCII).strip(".") or "run"


def check_writable(place: Path, instead: str = "choose another run_dir") -> None:
    """Refuse a place where no folder can be made, before any data are read. Leaves nothing behind.

    Args:
        place: a folder that need not exist.
        instead: what to do about it.

    Raises:
        UserError: the first existing parent and what is wrong with it.
    """
    parent = place.absolute()
    while not parent.exists() and not parent.is_symlink():
        parent = parent.parent
    if not parent.is_dir():
        raise UserError(f"cannot write to {place}: {parent} is not a folder; {instead}")
    # os.access says yes to root on a read-only file system: try.
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".gentrain-", dir=parent))
    except OSError as error:
        raise UserError(f"cannot write to {place}: {parent}: {error.strerror}; {instead}") from error


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
    """Whether a run that was interrupted before its config.yaml may have left this: it holds nothing."""
    if entry.name == "checkpoints":
        return entry.is_dir() and not any(entry.iterdir())
    return entry.name in (".lock", ".pid", ".launch")


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


def restarted(run_dir: str | None) -> Run | None:
    """The run that this launch began, in `run_dir` or outputs/, before it was started again."""
    launch = distributed.launch_id()
    if launch is None or not distributed.restarts():
        return None
    markers = [expanded(run_dir) / ".launch"] if run_dir else sorted(_own(OUTPUTS, ".launch"))
    for marker in filter(Path.is_file, reversed(markers)):
        if marker.read_text() == launch:
            return Run(marker.parent)
    return None


def _own(outputs: Path, name: str) -> list[Path]:
    """The files `name` of the runs in `outputs`, without those of a run that was copied as `latest`."""
    return [file for file in outputs.rglob(name) if latest.NAME not in file.parts]


def short(path: Path) -> Path:
    """`path` without symbolic links, relative to the current folder where it lies below it."""
    real = path.resolve()
    here = Path.cwd()
    return real.relative_to(here) if real.is_relative_to(here) else real


def find_run(place: str) -> Run:
    """The run that `place` means: `latest`, a run folder, or a file in its checkpoints.

    Raises:
        UserError: there is none.
    """
    if place == latest.NAME:
        newest = latest.run_of(OUTPUTS)
        if newest is None:
            raise UserError(
                f"no run in {OUTPUTS.absolute()} yet; train one: gentrain train; or give ckpt=FILE"
            )
        return Run(short(newest))
    path = located(place)
    if path.is_file():
        if path.resolve().parent.name != "checkpoints":
            raise UserError(
                f"{path} lies in no run folder, so there is nothing to go on with; for a new run from its "
                f"weights: gentrain train {shlex.quote(f'init={path}')}"
            )
        return Run(short(path.resolve().parent.parent))
    folder = short(path)
    if not folder.is_dir():
        raise UserError(f"no run at {path}")
    if not (folder / "config.yaml").is_file() and not (folder / "checkpoints").is_dir():
        inner = latest.run_of(folder, ["*"])
        if inner is None:
            raise UserError(f"{path} is not a run folder: it has no config.yaml")
        return Run(short(inner))
    return Run(folder)


def located(place: str) -> Path:
    """The path that `place` means: `~` and every `latest` on it followed.

    Raises:
        UserError: it leads nowhere.
    """
    return latest.through(expanded(place))


def find_checkpoint(place: str) -> Path:
    """The file that `ckpt=place` means: itself, or the last one of the run that it names; an exported folder.

    Raises:
        UserError: there is none.
    """
    if place != latest.NAME:
        path = located(place)
        if exported.is_export(path):
            return exported.folder_of(path)
        if path.is_file():
            return path
        place = str(path)
    run = find_run(place)
    if found := last_of(run):
        return found
    if place == latest.NAME:  # it has just begun, or failed: the newest that has something to show
        others = sorted(_own(OUTPUTS, "checkpoints/last.pt"), key=lambda f: f.stat().st_mtime_ns)
        if others:
            print(f"note    {run.folder} has no checkpoint; taking {others[-1].parent.parent}")
            return others[-1]
    words = f"gentrain train {again()}{shlex.quote(f'resume={run.folder}')}"
    ways = "wait for its first" if run.in_use() else f"it has stopped before its first, go on: {words}"
    raise UserError(f"{run.folder} has no checkpoint yet; {ways}, or give ckpt=FILE")


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


def last_of(run: Run) -> Path | None:
    """The last checkpoint of `run`, if there is any."""
    return next((file for file in [run.last, *run.step_files()] if file.is_file()), None)


def newest_good(run: Run) -> tuple[Path, dict, list[str]] | None:
    """The newest checkpoint of `run` that loads, and a line for each newer one that does not.

    None where the run has no checkpoint at all.

    Raises:
        CorruptFile: there are checkpoints and none is good.
    """
    candidates = [f for f in [run.last, *run.step_files(), run.best] if f.is_file()]
    seen: set[int] = set()
    problems: list[str] = []
    for path in candidates:
        inode = path.stat().st_ino
        if inode in seen:
            continue
        seen.add(inode)
        try:
            return path, checkpoint.load(path), problems
        except CorruptFile as error:
            problems.append(str(error))
    if problems:
        raise CorruptFile(f"{run.folder} has no good checkpoint: " + "; ".join(problems))
    return None

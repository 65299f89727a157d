"""Finding a run and its checkpoints again: by its folder, a file in it, or `latest`."""

from __future__ import annotations

import shlex
from pathlib import Path

from gentrain import exported
from gentrain.errors import CorruptFile, UserError
from gentrain.files import expanded
from gentrain.training import checkpoint, distributed, latest
from gentrain.training.run import OUTPUTS, Run
from gentrain.trust import again


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
        raise UserError(f"no run at {path}; name a run folder, a checkpoint in one, an export, or latest")
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

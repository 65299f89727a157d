"""`latest`: a text file beside runs that names the newest of them, as a path from its own folder.

A text file and no link: TensorBoard and programs that copy follow links, and a run would be shown, or lie
there, once more under that name. What names a run or a checkpoint to a command may lead through it. Links,
which earlier versions made, mean the same, and become text files when the next run is begun.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from gentrain.errors import UserError

NAME = "latest"
#: Longer than any path, shorter than any checkpoint.
_LONGEST = 8192
#: How a run folder's name begins that we made.
_STAMP = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")


def point(pointer: Path, run: Path) -> None:
    """Make the file `pointer` name the folder `run`, replacing what it named at once.

    Raises:
        OSError: it cannot be written, or a folder lies there.
    """
    target = os.path.relpath(run.resolve(), pointer.parent.resolve())
    temporary = pointer.with_name(f".{NAME}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(os.fsencode(target) + b"\n")
        os.replace(temporary, pointer)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def tidy(outputs: Path) -> None:
    """Make the links of earlier versions in `outputs` text files, and remove those that they left behind.

    Raises:
        OSError: nothing can be written there.
    """
    for pattern in (NAME, f"*/{NAME}"):
        for link in outputs.glob(pattern):
            target = link.resolve()
            if link.is_symlink() and target.is_dir():
                point(link, target)
    for pattern in (f".{NAME}.*", f"*/.{NAME}.*"):
        for link in outputs.glob(pattern):
            if link.is_symlink():
                link.unlink()


def through(path: Path) -> Path:
    """`path`, gone on from the run that is meant where it leads through a `latest`.

    Raises:
        UserError: what that names is gone, and there is no run beside it.
    """
    for place in (path, *path.parents):
        if place.name == NAME and _is_pointer(place):
            run = run_of(place.parent)
            if run is not None:
                return run / path.relative_to(place)
            if not place.is_dir():
                raise UserError(f"{place} names a run that is gone, and there is no other beside it")
    return path


def run_of(folder: Path, patterns: Sequence[str] = ("*", "*/*", "*/*/*")) -> Path | None:
    """The run that `folder`/latest names; the newest below `folder` where it names none, which is said.

    Args:
        folder: outputs, or a folder of runs.
        patterns: where runs lie in it.
    """
    pointer = folder / NAME
    if (named := _named(pointer)) is not None:
        return named
    found = newest(folder, patterns)
    if found is not None and os.path.lexists(pointer):
        print(f"note    {pointer} does not name a run: taking the newest, {found}")
    return found


def newest(folder: Path, patterns: Sequence[str]) -> Path | None:
    """The run below `folder` that was begun last."""
    runs = {config.parent for pattern in patterns for config in folder.glob(f"{pattern}/config.yaml")}
    # What has that name is one of the others: a link, or a copy of what a link led to.
    own = [run for run in runs if not any(map(_is_name, run.relative_to(folder).parts))]
    return max(own, key=_begun, default=None)


def _is_name(part: str) -> bool:
    return part == NAME or part.startswith(f".{NAME}.")


def _begun(run: Path) -> tuple[float, int]:
    """When a run was begun: as its name says, which no copying changes, or when its config was written."""
    written = (run / "config.yaml").stat().st_mtime_ns
    stamp = _STAMP.match(run.name)
    try:
        named = datetime.strptime(stamp.group(), "%Y-%m-%d_%H-%M-%S").timestamp() if stamp else None
    except ValueError:
        named = None
    return (written / 1e9 if named is None else named), written


def _is_pointer(place: Path) -> bool:
    """Whether `place`, which has the name, may be a pointer: a small text file, a link, or a run's copy."""
    if place.is_symlink():
        return True
    if place.is_file():
        return _text(place) is not None
    return (place / "config.yaml").is_file() or (place / "checkpoints").is_dir()


def _named(pointer: Path) -> Path | None:
    """The folder that `pointer` names, if it is there."""
    if pointer.is_symlink() and pointer.is_dir():
        return pointer.resolve()
    if pointer.is_file():
        text = _text(pointer)
        named = pointer.parent / os.fsdecode(text) if text else None
        return named if named is not None and named.is_dir() else None
    if pointer.is_dir():  # a run that its user called so, or one that was copied from a link
        config = pointer / "config.yaml"
        own = config.is_file() and re.search(
            rf"^run_dir: .*\b{NAME}/?['\"]?$", config.read_text(errors="replace"), re.MULTILINE
        )
        return pointer if own else None
    return None


def _text(pointer: Path) -> bytes | None:
    """What a text file says; None of another."""
    try:
        with pointer.open("rb") as file:
            data = file.read(_LONGEST)
    except OSError:
        return None
    return None if b"\0" in data else data.removesuffix(b"\n")

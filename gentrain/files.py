"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from gentrain.errors import Fault, GentrainError, UserError

#: How a file ends whose writer was killed.
LEFTOVER = ".partial"

#: What is wrong with a place, however often one tries.
_NEVER = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.ENOTEMPTY),
}
#: A disk without room, or a share of it that is used up.
_FULL = {errno.ENOSPC, errno.EDQUOT}


def expanded(place: str | Path, remedy: str = "give the whole path, or set HOME") -> Path:
    """`place` with the user's folder for `~`.

    Raises:
        UserError: the system knows none, without HOME or of an unknown user; says `remedy`.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise UserError(f"{place}: no home folder is known; {remedy}") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes its place at once when the block ends well.

    When the block fails, what was at `path` stays and nothing is left behind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    with _beside(path) as temporary:
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def writing(path: Path, elsewhere: str = "") -> Iterator[Path]:
    """`replacing`, for a file that a user waits for.

    Args:
        path: the file.
        elsewhere: what to type to have it in another place, if there is such a thing.

    Raises:
        UserError, Fault: as `unwritable` says.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise unwritable(f"cannot write {path}", error, elsewhere) from error


def numbered(path: Path, fill: Callable[[Path], object], elsewhere: str = "") -> tuple[Path, bool]:
    """Write a file that takes no other's place: under `path`, or the next name that is free, x-2.png.

    Where one of these names holds the same already, nothing is written.

    Args:
        path: the first of the names.
        fill: writes to the path that it is given.
        elsewhere: as for `writing`.

    Returns:
        Where it is, and whether it is new.

    Raises:
        UserError, Fault: as `unwritable` says.
    """
    try:
        with _beside(path) as temporary:
            fill(temporary)
            for name in _names(path):
                if _takes(temporary, name):
                    return name, True
                if name.is_file() and filecmp.cmp(temporary, name, shallow=False):
                    return name, False
    except OSError as error:
        raise unwritable(f"cannot write {path}", error, elsewhere) from error
    raise AssertionError("there is always another number")


def unwritable(what: str, error: OSError, elsewhere: str = "") -> GentrainError:
    """The error to raise for a file that could not be written: the user's mistake, or the machine's fault.

    Args:
        what: "cannot write x.png".
        error: why.
        elsewhere: as for `writing`.
    """
    said = f"{what}: {error.strerror or error}"
    if mistaken(error):
        return UserError(said + (f"; name another place with {elsewhere}" if elsewhere else ""))
    ways = ["make room there"] if error.errno in _FULL else []
    ways += [f"write to another disk with {elsewhere}"] if elsewhere else []
    return Fault("; ".join([said, ", or ".join(ways)] if ways else [said]))


def mistaken(error: OSError) -> bool:
    """Whether the place itself is wrong, and not the disk full or failing."""
    return error.errno in _NEVER


def check_folder(folder: Path, typed: str, elsewhere: str = "") -> None:
    """Refuse a folder that cannot be written, or made, before the work that fills it. Leaves nothing behind.

    Args:
        folder: need not exist.
        typed: what the user typed to have files there, or the file.
        elsewhere: as for `writing`.

    Raises:
        UserError: the first folder above that exists, and what is wrong with it.
        Fault: the disk is full.
    """
    there, error = _probed(folder)
    if error is not None:
        raise unwritable(f"{typed}: cannot write to {there}", error, elsewhere) from error


def check_writable(folder: Path, instead: str = "choose another run_dir") -> None:
    """`check_folder` for the folder of a run.

    Args:
        folder: need not exist.
        instead: what to do where nothing can be written.

    Raises:
        UserError: the first folder above that exists, and what is wrong with it.
    """
    there, error = _probed(folder)
    if error is not None:
        raise UserError(f"cannot write to {folder}: {there}: {error.strerror}; {instead}") from error


def _probed(folder: Path) -> tuple[Path, OSError | None]:
    """The first of `folder` and those above it that exists, and why nothing can be made in it."""
    there = folder.absolute()
    while not there.exists() and not there.is_symlink():
        there = there.parent
    if not there.is_dir():
        return there, NotADirectoryError(errno.ENOTDIR, "it is not a folder")
    # os.access says yes to root on a read-only file system: try.
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".gentrain-", dir=there))
    except OSError as error:
        return there, error
    return there, None


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name in the folder of `path`, which is made; no file has it when the block ends."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{LEFTOVER}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _names(path: Path) -> Iterator[Path]:
    """x.png, x-2.png, x-3.png and so on."""
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def _takes(temporary: Path, name: Path) -> bool:
    """Give a file `name` where nothing has it; whether it did."""
    try:
        name.open("x").close()  # an empty file, so that no other process takes the name
    except FileExistsError:
        return False
    try:
        os.replace(temporary, name)
    except OSError:
        name.unlink()
        raise
    return True


def write_text(path: Path, text: str) -> None:
    """Write `text` so that `read_text` gives it back, whatever the locale and whatever names it holds.

    Raises:
        OSError: the file cannot be written.
    """
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def read_text(path: Path) -> str:
    """The text of a file; damaged bytes are replaced.

    Raises:
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace")


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that it lasts through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

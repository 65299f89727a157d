"""Files that are written whole or not at all, and what is said where they cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gentrain.errors import Fault, UserError
from gentrain.files import numbered, unwritable, writing


def filled(path: Path, content: str) -> tuple[str, bool]:
    found, new = numbered(path, lambda file: file.write_text(content))
    return found.name, new


def test_no_file_takes_anothers_place(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.y.png"
    assert filled(path, "a") == ("x.y.png", True)
    assert filled(path, "b") == ("x.y-2.png", True)
    assert filled(path, "c") == ("x.y-3.png", True)
    assert filled(path, "b") == ("x.y-2.png", False)
    path.unlink()
    assert filled(path, "d") == ("x.y.png", True)
    assert {file.name: file.read_text() for file in path.parent.iterdir()} == {
        "x.y.png": "d",
        "x.y-2.png": "b",
        "x.y-3.png": "c",
    }


def test_what_is_no_file_has_a_name_too(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x-2.png").symlink_to("nowhere")
    assert filled(tmp_path / "x.png", "a") == ("x-3.png", True)
    assert not (tmp_path / "nowhere").exists()


def replaced(path: Path, fill: Callable[[Path], object], elsewhere: str) -> None:
    with writing(path, elsewhere) as temporary:
        fill(temporary)


@pytest.mark.parametrize("write", [numbered, replaced])
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, write: Callable[..., object]) -> None:
    def full(file: Path) -> None:
        file.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(Fault, match=r"cannot write .*/x\.png: No space left on device; make room there, or"):
        write(tmp_path / "x.png", full, "out=FILE")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "rest"),
    [
        (errno.ENOSPC, Fault, "; make room there, or write to another disk with out=FILE"),
        (errno.EDQUOT, Fault, "; make room there, or write to another disk with out=FILE"),
        (errno.EIO, Fault, "; write to another disk with out=FILE"),
        (errno.ESTALE, Fault, "; write to another disk with out=FILE"),
        (errno.EROFS, UserError, "; name another place with out=FILE"),
        (errno.EACCES, UserError, "; name another place with out=FILE"),
        (errno.EPERM, UserError, "; name another place with out=FILE"),
        (errno.ENOTDIR, UserError, "; name another place with out=FILE"),
        (errno.ENAMETOOLONG, UserError, "; name another place with out=FILE"),
    ],
)
def test_a_mistake_or_the_machine(number: int, kind: type, rest: str) -> None:
    error = OSError(number, os.strerror(number))
    found = unwritable("cannot write x", error, "out=FILE")
    assert type(found) is kind
    assert str(found) == f"cannot write x: {os.strerror(number)}{rest}"
    assert "out=" not in str(unwritable("cannot write x", error))


def test_an_error_without_a_number() -> None:
    """As PIL's own."""
    found = unwritable("cannot write x", OSError("encoder error -2"))
    assert type(found) is Fault
    assert str(found) == "cannot write x: encoder error -2"

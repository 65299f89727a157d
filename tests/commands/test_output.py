"""Where commands write: what was there before, a full disk, a place that cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from running import MODELS, Ended

#: Every command on a model that writes a file: what is typed, another seed's or choice's, the default name.
WRITERS = {
    "sample": (["sample", "n=4"], "seed=1", "samples.png"),
    "npz": (["sample", "n=4", "out=x.npz"], "seed=1", ""),
    "reconstruct": (["reconstruct"], "images=1,2", "reconstructions.png"),
    "interpolate": (["interpolate", "rows=1"], "seed=1", "interpolations.png"),
    "arithmetic": (["arithmetic", "n=4"], "seed=1", "arithmetic_latents.png"),
    "encode": (["encode"], "split=validation", "latents.npz"),
}


def complete(gentrain: Callable[..., Ended], *typed: str) -> Ended:
    return gentrain("complete", "images=0", "n=1", *typed)


@pytest.mark.parametrize("name", [name for name, (*_, default) in WRITERS.items() if default])
def test_a_default_name_that_is_taken_gives_way(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, name: str
) -> None:
    typed, other, default = WRITERS[name]
    path = trained.mlp / default
    second = path.with_stem(f"{path.stem}-2")
    typed = [*typed, "ckpt=mlp"]
    assert f"wrote   {path} (" in gentrain(*typed).out
    first = path.read_bytes()
    again = gentrain(*typed)
    assert f"wrote   {path} (" in again.out
    assert "), unchanged\n" in again.out
    assert not second.exists()
    done = gentrain(*typed, other)
    assert done.status == 0, done.err
    assert f"wrote   {second} (" in done.out
    assert "unchanged" not in done.out
    assert path.read_bytes() == first != second.read_bytes()
    assert not list(trained.mlp.glob(".*partial"))


def test_what_was_typed_is_replaced_and_said(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    done = gentrain("sample", "n=4", "out=x.png")
    assert "wrote   x.png (4 images, step 20)\n" in done.out
    first = Path("x.png").read_bytes()
    done = gentrain("sample", "n=4", "out=x.png", "seed=1")
    assert "wrote   x.png (4 images, step 20), replaced\n" in done.out
    assert Path("x.png").read_bytes() != first
    assert not Path("x-2.png").exists()


def test_completions_and_the_projector(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *MODELS["pixelcnn"], "train.steps=1", "run_dir=run").status == 0
    assert "wrote   run/completions.png (" in complete(gentrain).out
    assert "wrote   run/completions-2.png (" in complete(gentrain, "seed=1").out
    small = ["model=vae_mlp", "model.hidden=[8]", "train.steps=1", "run_dir=mlp"]
    assert gentrain("train", *small).status == 0
    assert "replaced" not in gentrain("encode", "images=0,1", "projector=true").out
    again = gentrain("encode", "images=0,1", "projector=true")
    assert "mlp/latents.npz (latents [2, 50]), unchanged\n" in again.out
    assert "Projector tab), replaced\n" in again.out


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS], ids=["full", "read-only"])
def test_what_keeps_a_file_from_being_written(
    gentrain: Callable[..., Ended],
    trained: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
) -> None:
    """A full disk is the machine's fault, a place that can never be written a mistake."""

    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    typed, _, default = WRITERS[name]
    before = sorted(Path().rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        ended = gentrain(*typed)
    path = trained.conv / default if default else Path("x.npz")
    way = "make room there, or write to another disk" if number == errno.ENOSPC else "name another place"
    assert ended.status == (1 if number == errno.ENOSPC else 2)
    assert ended.one_line() == (f"gentrain: cannot write {path}: {os.strerror(number)}; {way} with out=FILE")
    assert sorted(Path().rglob("*")) == before


def test_a_run_folder_that_cannot_be_written(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before anything is drawn, with the way on."""
    import tempfile

    def fail(*_: Any, **__: Any) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", fail)
    ended = gentrain("sample", "ckpt=mlp")
    assert ended.status == 2
    assert ended.one_line().startswith("gentrain: mlp/samples.png: cannot write to /")
    assert ended.one_line().endswith("/mlp: Read-only file system; name another place with out=FILE")


def test_a_full_disk_under_the_projector(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(numpy, "savetxt", full)
    ended = gentrain("encode", "ckpt=mlp", "images=0,1", "projector=true")
    assert ended.status == 1
    assert "cannot write to mlp/projector: No space left on device; make room there" in ended.one_line()

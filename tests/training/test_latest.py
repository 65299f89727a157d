"""`latest` names the newest run, and goes on doing so when outputs are copied, moved, linked or read-only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from running import Ended
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

import gentrain as package
from gentrain.errors import UserError
from gentrain.training import checkpoint, finding, latest, run

LITTLE = ["model=vae_mlp", "model.hidden=[8]", "train.batch_size=32", "train.sample_count=4"]
RUNS = Path("outputs/vae-digits")


def begun(hour: int, **more: str) -> Path:
    """A run that was begun at that hour and has a checkpoint."""
    made = run.create("vae", "digits", now=datetime(2026, 1, 2, hour), **more)
    made.config.write_text(f"run_dir: {more.get('run_dir', 'null')}\n")
    checkpoint.save({"config": "", "step": hour}, made.last)
    made.release()
    return made.folder


def links(names: Sequence[str] = ("outputs/latest", "outputs/vae-digits/latest")) -> None:
    """Make the pointers what earlier versions made of them."""
    for name in map(Path, names):
        target = name.read_text().strip()
        name.unlink()
        name.symlink_to(target)


def copied(tmp_path: Path) -> Path:
    """Copy the current folder as programs do that follow links."""
    shutil.copytree(Path(), tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    return tmp_path / "copy"


def test_the_pointer_is_a_path_from_its_folder(workplace: Path) -> None:
    folder = begun(1)
    assert Path("outputs/latest").read_text() == f"vae-digits/{folder.name}\n"
    assert Path(RUNS, "latest").read_text() == f"{folder.name}\n"
    own = begun(2, run_dir="my runs/é (1)")
    assert Path("outputs", Path("outputs/latest").read_text().strip()).samefile(own)
    assert sorted(f.name for f in Path("outputs").iterdir()) == ["latest", "vae-digits"], "nothing is left"


@pytest.mark.parametrize("change", [lambda: None, links])
def test_every_path_may_lead_through_it(workplace: Path, change: Callable[[], None]) -> None:
    begun(1)
    newest = begun(2)
    change()
    for place in ("latest", "outputs/latest", "outputs/vae-digits/latest", "outputs/vae-digits"):
        assert finding.find_run(place).folder == newest
        assert finding.find_checkpoint(place) == newest / "checkpoints/last.pt"
    through = "outputs/vae-digits/latest/checkpoints/last.pt"
    assert finding.find_checkpoint(through).samefile(newest / "checkpoints/last.pt")
    assert finding.find_run(str(workplace / through)).folder == newest


def test_outputs_that_were_moved(workplace: Path) -> None:
    begun(1)
    folder = begun(2)
    Path("elsewhere").mkdir()
    os.rename("outputs", "elsewhere/mine")
    assert finding.find_run("elsewhere/mine/latest").folder == Path("elsewhere/mine/vae-digits", folder.name)
    Path("outputs").symlink_to("elsewhere/mine")
    assert finding.find_run("latest").folder.samefile(Path("elsewhere/mine/vae-digits", folder.name))
    newer = begun(3)
    assert finding.find_run("latest").folder.samefile(newer)


def test_a_copy_in_place_of_the_link_is_not_believed(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(1)
    old = begun(2)
    links()
    monkeypatch.chdir(copied(workplace))
    assert Path("outputs/latest/config.yaml").is_file()
    for folder in (Path("outputs"), RUNS):
        os.utime(folder / "latest/config.yaml", (2**31, 2**31))  # copied last
    assert finding.find_run("latest").folder == old
    new = begun(3)
    assert "outputs/latest cannot be written" in capsys.readouterr().out
    for place in ("latest", "outputs/latest", "outputs/vae-digits/latest", "outputs/vae-digits"):
        assert finding.find_run(place).folder == new
        assert f"does not name a run: taking the newest, {new}" in capsys.readouterr().out
    through = finding.find_checkpoint("outputs/latest/checkpoints/last.pt")
    assert checkpoint.load(through)["step"] == 3
    assert not list(Path().rglob(".latest.*")), "nothing is left behind"


def test_runs_whose_name_says_no_time_go_by_their_files(workplace: Path) -> None:
    for number, name in enumerate(["b", "c", "a"]):
        folder = begun(1, run_dir=f"outputs/own/{name}")
        os.utime(folder / "config.yaml", (number, number))
    Path("outputs/latest").unlink()
    assert finding.find_run("latest").folder == Path("outputs/own/a")
    sweep = Path("outputs/sweeps/x/y")
    shutil.copytree("outputs/own/a", sweep)
    os.utime(sweep / "config.yaml", (9, 9))
    assert finding.find_run("latest").folder == sweep


def test_a_run_that_is_called_so_is_one(workplace: Path) -> None:
    mine = begun(1, run_dir="models/latest")
    begun(2, run_dir="models/other")
    assert finding.find_run("models/latest").folder == mine
    Path("latest").mkdir()
    Path("latest/inner").mkdir()
    assert latest.through(Path("latest/inner")) == Path("latest/inner"), "a folder of that name means nothing"


def test_a_pointer_to_what_is_gone(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = begun(1), begun(2)
    shutil.rmtree(second)
    assert finding.find_run("outputs/vae-digits/latest").folder == first
    assert "note    outputs/vae-digits/latest does not name a run" in capsys.readouterr().out
    assert finding.find_run("latest").folder == first
    shutil.rmtree(first)
    with pytest.raises(UserError, match="outputs/vae-digits/latest names a run that is gone"):
        finding.find_run("outputs/vae-digits/latest")
    with pytest.raises(UserError, match="no run in"):
        finding.find_run("latest")
    Path("outputs/latest").write_bytes(b"PK\0")
    assert latest.through(Path("outputs/latest")) == Path("outputs/latest"), "a file of another kind"


def test_links_of_earlier_versions_become_text_at_the_next_run(workplace: Path) -> None:
    old = begun(1)
    other = run.create("glow", "digits").folder
    links(["outputs/latest", "outputs/vae-digits/latest", "outputs/glow-digits/latest"])
    Path("outputs/.latest.0a1b2c3d").symlink_to("vae-digits")
    Path("outputs/vae-digits/.latest.0a1b2c3d").symlink_to(old.name)
    begun(2, run_dir="outputs/own")
    assert not [path for path in Path("outputs").rglob("*") if path.is_symlink()]
    assert finding.find_run("outputs/glow-digits/latest").folder == other
    assert finding.find_run("outputs/vae-digits/latest").folder == old


def test_tensorboard_shows_each_run_once(gentrain: Callable[..., Ended]) -> None:
    for seed in (1, 2):
        done = gentrain("train", *LITTLE, f"seed={seed}", "train.steps=2")
        assert done.status == 0, done.err
    shown = EventMultiplexer()
    shown.AddRunsFromDirectory("outputs")
    assert sorted(shown.Runs()) == sorted(str(f.parent.relative_to("outputs")) for f in configs())
    for word in ("outputs/vae_mlp-digits/latest", "outputs/latest"):
        model = package.load(word)
        assert len(model.sample(1)) == 1
    resumed = gentrain("train", "resume=outputs/vae_mlp-digits/latest", "train.steps=3")
    assert resumed.status == 0, resumed.err


def configs() -> list[Path]:
    return list(Path("outputs").rglob("config.yaml"))


# Where nothing can be written


def test_the_pointer_is_not_needed(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`outputs` is a file, the run lies elsewhere: the dry run is right that all is well."""
    Path("outputs").write_text("a file")
    arguments = [*LITTLE, "train.steps=2", "run_dir=elsewhere/run"]
    assert gentrain("train", *arguments, "dry_run=true").status == 0
    done = gentrain("train", *arguments)
    assert done.status == 0, done.err
    assert "note    outputs/latest cannot be written (File exists): name this run by its folder" in done.out
    assert Path("outputs").read_text() == "a file"
    assert gentrain("sample", "ckpt=elsewhere/run", "n=1").status == 0
    assert "no run in" in gentrain("sample").one_line()


def test_a_read_only_folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system, where even root can make nothing."""
    begun(1)
    replace = os.replace

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "latest":
            raise OSError(30, "Read-only file system", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    newer = begun(2)
    assert finding.find_run(str(newer)).folder == newer
    assert not list(Path().rglob(".latest.*"))


def test_a_run_that_cannot_be_written_is_not_resumed(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gentrain("train", *LITTLE, "train.steps=2", "run_dir=run").status == 0
    for part in ("run", "run/checkpoints"):
        with monkeypatch.context() as patch:
            patch.setattr("tempfile.mkdtemp", read_only(Path(part).absolute()))
            refused = gentrain("train", "resume=run", "train.steps=4")
        assert refused.status == 2
        assert f"cannot write to {part}: " in refused.one_line()
        assert "a resumed run goes on in its own folder: copy that to where" in refused.one_line()
    assert gentrain("train", "resume=run", "train.steps=4").status == 0


def read_only(folder: Path) -> Callable[..., str]:
    from tempfile import mkdtemp

    def make(*, prefix: str, dir: Path) -> str:
        if Path(dir) == folder:
            raise OSError(30, "Read-only file system", str(dir))
        return mkdtemp(prefix=prefix, dir=dir)

    return make


def test_a_file_that_lies_in_no_run(gentrain: Callable[..., Ended]) -> None:
    assert gentrain("train", *LITTLE, "train.steps=2", "run_dir=run").status == 0
    Path("nb").mkdir()
    shutil.copy("run/checkpoints/last.pt", "nb/model 1.pt")
    refused = gentrain("train", "resume=nb/model 1.pt")
    assert refused.status == 2
    assert "nb/model 1.pt lies in no run folder" in refused.one_line()
    assert "gentrain train 'init=nb/model 1.pt'" in refused.one_line()
    assert "no run at nothing" in gentrain("train", "resume=nothing").one_line()


def test_no_home(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    with pytest.raises(UserError, match=r"~/run: no home folder is known"):
        finding.find_run("~/run")
    with pytest.raises(UserError, match=r"~/run: no home folder is known"):
        run.create("vae", "digits", run_dir="~/run")

"""The user's own modules: named with trust=, found beside their configs or in the current folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import Ended, stop_at

import gentrain as package
from gentrain.errors import UserError

MODEL = """
from gentrain.models.autoencoder.vae import VAE

class Mine(VAE):
    pass
"""
CONFIG = """# @package _global_
defaults: [vae_mlp, _self_]
model: {{_target_: {module}.Mine, hidden: [8], latent_dim: 2}}
"""
SHORT = ["model=mine", "train.steps=2", "train.sample_count=4"]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python looks where it looks for `gentrain` as a program: not in the current folder."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", ".")])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("own_"):
            del sys.modules[name]


def own(module: str, place: str) -> None:
    """`model=mine` in the config folder `conf`, its module in `place`."""
    for folder in ("conf/model", place):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("conf/model/mine.yaml").write_text(CONFIG.format(module=module))
    Path(place, f"{module}.py").write_text(MODEL)


def words(line: str) -> list[str]:
    """What follows `gentrain` in the command that a line ends with."""
    return shlex.split(line.rpartition("gentrain ")[2])


@pytest.mark.parametrize(("module", "place"), [("own_in", "conf"), ("own_beside", "."), ("own_here", "here")])
def test_a_module_beside_its_config_and_what_is_typed_next(
    gentrain: Callable[..., Ended],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    place: str,
) -> None:
    own(module, place)
    conf = "conf"
    if place == "here":
        monkeypatch.chdir(place)
        conf = "../conf"
    done = gentrain("train", "--config-dir", conf, *SHORT, f"trust={module}", "run_dir=r")
    assert done.status == 0, done.err
    following = words(done.out.splitlines()[-1])
    assert ("--config-dir" in following) == (place == "conf"), "only where it is needed to find the module"
    assert f"trust={module}" in following
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.startswith(str(workplace))])
    del sys.modules[module]
    done = gentrain(*following)
    assert done.status == 0, done.err
    ended = gentrain("train", *following[1:-1], "resume=r")
    assert gentrain(*words(ended.one_line()), "dry_run=true").status == 0
    assert gentrain(*words(gentrain("reconstruct", *following[1:]).out.splitlines()[-1])).status == 0


def test_a_stopped_run_says_how_to_go_on(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    own("own_stopped", "conf")
    ended = stop_at(
        gentrain, monkeypatch, 1, "--config-dir", "conf", *SHORT, "trust=own_stopped", "run_dir=r"
    )
    assert ended.status == 143
    done = gentrain(*words(ended.one_line()))
    assert done.status == 0, done.err


def test_what_is_not_named_stays_out(gentrain: Callable[..., Ended], workplace: Path) -> None:
    own("own_unnamed", "conf")
    before = list(sys.path)
    refused = gentrain("train", "--config-dir", "conf", *SHORT)
    assert "trust=own_unnamed" in refused.one_line()
    assert gentrain("train", "--config-dir", "conf", "dry_run=true", "trust=torch").status == 0
    assert sys.path == before


def test_a_module_that_is_not_there(gentrain: Callable[..., Ended], workplace: Path) -> None:
    (workplace / "conf").mkdir()
    said = gentrain("sample", "--config-dir", "conf", "trust=own_nowhere").one_line()
    for part in ("trust=own_nowhere", str(workplace), str(workplace / "conf"), "PYTHONPATH"):
        assert part in said
    assert "e.g. trust=own_file" in gentrain("train", "trust=./own_file.py").one_line()


@pytest.mark.parametrize("verb", ["train", "sample", "eval", "list", "encode"])
def test_one_name_is_a_list_of_one(gentrain: Callable[..., Ended], verb: str) -> None:
    assert "trust=own_x: no such module" in gentrain(verb, "trust=own_x").one_line()
    assert "trust=[own_x,own_y]" in gentrain(verb, "trust=own_x,own_y").one_line()
    assert "trust: expected a name or a list of names" in gentrain(verb, "trust=3").one_line()


def test_from_python(gentrain: Callable[..., Ended], workplace: Path) -> None:
    own("own_python", ".")
    assert gentrain("train", "--config-dir", "conf", *SHORT, "trust=own_python", "run_dir=r").status == 0
    with pytest.raises(UserError, match="trust=own_python"):
        package.load("r")
    assert type(package.load("r", trust="own_python")).__name__ == "Mine"
    with pytest.raises(UserError, match="no such module"):
        package.build(["trust=own_nowhere"], package.DataSpec(shape=(1, 8, 8)))


def test_the_names_of_the_package_are_shown() -> None:
    assert set(package.__all__) <= set(dir(package))

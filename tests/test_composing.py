"""Composing inside a program that uses Hydra for its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from running import Ended

import gentrain as package
from gentrain.building import build_source
from gentrain.errors import UserError

SPEC = package.DataSpec(shape=(1, 8, 8), levels=17)
SMALL = ["model=vae_mlp", "model.hidden=[8]"]


@pytest.fixture
def caller(workplace: Path) -> str:
    """The config folder of a program."""
    (workplace / "conf").mkdir()
    (workplace / "conf" / "config.yaml").write_text("a: 1\n")
    return str(workplace / "conf")


def test_the_caller_goes_on_composing(caller: str) -> None:
    with initialize_config_dir(caller, version_base=None):
        for overrides in (SMALL, ["model=vea"], ["modle=vae"], ["train.steps=x"]):
            try:
                package.build(overrides, SPEC)
            except UserError:
                assert overrides != SMALL
            assert compose("config", overrides=["a=2"]).a == 2
    assert not GlobalHydra.instance().is_initialized()
    package.build(SMALL, SPEC)
    assert not GlobalHydra.instance().is_initialized()


def test_a_command_in_this_process_leaves_the_caller_as_he_was(
    gentrain: Callable[..., Ended], caller: str
) -> None:
    with initialize_config_dir(caller, version_base=None):
        assert gentrain("train", *SMALL, "dry_run=true").status == 0
        assert gentrain("train", "modle=vae").status == 2
        assert compose("config", overrides=["a=2"]).a == 2


def test_the_callers_schemas_stay(caller: str) -> None:
    store = ConfigStore.instance()
    store.store(name="train_schema", node={"theirs": 1})
    try:
        package.build(SMALL, SPEC)
        assert store.load("train_schema.yaml").node == {"theirs": 1}
    finally:
        del store.repo["train_schema.yaml"]


def test_an_empty_variable_counts_as_unset(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gentrain.api import compose_train

    def root() -> str:
        return str(compose_train(["dataset=mnist"]).dataset.root)

    monkeypatch.delenv("GENTRAIN_DATA", raising=False)
    unset = root()
    monkeypatch.setenv("GENTRAIN_DATA", "")
    assert root() == unset
    assert f"  root: {unset}\n" in gentrain("train", "dataset=mnist", "--cfg", "job", "--resolve").out
    monkeypatch.setenv("GENTRAIN_DATA", "/some/where")
    assert root() == "/some/where/mnist"
    # That of the cache is asked when it is used.
    for value, expected in (("", "~/.cache/gentrain"), ("/some/where", "/some/where")):
        monkeypatch.setenv("GENTRAIN_CACHE", value)
        assert build_source(compose_train([]).dataset).cache == Path(expected).expanduser()


def test_a_home_that_is_not_known(gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without HOME, for a user that the system does not know."""
    import pwd

    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.delenv("HOME", raising=False)
    cache = os.environ["GENTRAIN_CACHE"]
    monkeypatch.delenv("GENTRAIN_CACHE")
    ended = gentrain("train", "dry_run=true")
    assert ended.status == 2
    assert "no home folder is known; name a folder with dataset.cache=FOLDER or GENTRAIN_CACHE" in ended.err
    assert "dataset.root=~/x: no home folder" in gentrain("train", "dataset.root=~/x").one_line()
    assert gentrain("train", *SMALL, "dry_run=true", f"dataset.cache={cache}").status == 0


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK"])
def test_a_rank_that_is_no_number(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "two")
    ended = gentrain("train", "dry_run=true")
    assert (ended.status, f"{name}=two" in ended.one_line()) == (2, True)
    monkeypatch.setenv(name, "")
    assert gentrain("train", *SMALL, "dry_run=true").status == 0


def test_a_command_composes_its_config_once(
    gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hydra would do all of it twice, which is most of what a refused command takes."""
    from hydra._internal.hydra import Hydra

    composed: list[object] = []
    compose_config = Hydra.compose_config

    def counted(self: Hydra, *args: Any, **settings: Any) -> Any:
        composed.append(args)
        return compose_config(self, *args, **settings)

    monkeypatch.setattr(Hydra, "compose_config", counted)
    before = Hydra.get_mode
    assert gentrain("train", *SMALL, "dry_run=true").status == 0
    assert len(composed) == 1
    assert Hydra.get_mode is before, "it is the caller's Hydra too"

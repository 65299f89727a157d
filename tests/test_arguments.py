"""What is typed after a verb, as Hydra is to read it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from running import Ended

from gentrain.arguments import prepared, split_options
from gentrain.commands.typed import item_of_a_list
from gentrain.errors import UserError


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), min_size=1, max_size=8))
@example("a,b")
@example("[x]")
@example('say "hi"')
@example("back\\")
@example('\\"')
@example("null")
@example("1e3")
@example("5_o_Clock_Shadow")
def test_any_name_can_be_typed_in_a_list(name: str) -> None:
    if name.isascii() and name.isidentifier() and name.lower() not in ("null", "true", "false", "nan", "inf"):
        assert (item_of_a_list(name) == name) == (set(name) - set("eE_0123456789") != set())
    (override,) = OverridesParser.create().parse_overrides([f"attributes=[Male,{item_of_a_list(name)}]"])
    assert override.value() == ["Male", name]


PATHS = {"ckpt", "images"}


@pytest.mark.parametrize(
    ("value", "several"),
    [
        ("a,b", ["a", "b"]),
        ("a b, c(1)=.pt", ["a b", "c(1)=.pt"]),
        ("'a,b',c", ["a,b", "c"]),
        ('"a,b"', ["a,b"]),
        ("a(1,2),b", ["a(1,2)", "b"]),
        ("choice(a,b)", ["a", "b"]),
        ("choice('a,b',c d)", ["a,b", "c d"]),
        ("a'b,c", ["a'b", "c"]),
        ("runs/q,null", ["runs/q", None]),
    ],
)
def test_paths_of_a_sweep(value: str, several: list[str]) -> None:
    override = OverridesParser.create().parse_override(prepared(f"ckpt={value}", PATHS, sweep=True))
    found = [OverridesParser.create().parse_override(f"ckpt={v}").value() for v in _values(override)]
    assert found == several


def _values(override: object) -> list[str]:
    if not override.is_sweep_override():  # type: ignore[attr-defined]
        return [override.get_value_element_as_str()]  # type: ignore[attr-defined]
    return list(override.sweep_string_iterator())  # type: ignore[attr-defined]


@pytest.mark.parametrize("value", ["a,b", "choice(a,b)", "a b,c", "${oc.env:X,y},z"])
def test_without_a_sweep_a_comma_is_part_of_the_path(value: str) -> None:
    override = OverridesParser.create().parse_override(prepared(f"ckpt={value}", PATHS, sweep=False))
    assert override.value() == value


def test_a_list_of_images_is_one_value_in_a_sweep_too() -> None:
    for value in ("0,1,2", "[0, 1]"):
        assert prepared(f"images={value}", PATHS, sweep=True) == f"images='{value}'"
    assert prepared("images=a.png,b.png", PATHS, sweep=True) == "images='a.png','b.png'"


def test_no_empty_path_in_a_sweep() -> None:
    for value in ("a,", ",a", "a,,b", "choice(a,)"):
        with pytest.raises(UserError, match="ckpt is empty"):
            prepared(f"ckpt={value}", PATHS, sweep=True)


def test_a_home_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("~nobody-of-this-name/x", "'~nobody-of-this-name/x'"):
        with pytest.raises(UserError, match=r"ckpt=~nobody-of-this-name/x: no home folder is known"):
            prepared(f"ckpt={value}", PATHS, sweep=False)


def test_info_takes_its_value_either_way() -> None:
    assert split_options("train", ["--info", "defaults", "seed=1"]) == (["--info=defaults"], ["seed=1"])
    assert split_options("train", ["--info=config"]) == (["--info=config"], [])
    assert split_options("train", ["-i", "seed=1"]) == (["--info=all"], ["seed=1"])
    with pytest.raises(UserError, match="--info: expected one of all, config, defaults"):
        split_options("train", ["--info", "default"])


SCHEDULE = "torch.optim.lr_scheduler.CosineAnnealingLR"


@pytest.mark.parametrize(
    "typed",
    [
        ["schedule={main: {_target_: " + SCHEDULE + ", T_max: 8}}"],
        [f"schedule.main._target_={SCHEDULE}", "schedule.main.T_max=8"],
        ["+schedule.main={_target_: " + SCHEDULE + ", T_max: 8}"],
        ["model=ae_linear", "schedule.main.T_max=8"],
    ],
)
def test_a_schedule_for_a_model_without_one(gentrain: Callable[..., Ended], typed: list[str]) -> None:
    done = gentrain("train", *typed, "dry_run=true")
    assert done.status == 0, done.err
    assert f"  main:\n    _target_: {SCHEDULE}\n    T_max: 8\n" in done.out


def test_the_terminal_shows_what_it_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    from gentrain.cli import main

    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            patch.setattr(sys, "stdout", stream)
            assert main(["caf\udce9\u65e5"]) == 2
            stream.flush()
        assert b"unknown command" in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_current_folder_that_was_deleted(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = workplace / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        for verb in ("train", "sample", "list"):
            ended = gentrain(verb)
            assert (ended.status, "the current folder was deleted" in ended.one_line()) == (2, True)
        assert gentrain("--help").status == 0
    finally:
        monkeypatch.chdir(workplace)


def test_a_label_that_hydra_could_not_read() -> None:
    assert prepared("label=caf\udce9", (), sweep=False) == "label='caf\udce9'"
    assert prepared("label=it's caf\u00e9", (), sweep=False) == "label='it\\'s caf\u00e9'"
    for plain in ("label=7", "label=cat", "label=null", "label='a b'"):
        assert prepared(plain, (), sweep=False) == plain


@pytest.mark.parametrize("words", [["train", "run_dir=NAME"], ["sample", "ckpt=run", "out=NAME.png"]])
def test_a_name_that_is_too_long(gentrain: Callable[..., Ended], words: list[str]) -> None:
    small = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "run_dir=run"]
    if words[0] == "sample":
        assert gentrain("train", *small).status == 0
    ended = gentrain(*(word.replace("NAME", "r" * 300) for word in words))
    assert ended.status == 2
    assert "too long" in ended.one_line()

"""Exported folders that are damaged, foreign or meant to do harm: refused, and nothing of them runs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exporting import FEW, edited, rewritten, tensors
from running import Ended, toy

import gentrain as package
from gentrain.errors import UserError

#: What a module that was imported leaves behind.
MARK = "executed"
TRUST = ("toys",)


EVIL = f"""
import os
os.makedirs({MARK!r}, exist_ok=True)
from gentrain.contracts import GenerativeModel
class Model(GenerativeModel): pass
"""


def cut(file: str, by: int) -> Callable[[], object]:
    path = Path("bad", file)
    return lambda: path.write_bytes(path.read_bytes()[:by])


def flipped() -> None:
    path = Path("bad/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def with_config(**entries: Any) -> Callable[[], object]:
    return lambda: edited("bad", lambda config: config.update(entries))


def without(key: str) -> Callable[[], object]:
    return lambda: edited("bad", lambda config: config.pop(key))


def with_weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[], object]:
    def change() -> None:
        weights = tensors("bad")
        edit(weights)
        rewritten("bad", weights)

    return change


def with_header(header: bytes) -> Callable[[], object]:
    def change() -> None:
        content = len(header).to_bytes(8, "little") + header
        Path("bad/model.safetensors").write_bytes(content)
        edited("bad", lambda config: config["weights"].update(sha256=hashlib.sha256(content).hexdigest()))

    return change


def text(content: str) -> Callable[[], object]:
    return lambda: Path("bad/config.json").write_text(content)


def linked(file: str, target: str) -> Callable[[], object]:
    def change() -> None:
        Path("bad", file).unlink()
        Path("bad", file).symlink_to(target)

    return change


def piped() -> None:
    Path("bad/model.safetensors").unlink()
    os.mkfifo("bad/model.safetensors")


#: What is done to the folder `bad`, and what the line must hold.
DAMAGE: dict[str, tuple[Callable[[], object], str]] = {
    "a flipped bit": (flipped, "SHA-256 is not the one"),
    "another hash": (lambda: edited("bad", lambda c: c["weights"].update(sha256="0" * 64)), "SHA-256"),
    "half the weights": (cut("model.safetensors", 500), "SHA-256"),
    "no weights": (lambda: Path("bad/model.safetensors").unlink(), "model.safetensors is missing"),
    "no config": (lambda: Path("bad/config.json").unlink(), "config.json is missing"),
    "empty weights": (with_header(b"{}"), "weights differ"),
    "truncated, hash to match": (
        with_header(b'{"shift":{"dtype":"F32","shape":[64],"data_offsets":[0,256]}}'),
        "corrupt",
    ),
    "a header that is none": (with_header(b"hello"), "corrupt"),
    "a huge shape": (
        with_header(b'{"shift":{"dtype":"F32","shape":[4611686018427387904,64],"data_offsets":[0,0]}}'),
        "corrupt",
    ),
    "a pickle": (lambda: shutil.copy("flow/checkpoints/last.pt", "bad/model.safetensors"), "SHA-256"),
    "a link to a file": (linked("model.safetensors", "/etc/hostname"), "SHA-256"),
    "a link to nowhere": (linked("model.safetensors", "nowhere"), "missing"),
    "a link to a device": (linked("config.json", "/dev/zero"), "missing"),
    "a pipe": (piped, "missing"),
    "no JSON": (text("model: toys"), "no JSON"),
    "half a JSON": (cut("config.json", 300), "no JSON"),
    "no text": (lambda: Path("bad/config.json").write_bytes(b"\xff\xfe\0"), "no JSON"),
    "a list": (text("[1, 2]"), "no mapping"),
    "nothing": (text(""), "no JSON"),
    "deep": (text("[" * 200_000), "no JSON"),
    "NaN": (text('{"format": NaN}'), "NaN is no JSON"),
    "a long number": (text('{"format": ' + "9" * 10_000 + "}"), "no JSON"),
    "a newer format": (with_config(format=99, gentrain="9.0"), "it needs gentrain >= 9.0"),
    "a step": (with_config(step=-1), "step"),
    "a huge step": (with_config(step=10**30), "step"),
    "a step in words": (with_config(step="many"), "found str as its step"),
    "a truth": (with_config(format=True), "format"),
    **{
        f"no {key}": (without(key), f"found nothing as its {key}")
        for key in ("format", "model", "spec", "step", "averaged", "weights", "run")
    },
    "no names": (lambda: edited("bad", lambda c: c["run"].pop("names")), "found nothing as its names"),
    "no dataset": (lambda: edited("bad", lambda c: c["run"].pop("dataset")), "found nothing as its dataset"),
    "two models": (lambda: edited("bad", lambda c: c["run"].update(model={})), "two models"),
    "an unknown section": (lambda: edited("bad", lambda c: c["run"].update(modle={})), "unknown key modle"),
    "a spec": (with_config(spec={"shape": [1, 8]}), "DataSpec"),
    "a huge spec": (with_config(spec={"shape": [1, 10**6, 10**6], "levels": 17}), "bad"),
    "an endless spec": (with_config(spec={"shape": [1, 10**12, 10**12], "levels": 17}), "is refused: images"),
    "a spec in words": (with_config(spec={"shape": "abc"}), "DataSpec"),
    "data": (with_config(data={"digest": 3}), "what it says of its data"),
    "data in words": (with_config(data="mnist"), "what it says of its data"),
    "a foreign target": (with_config(model={"_target_": "os.mkdir", "path": MARK}), "os.mkdir"),
    "a target of ours": (
        with_config(model={"_target_": "gentrain.api.torch.load", "f": "x"}),
        "gentrain.api.torch.load",
    ),
    "a target that wants trust": (with_config(model={"_target_": "evil.Model"}), "trust=evil"),
    "an environment": (with_config(model={"_target_": "${oc.env:HOME}"}), "refused"),
    "a huge model": (
        lambda: edited("bad", lambda c: c["model"].update(hidden=10**9)),
        "weights differ",
    ),
    "another weight": (
        with_weights(lambda w: w.update(another=torch.zeros(2))),
        "1 weights differ, first another (none here",
    ),
    "one weight less": (with_weights(lambda w: w.pop("shift")), "1 weights differ, first shift ("),
    "another shape": (with_weights(lambda w: w.update(shift=torch.zeros(3))), "first shift ([64] here, [3]"),
    "not a number": (
        with_weights(lambda w: w["shift"].fill_(float("nan"))),
        "its weight shift is not a number",
    ),
    "a network that sampling needs is left out": (
        lambda: edited("bad", lambda c: c["weights"].update(without=["net"])),
        "its weights lack 'net', which ToyFlow needs",
    ),
    "left out, in numbers": (
        lambda: edited("bad", lambda c: c["weights"].update(without=[3])),
        "weights.without",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_bad_folder(made: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree("flow-export", "bad")
    Path("evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(made))
    change, part = DAMAGE[name]
    change()
    with pytest.raises(UserError) as raised:
        package.load("bad", trust="toys")
    message = str(raised.value)
    assert "\n" not in message
    assert len(message) < 600
    assert "bad" in message
    assert part in message
    assert not Path(MARK).exists()


@pytest.mark.parametrize("name", ["a flipped bit", "no config", "deep", "another shape", "a huge spec"])
def test_every_way_in_refuses_it(made: Path, gentrain: Callable[..., Ended], name: str) -> None:
    shutil.copytree("flow-export", "bad")
    DAMAGE[name][0]()
    ways = {
        "sample": ["sample", "ckpt=bad", "trust=toys"],
        "eval": ["eval", "ckpt=bad", "trust=toys"],
        "export": ["export", "ckpt=bad", "out=new", "trust=toys"],
        "init": ["train", *toy("toy_flow"), *FEW, "init=bad", "run_dir=new"],
    }
    if name == "a huge spec":
        del ways["init"]  # takes the weights, and nothing of what the folder says of the model
    for way in ways.values():
        done = gentrain(*way)
        assert done.status == 2, done.err
        assert "bad" in done.one_line()
        assert not Path("new").exists()


def test_a_result_without_weights_says_so(workplace: Path) -> None:
    Path("kept").mkdir()
    Path("kept/result.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"the weights of kept are not kept; kept/result\.json has the command"
    ):
        package.load("kept")

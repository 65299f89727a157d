"""Checkpoints that are damaged, foreign or meant to do harm: one line, nothing executed, nothing left behind.

Each is made from a good one and opened by every way in.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from running import Ended

import gentrain as package
from gentrain import hydra_entry
from gentrain.commands.asked import Asked
from gentrain.errors import UserError
from gentrain.training import checkpoint

State = dict[str, Any]
#: What a target that was executed, or a module that was imported, leaves behind.
MARK = "executed"
EVIL = f"""
import os, torch
os.makedirs({MARK!r}, exist_ok=True)
from gentrain.contracts import GenerativeModel
from gentrain.data.digits import Digits
class Model(GenerativeModel): pass
class Data(Digits): pass
class Optimizer(torch.optim.Adam): pass
"""

#: Every way to open the run folder `bad`, but for gentrain.load.
WAYS = {
    "sample": ["sample", "ckpt=bad", "n=2"],
    "eval": ["eval", "ckpt=bad", "samples=1", "limit=3"],
    "resume": ["train", "resume=bad", "train.steps=21"],
    "init": [
        *("train", "init=bad", "model=vae_mlp", "model.hidden=[16]", "model.latent_dim=4"),
        *("dataset=digits", "train.steps=1", "train.batch_size=4", "run_dir=new"),
    ],
}
ALL = {*WAYS, "load"}
#: `init` takes model and data by their names, and no config that cannot be read; `sample` needs no data.
BUILDS_MODEL = ALL - {"init"}
BUILDS_DATA = {"eval", "resume"}


class Evil:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


@pytest.fixture
def bad(trained: SimpleNamespace, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """The state of a good checkpoint; beside it the run folder `bad`, and what hostile targets name."""
    shutil.copytree(trained.mlp, "bad")
    for file in Path("bad/checkpoints").iterdir():
        if file.name != "last.pt":
            file.unlink()
    Path("evil.py").write_text(EVIL)
    Path("hub").mkdir()
    Path("hub/hubconf.py").write_text(f"import os\ndef model():\n    os.mkdir({MARK!r})\n")
    with open("evil.pkl", "wb") as file:
        pickle.dump(Evil(), file)
    monkeypatch.syspath_prepend(str(workplace))
    return checkpoint.load(Path("bad/checkpoints/last.pt"))


COMPOSED: dict[tuple[str, ...], Asked] = {}


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes each command line once for all tests: that takes longer than what is tested."""
    run = hydra_entry.run

    def remembering(verb: str, rest: list[str]) -> int:
        command, key = import_module(f"gentrain.commands.{verb}"), (verb, *rest)

        def remember(asked: Asked) -> None:
            COMPOSED[key] = asked

        if key not in COMPOSED or "init=bad" in rest:  # which takes settings of the run
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(command, "run", remember)
                assert run(verb, rest) == 0
        asked = COMPOSED[key]
        command.run(replace(asked, config=asked.config.copy()))
        return 0

    monkeypatch.setattr(hydra_entry, "run", remembering)


def contents() -> dict[str, str]:
    """Every file and folder here, by what it holds; locks aside."""
    files = [path for path in Path().rglob("*") if path.name not in (".lock", "__pycache__")]
    return {str(f): hashlib.sha256(f.read_bytes()).hexdigest() if f.is_file() else "" for f in files}


def refused_by(gentrain: Callable[..., Ended], ways: set[str], *parts: str, others: int = 0) -> None:
    """Assert that `ways` refuse the run `bad` in one line that holds `parts`.

    Other ways end with the status `others`, and nothing is executed by any of them.

    The line names the file, but for what is wrong with the data or with the state of training.
    """
    before = contents()
    names = "bad" if "sample" in ways else ""
    for way in sorted(ways - {"load"}):
        ended = gentrain(*WAYS[way])
        assert ended.status == 2, f"{way}: {ended.status} {ended.err}"
        line = ended.one_line()
        for part in (names if way != "resume" else "", *parts):
            assert part in line, f"{way}: {line}"
        assert ended.err.count("\n") == 1, f"{way}: {ended.err}"
        assert contents() == before, f"{way} left something behind"
    if "load" in ways:
        with pytest.raises(UserError) as raised:
            package.load("bad")
        assert "\n" not in str(raised.value)
        for part in (names, *parts):
            assert part in str(raised.value)
    for way in sorted(set(WAYS) - ways):
        ended = gentrain(*WAYS[way])
        assert ended.status == others, f"{way}: {ended.err}"
    assert not Path(MARK).exists()


def save(state: State) -> None:
    checkpoint.save(state, Path("bad/checkpoints/last.pt"))


def with_config(state: State, edit: Callable[[dict[str, Any]], None]) -> State:
    """`state` with an edited config."""
    config = yaml.safe_load(state["config"])
    edit(config)
    return {**state, "config": yaml.safe_dump(config)}


#: Settings of a section, each of which would leave the mark if it were built.
TARGETS: dict[str, dict[str, Any]] = {
    "os.system": {"_target_": "os.system", "command": f"mkdir {MARK}"},
    "os.mkdir": {"_target_": "os.mkdir", "path": MARK},
    "subprocess.Popen": {"_target_": "subprocess.Popen", "args": ["mkdir", MARK]},
    "torch.hub.load": {
        "_target_": "torch.hub.load",
        "repo_or_dir": "hub",
        "model": "model",
        "source": "local",
    },
    "gentrain.api.torch.load": {
        "_target_": "gentrain.api.torch.load",
        "f": "evil.pkl",
        "weights_only": False,
    },
    "gentrain.config.importlib.import_module": {
        "_target_": "gentrain.config.importlib.import_module",
        "name": "evil",
    },
    "torch.optim.optimizer.torch.nn.Linear": {
        "_target_": "torch.optim.optimizer.torch.nn.Linear",
        "in_features": 1,
    },
    "a list": {"_target_": ["os.mkdir"], "path": MARK},
    "nothing": {"path": MARK},
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_hostile_model(gentrain: Callable[..., Ended], bad: State, name: str) -> None:
    save(with_config(bad, lambda config: config.update(model=TARGETS[name])))
    refused_by(gentrain, BUILDS_MODEL, "model", name if "." in name else "")


@pytest.mark.parametrize("name", ["os.mkdir", "subprocess.Popen", "gentrain.api.torch.load"])
def test_hostile_data(gentrain: Callable[..., Ended], bad: State, name: str) -> None:
    save(with_config(bad, lambda config: config.update(dataset=TARGETS[name])))
    refused_by(gentrain, BUILDS_DATA, "dataset._target_", name)


@pytest.mark.parametrize("section", ["optim", "schedule"])
@pytest.mark.parametrize("name", ["os.mkdir", "gentrain.api.torch.load"])
def test_a_hostile_optimiser(gentrain: Callable[..., Ended], bad: State, section: str, name: str) -> None:
    save(with_config(bad, lambda config: config.update({section: {"main": TARGETS[name]}})))
    refused_by(gentrain, {"resume", "init"}, f"{section}.main._target_", name)


def test_a_target_inside_a_setting(gentrain: Callable[..., Ended], bad: State) -> None:
    def nest(config: dict[str, Any]) -> None:
        config["model"]["hidden"] = [{"_target_": "os.mkdir", "path": MARK}]

    save(with_config(bad, nest))
    refused_by(gentrain, BUILDS_MODEL, "model.hidden._target_", "refused")


def test_hydras_own_keys(gentrain: Callable[..., Ended], bad: State) -> None:
    save(with_config(bad, lambda config: config["model"].update(_args_=[MARK], _partial_=True)))
    refused_by(gentrain, BUILDS_MODEL, "model._args_")


@pytest.mark.parametrize(
    ("section", "settings", "ways"),
    [
        ("model", {"_target_": "evil.Model"}, BUILDS_MODEL),
        ("dataset", {"_target_": "evil.Data"}, BUILDS_DATA),
        ("optim", {"main": {"_target_": "evil.Optimizer", "lr": 0.1}}, {"resume", "init"}),
    ],
)
def test_what_a_checkpoint_trusts_counts_for_nothing(
    gentrain: Callable[..., Ended], bad: State, section: str, settings: dict[str, Any], ways: set[str]
) -> None:
    """Importing a module runs it; that is for the caller to allow."""
    save(with_config(bad, lambda config: config.update({section: settings, "trust": ["evil", "os"]})))
    refused_by(gentrain, ways, "evil.", "trust=evil")


#: What stands in place of the config, and what the line must hold.
CONFIGS = {
    "unclosed": ("model: [", ["cannot be read"]),
    "python": ("!!python/object/apply:os.mkdir [executed]", ["cannot be read"]),
    "a list": ("- model\n- dataset\n", ["no mapping"]),
    "a word": ("hello", ["configuration"]),
    "empty": ("", ["configuration"]),
    "a number": (7, ["found int as its config"]),
    "unknown key": ("modle: {}", ["unknown key modle"]),
    "wrong type": ("train: {steps: many}", ["train.steps", "many"]),
    "out of range": ("{model: {}, dataset: {}, train: {steps: -1}}", ["train.steps: expected at least 1"]),
    "model a number": ("model: 7\ndataset: {}", ["model"]),
    "model null": ("model: null\ndataset: {}", ["model"]),
    "no dataset": ("model: {}", ["dataset is missing"]),
    "unknown resolver": ("model: '${nothing:1}'\ndataset: {}", ["model"]),
    "to nowhere": ("model: {_target_: '${nowhere}'}\ndataset: {_target_: '${nowhere}'}", ["nowhere"]),
    "to itself": ("model: '${model}'\ndataset: {}", ["model"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_that_is_none(gentrain: Callable[..., Ended], bad: State, name: str) -> None:
    text, parts = CONFIGS[name]
    save({**bad, "config": text})
    refused_by(gentrain, ALL if name == "a number" else BUILDS_MODEL, *parts)


@pytest.mark.parametrize("text", ["model: [", "- a", "", "model: {_target_: os.mkdir, path: executed}"])
def test_a_config_yaml_that_is_none(gentrain: Callable[..., Ended], bad: State, text: str) -> None:
    """Of a run that was killed before its first checkpoint."""
    Path("bad/config.yaml").write_text(text)
    Path("bad/checkpoints/last.pt").unlink()
    before = contents()
    ended = gentrain("train", "resume=bad")
    assert ended.status == 2, ended.err
    assert "bad/config.yaml" in ended.one_line()
    assert contents() == before


@pytest.mark.parametrize("key", ["config", "names", "spec", "step", "model", "ema"])
@pytest.mark.parametrize("value", [None, "text"])
def test_an_entry_that_every_use_needs(
    gentrain: Callable[..., Ended], bad: State, key: str, value: str | None
) -> None:
    """Missing, or of another type."""
    state = {k: v for k, v in bad.items() if k != key}
    if value is not None:
        state[key] = [value]
    save(state)
    refused_by(gentrain, ALL, "" if value is None and key == "config" else key)


@pytest.mark.parametrize("key", ["turns", "random", "best", "evaluation", "seconds"])
def test_an_entry_that_resuming_needs(gentrain: Callable[..., Ended], bad: State, key: str) -> None:
    save({k: v for k, v in bad.items() if k != key})
    refused_by(gentrain, {"resume"}, "random state" if key == "random" else key)


def test_optimiser_state_of_another_model(gentrain: Callable[..., Ended], bad: State) -> None:
    bad["turns"]["main"]["optimizer"]["param_groups"][0]["params"].pop()
    save(bad)
    refused_by(gentrain, {"resume"}, "parameter group")


@pytest.mark.parametrize(
    "spec", [{}, {"shape": [1, 8]}, {"shape": "abc"}, {"shape": [1, 8, 8], "levels": 1}, {"sahpe": [1, 8, 8]}]
)
def test_a_data_spec_that_is_none(gentrain: Callable[..., Ended], bad: State, spec: State) -> None:
    save({**bad, "spec": spec})
    refused_by(gentrain, ALL, "DataSpec")


#: What a checkpoint may say of its data.
RECORD: State = {
    "root": None,
    "digest": "",
    "counts": {},
    "hashes": {},
    "twice": torch.empty(0, dtype=torch.int64),
}


@pytest.mark.parametrize(
    "record",
    [
        "x",
        {},
        {"root": 3, "digest": "", "counts": {}, "hashes": {}},
        {"root": None, "digest": "", "counts": {"test": "many"}, "hashes": {}},
        {"root": None, "digest": "", "counts": {}, "hashes": {"train": torch.zeros(1, dtype=torch.int64)}},
        {
            "root": None,
            "digest": "",
            "counts": {},
            "hashes": dict.fromkeys(("train", "test"), torch.zeros(3)),
        },
    ],
)
def test_what_a_checkpoint_says_of_its_data(
    gentrain: Callable[..., Ended], bad: State, record: State
) -> None:
    save({**bad, "data": record})
    refused_by(gentrain, ALL, "what it says of its data cannot be read")


# Weights


def test_another_models_weights(gentrain: Callable[..., Ended], bad: State, trained: SimpleNamespace) -> None:
    """A vae where a vae_mlp is asked for, by every way in, `init` above all."""
    conv = checkpoint.load(trained.conv / "checkpoints" / "last.pt")
    save({**conv, "config": bad["config"]})
    refused_by(gentrain, ALL, "is a vae, not a vae_mlp", "weights differ, first encoder.")


def test_weights_of_other_shapes(gentrain: Callable[..., Ended], bad: State) -> None:
    name, weight = next(item for item in bad["model"].items() if item[1].ndim == 2)
    bad["model"][name] = torch.cat([weight, weight])
    save(bad)
    here, there = list(weight.shape), list(bad["model"][name].shape)
    refused_by(gentrain, ALL, f"1 weights differ, first {name} ({here} here, {there} there)")


@pytest.mark.parametrize("way", ["missing", "extra", "renamed"])
def test_weights_of_other_names(gentrain: Callable[..., Ended], bad: State, way: str) -> None:
    name = next(iter(bad["model"]))
    if way != "missing":
        bad["model"]["another"] = bad["model"][name]
    if way != "extra":
        del bad["model"][name]
    save(bad)
    refused_by(gentrain, ALL, f"{name} (" if way != "extra" else "another (none here")


@pytest.mark.parametrize("key", ["model", "ema"])
def test_weights_that_are_none(gentrain: Callable[..., Ended], bad: State, key: str) -> None:
    save({**bad, key: dict.fromkeys(bad["model"], 0.5)})
    refused_by(gentrain, ALL, f"{key}['", "is no weight")


def test_averaged_weights_of_another_model(gentrain: Callable[..., Ended], bad: State) -> None:
    save({**bad, "ema": {"another": torch.zeros(2)}})
    refused_by(gentrain, ALL, "averaged weights")


def test_no_weights_at_all(gentrain: Callable[..., Ended], bad: State) -> None:
    save({**bad, "model": {}})
    refused_by(gentrain, ALL, "weights differ")


# The file itself


@pytest.mark.parametrize("how", ["directly", "as a checkpoint"])
def test_a_pickle_that_runs_code(
    gentrain: Callable[..., Ended], bad: State, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """With a right SHA-256 too; there is no fallback to unsafe loading."""
    if how == "directly":
        shutil.copy("evil.pkl", "bad/checkpoints/last.pt")
        refused_by(gentrain, ALL, "corrupt")
        return
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "check_plain", lambda *_: None)
        save({**bad, "extra": Evil()})
    checkpoint.verify(Path("bad/checkpoints/last.pt"))
    refused_by(gentrain, ALL, "is refused", "could run code")


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "0 bytes": lambda data: b"",
    "10 bytes": lambda data: data[:10],
    "half": lambda data: data[: len(data) // 2],
    "all but one": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "a page": lambda data: b"<!DOCTYPE html><html>404 Not Found</html>" * 400,
    "one more byte": lambda data: data + b"\0",
    "bit at the start": lambda data: flipped(data, 40),
    "bit in the middle": lambda data: flipped(data, len(data) // 2),
    "bit in the checksum": lambda data: flipped(data, len(data) - 5),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file(gentrain: Callable[..., Ended], bad: State, name: str) -> None:
    path = Path("bad/checkpoints/last.pt")
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    refused_by(gentrain, ALL, "corrupt")


def test_a_damaged_newest_checkpoint(
    gentrain: Callable[..., Ended], bad: State, trained: SimpleNamespace
) -> None:
    """resume=<run> falls back to the newest good one and says so; a path that was given fails."""
    older = Path("bad/checkpoints/step_00000020.pt")
    shutil.copy("bad/checkpoints/last.pt", older)
    last = Path("bad/checkpoints/last.pt")
    last.write_bytes(last.read_bytes()[:-1])
    ended = gentrain("train", f"resume={last}", "train.steps=21")
    assert ended.status == 2
    assert "last.pt is corrupt" in ended.one_line()
    ended = gentrain("train", "resume=bad", "train.steps=21")
    assert ended.status == 0, ended.err
    assert "last.pt is corrupt" in ended.err
    assert "falling back to an older checkpoint" in ended.err
    assert "(from step 20)" in ended.out
    assert checkpoint.load(last)["step"] == 21


def test_a_file_that_is_not_there(gentrain: Callable[..., Ended], workplace: Path) -> None:
    refused_by(gentrain, ALL, "no run at bad")
    Path("bad").mkdir()
    refused_by(gentrain, ALL, "bad is not a run folder")
    Path("bad/checkpoints").mkdir()
    refused_by(gentrain, ALL - {"resume"}, "bad has no checkpoint yet", others=2)
    ended = gentrain("train", "resume=bad")
    assert ended.status == 2
    assert "neither a checkpoint nor a config.yaml" in ended.one_line()

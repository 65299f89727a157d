"""Exported folders: what is in them, that they are the model, and that a bad one does no harm."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from running import SUPPORT, Ended, quietly_in, toy

import gentrain as package
from gentrain import exported
from gentrain.api import load_checkpoint
from gentrain.cli import main
from gentrain.commands import card, to_onnx
from gentrain.contracts import EncodesDecodes, LatentsToImages
from gentrain.contracts.condition import Conditional
from gentrain.errors import UserError
from gentrain.training import checkpoint

LITTLE = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4", "train.ema=0.5"]
#: What a module that was imported leaves behind.
MARK = "executed"
TRUST = ("toys",)


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs `flow` and `gan`, their exports `flow-export` and `gan-export`."""
    place = tmp_path_factory.mktemp("exported")
    with quietly_in(place) as patch:
        patch.syspath_prepend(str(SUPPORT))
        for name in ("flow", "gan"):
            assert main(["train", *toy(f"toy_{name}"), *LITTLE, f"run_dir={name}"]) == 0
            assert main(["export", f"ckpt={name}", f"out={name}-export", "trust=toys", "n=4"]) == 0
    return place


@pytest.fixture
def made(made_once: Path, workplace: Path) -> Path:
    """A copy of them in the current folder."""
    shutil.copytree(made_once, workplace, symlinks=True, dirs_exist_ok=True)
    return workplace


def tensors(folder: str) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(Path(folder) / exported.WEIGHTS)


def described(folder: str) -> dict[str, Any]:
    return json.loads((Path(folder) / exported.CONFIG).read_text())


def rewritten(folder: str, weights: dict[str, torch.Tensor]) -> None:
    """Give a folder other weights, with the SHA-256 that belongs to them."""
    content = safetensors.torch.save(weights)
    (Path(folder) / exported.WEIGHTS).write_bytes(content)
    edited(folder, lambda config: config["weights"].update(sha256=hashlib.sha256(content).hexdigest()))


def edited(folder: str, edit: Callable[[dict[str, Any]], object]) -> None:
    config = described(folder)
    edit(config)
    (Path(folder) / exported.CONFIG).write_text(json.dumps(config))


# What is in it


def test_the_weights_are_the_averaged_ones_bit_for_bit(made: Path) -> None:
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    weights = tensors("flow-export")
    assert weights.keys() == state["ema"].keys()
    assert any(not torch.equal(state["model"][name], weights[name]) for name in weights)
    for name, weight in weights.items():
        assert weight.dtype == state["ema"][name].dtype
        assert torch.equal(weight, state["ema"][name]), name


def test_the_model_is_the_same_bit_for_bit(made: Path) -> None:
    one, other = (package.load(place, trust="toys") for place in ("flow", "flow-export"))
    assert not other.training
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    for way in (Path("flow-export"), "flow-export/model.safetensors"):
        assert torch.equal(package.load(way, trust="toys").shift, one.shift)


def test_eval_and_sample_give_the_same(made: Path, gentrain: Callable[..., Ended]) -> None:
    lines, images = [], []
    for place in ("flow", "flow-export"):
        done = gentrain("eval", f"ckpt={place}", "trust=toys", "limit=50")
        assert done.status == 0, done.err
        lines.append([line for line in done.out.splitlines() if "nats" in line])
        assert gentrain("sample", f"ckpt={place}", "trust=toys", "n=5", f"out={place}.npz").status == 0
        images.append(np.load(f"{place}.npz")["images"])
    assert lines[0]
    assert lines[0] == lines[1]
    assert (images[0] == images[1]).all()


def test_what_it_says_of_itself(made: Path) -> None:
    config = described("flow-export")
    assert config["model"]["_target_"] == "toys.ToyFlow"
    assert config["spec"]["shape"] == [1, 8, 8]
    assert config["step"] == 3
    assert config["averaged"] is True
    assert config["gentrain"] == package.__version__
    assert config["run"]["names"]["dataset"] == "digits"
    assert {"versions", "commit", "machine"} == set(config["run"]["made"])
    content = Path("flow-export/model.safetensors").read_bytes()
    assert config["weights"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert config["weights"]["bytes"] == len(content)
    assert {f.name for f in Path("flow-export").iterdir()} == {
        *("model.safetensors", "config.json", "README.md", "samples.png"),
    }


def test_no_place_of_this_machine_is_in_it(made: Path, gentrain: Callable[..., Ended]) -> None:
    """Where a data set of one's own lay is nobody's business; where ours lie each machine says for itself."""
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    config = yaml.safe_load(state["config"])
    secret = "/home/somebody/secret"
    for name, target in (("mnist", "gentrain.data.mnist.MNIST"), ("own", "gentrain.data.folder.Folder")):
        config["dataset"].update(_target_=target, root=secret, cache=secret)
        config.update(run_dir=secret, init=secret)
        config["names"]["dataset"] = name
        data = {**state["data"], "root": secret}
        checkpoint.save({**state, "config": yaml.safe_dump(config), "data": data}, Path(f"{name}.pt"))
        done = gentrain("export", f"ckpt={name}.pt", f"out={name}", "trust=toys", "n=1")
        assert done.status == 0, done.err
        for file in Path(name).iterdir():
            assert b"secret" not in file.read_bytes(), file
    usual = described("mnist")["run"]["dataset"]["root"]
    assert usual == "${gentrain.env:GENTRAIN_DATA,data}/mnist"
    assert "root" not in described("own")["run"]["dataset"]


def test_the_cards_header(made: Path) -> None:
    for folder in ("flow-export", "gan-export"):
        text = (Path(folder) / exported.CARD).read_text()
        _, header, body = text.split("---\n", 2)
        found = yaml.safe_load(header)
        assert found["license"] == "cc-by-4.0"
        assert found["library_name"] == "gentrain"
        assert found["pipeline_tag"] == "unconditional-image-generation"
        assert found["datasets"] == ["digits"]
        assert "gentrain" in found["tags"]
        assert ("metrics" in found) == (folder == "flow-export")
        assert "CC BY 4.0" in body
        assert "gentrain.load(" in body
        assert "samples.png" in body
        assert described(folder)["weights"]["sha256"] in body
    assert "critic" in text


def test_a_licence_and_a_name_of_ones_own(made: Path, gentrain: Callable[..., Ended]) -> None:
    """The header is YAML whatever the data set is called."""
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    config = yaml.safe_load(state["config"])
    config["names"]["dataset"] = 'a: "b"\n- c'
    checkpoint.save({**state, "config": yaml.safe_dump(config)}, Path("odd.pt"))
    done = gentrain("export", "ckpt=odd.pt", "out=odd", "trust=toys", "license=apache-2.0")
    assert done.status == 0, done.err
    header = yaml.safe_load((Path("odd") / exported.CARD).read_text().split("---\n")[1])
    assert header["license"] == "apache-2.0"
    assert header["datasets"] == ['a: "b"\n- c']


def test_every_data_set_of_ours_has_a_licence() -> None:
    from gentrain.composing import composed
    from gentrain.config import options

    own = {"folder", "audio", "pairs", "domains", "captions"}  # the user's
    for name in options("dataset"):
        target = composed("train", [f"dataset={name}"]).dataset._target_
        assert (card.licence_of(target) is card.UNKNOWN) == (name in own), name


def test_every_experiment_that_comes_along_has_a_licence() -> None:
    """Of the user's own images an experiment names the file, which has one."""
    from gentrain.composing import composed
    from gentrain.config import options

    for name in options("experiment"):
        dataset = composed("train", [f"experiment={name}"]).dataset
        known = [card.licence_of(Path(str(dataset.root)).name), card.licence_of(dataset._target_)]
        assert known != [card.UNKNOWN] * 2, name


# How it is written


def test_bf16(made: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("export", "ckpt=flow", "out=half", "trust=toys", "dtype=bf16")
    assert done.status == 0, done.err
    halves, wholes = tensors("half"), tensors("flow-export")
    for name, half in halves.items():
        if wholes[name].is_floating_point():
            assert half.dtype == torch.bfloat16
            assert torch.equal(half, wholes[name].bfloat16())
        else:
            assert torch.equal(half, wholes[name])
    model = package.load("half", trust="toys")
    assert model.shift.dtype == torch.float32
    assert model.sample(2).shape == (2, 1, 8, 8)


def test_an_export_of_an_export_is_the_same(made: Path, gentrain: Callable[..., Ended]) -> None:
    for name in ("flow", "gan"):
        done = gentrain("export", f"ckpt={name}-export", f"out={name}-again", "trust=toys", "n=4")
        assert done.status == 0, done.err
        for file in (exported.WEIGHTS, exported.CONFIG, exported.CARD, exported.PICTURE):
            assert Path(f"{name}-again", file).read_bytes() == Path(f"{name}-export", file).read_bytes(), file


def test_a_place_that_is_taken(made: Path, gentrain: Callable[..., Ended]) -> None:
    before = {f: f.read_bytes() for f in Path("flow-export").iterdir()}
    done = gentrain("export", "ckpt=flow", "out=flow-export", "trust=toys")
    assert done.status == 2
    assert "out=flow-export is not empty" in done.one_line()
    assert before == {f: f.read_bytes() for f in Path("flow-export").iterdir()}
    Path("file").touch()
    done = gentrain("export", "ckpt=flow", "out=file", "trust=toys")
    assert done.status == 2
    assert "out=file is a file" in done.one_line()
    done = gentrain("export", "ckpt=flow", "trust=toys")
    assert done.status == 2
    assert "out is missing" in done.one_line()
    Path("empty").mkdir()
    assert gentrain("export", "ckpt=flow", "out=empty", "trust=toys", "n=1").status == 0


def test_nothing_is_left_half_written(
    made: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gentrain.commands.export.draw_png", full)
    before = set(Path().iterdir())
    done = gentrain("export", "ckpt=flow", "out=new", "trust=toys")
    assert done.status == 1
    assert "No space left" in done.one_line()
    assert set(Path().iterdir()) == before


def test_a_diverged_model_is_not_exported(made: Path, gentrain: Callable[..., Ended]) -> None:
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    state["ema"]["shift"][3] = float("nan")
    checkpoint.save(state, Path("bad.pt"))
    done = gentrain("export", "ckpt=bad.pt", "out=new", "trust=toys")
    assert done.status == 2
    assert "shift is not a number" in done.one_line()
    assert not Path("new").exists()


# How it is taken


def test_what_only_training_needs_is_left_out(made: Path, gentrain: Callable[..., Ended]) -> None:
    assert not [name for name in tensors("gan-export") if name.startswith("critic")]
    whole, part = (package.load(place, trust="toys") for place in ("gan", "gan-export"))
    z = torch.randn(4, 8)
    assert torch.equal(whole.latents_to_images(z), part.latents_to_images(z))
    with pytest.raises(UserError, match="the export has no critic"):
        part.critic(torch.zeros(1, 64))
    for verb in ("sample", "interpolate"):
        done = gentrain(verb, "ckpt=gan-export", "trust=toys")
        assert done.status == 0, done.err
    done = gentrain("export", "ckpt=gan", "out=whole", "trust=toys", "whole=true")
    assert done.status == 0, done.err
    state = checkpoint.load(Path("gan/checkpoints/last.pt"))
    assert tensors("whole").keys() == state["ema"].keys()
    assert torch.equal(tensors("whole")["critic.0.weight"], state["ema"]["critic.0.weight"])


def test_a_new_run_begins_from_it(made: Path, gentrain: Callable[..., Ended]) -> None:
    for name in ("flow", "gan"):
        few = [
            *LITTLE,
            "train.steps=1",
            f"run_dir=new-{name}",
            "optim.generator.lr=0" if name == "gan" else "",
        ]
        done = gentrain("train", *toy(f"toy_{name}"), *filter(None, few), f"init={name}-export")
        assert done.status == 0, done.err
        assert ("gan-export has no critic: begun afresh" in done.out) == (name == "gan")
    state = checkpoint.load(Path("new-gan/checkpoints/last.pt"))
    weights = tensors("gan-export")
    assert torch.equal(state["model"]["generator.0.weight"], weights["generator.0.weight"])


@pytest.mark.parametrize("place", ["flow-export", "flow-export/model.safetensors"])
def test_it_cannot_be_resumed(made: Path, gentrain: Callable[..., Ended], place: str) -> None:
    done = gentrain("train", f"resume={place}", "trust=toys")
    assert done.status == 2
    assert "is an export, which has no state of an optimiser" in done.one_line()
    assert f"init={place}" in done.one_line()


def test_weights_that_are_not_averaged_are_not_in_it(made: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("sample", "ckpt=flow-export", "trust=toys", "ema=false")
    assert done.status == 2
    assert "averaged weights alone" in done.one_line()
    assert gentrain("export", "ckpt=flow", "out=raw", "trust=toys", "ema=false").status == 0
    assert described("raw")["averaged"] is False
    raw = checkpoint.load(Path("flow/checkpoints/last.pt"))["model"]
    assert torch.equal(tensors("raw")["shift"], raw["shift"])


def test_links_as_the_hubs_cache_makes_them(made: Path) -> None:
    Path("blobs").mkdir()
    Path("snapshot").mkdir()
    for file in Path("flow-export").iterdir():
        shutil.move(file, f"blobs/{file.name}")
        Path("snapshot", file.name).symlink_to(Path("..", "blobs", file.name))
    assert package.load("snapshot", trust="toys").sample(1).shape == (1, 1, 8, 8)


def test_a_run_of_a_gpu_on_this_processor(
    made: Path, monkeypatch: pytest.MonkeyPatch, gentrain: Callable[..., Ended]
) -> None:
    """Every tensor of the file claims to lie on cuda:0, as in one that a GPU's run wrote."""
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
        checkpoint.save(state, Path("gpu.pt"))
    seen: set[str] = set()

    def note(storage: Any, location: str) -> Any:
        seen.add(location)
        return storage

    torch.load("gpu.pt", map_location=note, weights_only=True)
    assert seen == {"cuda:0"}
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load("gpu.pt", weights_only=True)
    assert package.load("gpu.pt", trust="toys").shift.device.type == "cpu"
    done = gentrain("export", "ckpt=gpu.pt", "out=from-gpu", "trust=toys", "device=cpu", "n=4")
    assert done.status == 0, done.err
    same = [Path(folder, exported.WEIGHTS).read_bytes() for folder in ("from-gpu", "flow-export")]
    assert same[0] == same[1]


# Folders that are damaged, foreign or meant to do harm

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
        "init": ["train", *toy("toy_flow"), *LITTLE, "init=bad", "run_dir=new"],
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


# ONNX


def graph(folder: str) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])


def test_a_generator_as_onnx(made: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("export", "ckpt=gan", "out=graph", "trust=toys", "format=onnx")
    assert done.status == 0, done.err
    assert "onnxruntime gives torch's pixels within" in done.out
    assert {f.name for f in Path("graph").iterdir()} == {
        *("model.onnx", "config.json", "README.md", "samples.png"),
    }
    model = package.load("gan", trust="toys")
    session = graph("graph")
    for size in (1, 3, 17):
        z = torch.randn(size, 8)
        (pixels,) = session.run(None, {"z": z.numpy()})
        assert pixels.shape == (size, 1, 8, 8)
        levels = torch.from_numpy(pixels * 16).round().to(torch.uint8)
        assert (levels.int() - model.latents_to_images(z).int()).abs().max() <= 1
        wanted = (model.generator(z).view(-1, 1, 8, 8) + 1) / 2
        assert float((torch.from_numpy(pixels) - wanted.detach()).abs().max()) < 1e-5
    done = gentrain("sample", "ckpt=graph", "trust=toys")
    assert done.status == 2
    assert "holds an ONNX graph" in done.one_line()


class Conditioned(Conditional, LatentsToImages, EncodesDecodes):
    """A decoder of p(x|z, y)."""

    latent_dim = 3

    def __init__(self, spec: package.DataSpec) -> None:
        super().__init__(spec)
        self.net = torch.nn.Linear(3 + self.condition.size, spec.dims)

    def _decode(self, z: torch.Tensor, *y: torch.Tensor) -> torch.distributions.Distribution:
        label = torch.nn.functional.one_hot(y[0], self.condition.size).to(z.dtype)
        logits = self.net(torch.cat([z, label], dim=1)).view(-1, *self.spec.shape)
        return torch.distributions.Independent(torch.distributions.Bernoulli(logits=logits), 3)


def test_a_conditional_decoder_as_onnx() -> None:
    runtime = pytest.importorskip("onnxruntime")
    model = Conditioned(package.DataSpec((1, 4, 4), levels=2, classes=5)).eval()
    content, said = to_onnx.exported(model)
    assert said["condition"] == "label"
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    z, y = torch.randn(7, 3), torch.tensor([0, 4, 2, 2, 1, 3, 0])
    (pixels,) = session.run(None, {"z": z.numpy(), "label": y.numpy()})
    wanted = model.decode(z, condition=y).mean.detach()
    assert float((torch.from_numpy(pixels) - wanted).abs().max()) < 1e-5
    assert torch.distributions.Distribution._validate_args, "the check of values is on again"
    assert "levels_of" not in vars(model)


def test_a_graph_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    from gentrain.errors import Fault

    model = Conditioned(package.DataSpec((1, 4, 4), levels=2, classes=5)).eval()
    traced = to_onnx._traced

    def wrong(*args: Any) -> bytes:
        content = traced(*args)
        with torch.no_grad():
            model.net.bias.add_(0.01)
        return content

    monkeypatch.setattr(to_onnx, "_traced", wrong)
    with pytest.raises(Fault, match="differs from torch by"):
        to_onnx.exported(model)


def test_what_cannot_be_a_graph_says_so(
    made: Path, gentrain: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = gentrain("export", "ckpt=flow", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert "ToyFlow makes no picture from latents in one go" in done.one_line()
    monkeypatch.setattr(to_onnx, "NEEDED", ("onnx", "no_such_package"))
    done = gentrain("export", "ckpt=gan", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert "no_such_package, which is not installed: pip install 'gentrain[onnx]'" in done.one_line()
    monkeypatch.undo()

    def breaks(*_: Any) -> None:
        raise RuntimeError("cannot trace\nthis\n" * 50)

    monkeypatch.setattr(to_onnx, "_traced", breaks)
    os.chdir(made)
    done = gentrain("export", "ckpt=gan", "out=new", "trust=toys", "format=onnx")
    assert done.status == 2
    assert done.one_line().endswith("ToyGAN cannot be exported: cannot trace")
    assert not Path("new").exists()


# The families' own checkpoints


GOLDEN = sorted((SUPPORT.parent / "golden" / "checkpoints").glob("*.pt"))


@pytest.mark.parametrize("file", GOLDEN, ids=lambda f: f.stem)
def test_every_family(workplace: Path, gentrain: Callable[..., Ended], file: Path) -> None:
    """Exported and loaded again, a model of each family has the same weights and draws the same."""
    done = gentrain("export", f"ckpt={file}", "out=folder", "n=2")
    assert done.status == 0, done.err
    one, other = load_checkpoint(file).model, load_checkpoint("folder").model
    weights = one.state_dict()
    kept = other.state_dict()
    assert kept
    left_out = {name for name in weights if name.partition(".")[0] in one.training_only}
    assert weights.keys() - kept.keys() == left_out
    assert all(torch.equal(weights[name], value) for name, value in kept.items())
    if "sample" not in one.lacks and hasattr(one, "sample"):
        images = []
        for model in (one, other):
            torch.manual_seed(0)
            images.append(model.sample(2))
        assert torch.equal(*images)

"""Exported folders: what is in them, and that they are the model."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from exporting import FEW, described, tensors
from running import SUPPORT, Ended, toy

import gentrain as package
from gentrain import exported
from gentrain.api import load_checkpoint
from gentrain.errors import UserError
from gentrain.training import checkpoint

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


def test_as_many_samples_are_drawn_as_the_run_drew(made: Path, gentrain: Callable[..., Ended]) -> None:
    count = yaml.safe_load(Path("flow/config.yaml").read_text())["train"]["sample_count"]
    pictures = []
    for place, n in (("drawn", []), ("as-many", [f"n={count}"]), ("fewer", [f"n={count - 1}"])):
        assert gentrain("export", "ckpt=flow", f"out={place}", "trust=toys", *n).status == 0
        pictures.append((Path(place) / "samples.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_no_place_of_this_machine_is_in_it(made: Path, gentrain: Callable[..., Ended]) -> None:
    """Where a data set of one's own lay is nobody's business; where ours lie each machine says for itself."""
    state = checkpoint.load(Path("flow/checkpoints/last.pt"))
    config = yaml.safe_load(state["config"])
    secret = "/home/somebody/secret"
    for name, target in (("mnist", "gentrain.data.mnist.MNIST"), ("own", "gentrain.data.folder.Folder")):
        config["dataset"].update(_target_=target, root=secret, cache=secret, background=secret)
        config.update(run_dir=secret, init=secret)
        config["names"].update(dataset=name, experiment=f"cyclegan_{name}")
        data = {**state["data"], "root": secret}
        checkpoint.save({**state, "config": yaml.safe_dump(config), "data": data}, Path(f"{name}.pt"))
        done = gentrain("export", f"ckpt={name}.pt", f"out={name}", "trust=toys", "n=1")
        assert done.status == 0, done.err
        for file in Path(name).iterdir():
            assert b"secret" not in file.read_bytes(), file
    usual = described("mnist")["run"]["dataset"]
    assert usual["root"] == "${gentrain.env:GENTRAIN_DATA,data}/mnist"
    assert usual["background"] == "${gentrain.env:GENTRAIN_DATA,data}/cifar10.zip"
    assert not {"root", "background"} & described("own")["run"]["dataset"].keys()


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


def test_what_an_export_lacks_cannot_be_exported_whole(made: Path, gentrain: Callable[..., Ended]) -> None:
    done = gentrain("export", "ckpt=gan-export", "out=again", "trust=toys", "whole=true")
    assert done.status == 2
    assert "whole=true: gan-export has no critic, being an export itself" in done.one_line()
    assert not Path("again").exists()


def test_a_new_run_begins_from_it(made: Path, gentrain: Callable[..., Ended]) -> None:
    for name in ("flow", "gan"):
        few = [
            *FEW,
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

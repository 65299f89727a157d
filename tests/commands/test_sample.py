"""`gentrain sample`: what it draws, where it writes it, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import MODELS, Ended

import gentrain as package
from gentrain.images import grid
from gentrain.training import checkpoint


def test_a_picture_in_the_run_folder(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("sample")
    assert done.status == 0, done.err
    assert str(trained.conv / "samples.png") in done.out
    with Image.open(trained.conv / "samples.png") as picture:
        assert picture.size == (8 * 58 + 2, 8 * 58 + 2)  # 64 tiles of 56 pixels and their frames
    assert not (trained.mlp / "samples.png").exists()


@pytest.mark.parametrize(
    ("place", "folder"),
    [
        ("latest", "conv"),
        ("outputs/vae-digits", "conv"),
        ("outputs/vae-digits/latest", "conv"),
        ("mlp", "mlp"),
        ("mlp/checkpoints/last.pt", "mlp"),
        ("mlp/checkpoints/step_00000020.pt", "mlp"),
        ("my runs/one (1)", "spaced"),
    ],
)
def test_every_way_to_name_a_checkpoint(
    gentrain: Callable[..., Ended],
    follow: Callable[..., Ended],
    trained: SimpleNamespace,
    place: str,
    folder: str,
) -> None:
    done = gentrain("sample", f"ckpt={place}", "n=4")
    assert done.status == 0, done.err
    expected = getattr(trained, folder)
    assert {f for f in Path().rglob("samples.png") if "latest" not in f.parts} == {expected / "samples.png"}
    then = follow(done, "samples=1", "limit=9")
    assert then.status == 0, then.err
    assert (expected / "eval_test_first_9.json").is_file(), "the next command means the same checkpoint"


def test_the_next_command_keeps_to_the_file_that_was_named(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    checkpoint.save({**state, "step": 10}, trained.mlp / "checkpoints" / "step_00000010.pt")
    done = gentrain("sample", "ckpt=mlp/checkpoints/step_00000010.pt")
    assert "step 10" in done.out
    assert "step 10" in follow(done, "samples=1", "limit=9").out


def test_a_checkpoint_on_its_own(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """Outside a run folder, or behind a link: the picture goes beside the user, or into the run."""
    (trained.mlp / "checkpoints" / "last.pt").rename("alone.pt")
    done = gentrain("sample", "ckpt=alone.pt", "n=2")
    assert done.status == 0, done.err
    assert Path("samples.png").is_file()
    Path("links").mkdir()
    Path("links/conv.pt").symlink_to(Path("..") / trained.conv / "checkpoints" / "last.pt")
    done = gentrain("sample", "ckpt=links/conv.pt", "n=2")
    assert done.status == 0, done.err
    assert (trained.conv / "samples.png").is_file()


def test_inside_the_run_folder(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.mlp / "checkpoints")
    done = gentrain("sample", "ckpt=last.pt", "n=2")
    assert done.status == 0, done.err
    assert Path("../samples.png").is_file()


def test_many_images_as_an_archive(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("sample", "n=600", "out=deep/er/x.npz")
    assert done.status == 0, done.err
    with np.load("deep/er/x.npz") as archive:
        assert set(archive) == {"images", "levels"}
        images, levels = archive["images"], archive["levels"]
    assert images.shape == (600, 1, 8, 8)
    assert images.dtype == np.uint8
    assert int(levels) == 17
    assert images.max() < 17
    assert len(np.unique(images.reshape(600, -1), axis=0)) > 500, "the images differ"


def test_the_seed_decides(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert gentrain("sample", "n=10", f"seed={seed}", f"out={name}.npz").status == 0
        assert gentrain("sample", "n=10", f"seed={seed}", f"out={name}.png").status == 0
    for ending in ("npz", "png"):
        a, b, c = (Path(f"{name}.{ending}").read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_the_picture_shows_what_the_model_draws(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    assert gentrain("sample", "ckpt=mlp", "n=5", "seed=7", "temperature=0.6", "out=x.png").status == 0
    assert gentrain("sample", "ckpt=mlp", "n=5", "seed=7", "temperature=0.6", "out=x.npz").status == 0
    model: Any = package.load("mlp")
    torch.manual_seed(7)
    expected = model.sample(5, temperature=0.6)
    shown = torch.from_numpy(np.array(Image.open("x.png")))
    assert torch.equal(shown, grid(expected, levels=17)[0])
    assert np.array_equal(np.load("x.npz")["images"], expected.numpy())


def test_temperature_narrows_the_latents(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    spread = {}
    for temperature in (0.01, 1, 3):
        done = gentrain("sample", "n=200", f"temperature={temperature}", "out=x.npz")
        assert done.status == 0, done.err
        spread[temperature] = np.load("x.npz")["images"].astype(float).std(axis=0).mean()
    assert spread[0.01] < spread[1] < spread[3]


def test_averaged_weights_unless_told_otherwise(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    state = checkpoint.load(trained.conv / "checkpoints" / "last.pt")
    state["model"] = {k: torch.zeros_like(v) for k, v in state["model"].items()}
    checkpoint.save(state, Path("zeroed.pt"))
    for name, arguments in (
        ("ema", []),
        ("zeroed", ["ckpt=zeroed.pt"]),
        ("raw", ["ckpt=zeroed.pt", "ema=false"]),
    ):
        assert gentrain("sample", "n=20", f"out={name}.npz", *arguments).status == 0
    ema, zeroed, raw = (np.load(f"{name}.npz")["images"] for name in ("ema", "zeroed", "raw"))
    assert np.array_equal(ema, zeroed)
    assert len(np.unique(raw.reshape(20, -1), axis=0)) == 1, "without weights all images are one"


#: What is typed, and what the one line must hold.
REFUSED = [
    (["label=3"], ["label: vae", "a model of p(x)", "model=cvae"]),
    (["label=10"], ["label=10: expected 0 to 9"]),
    (["label=-1"], ["label=-1: expected 0 to 9, found '-1'"]),
    (["label=cat"], ["label", "cat"]),
    (["out=x.jpg"], ["out=x.jpg", ".png or .npz"]),
    (["out=x"], ["out=x:", ".png or .npz"]),
    (["out=mlp"], ["out=mlp", ".png"]),
    (["out=folder.png"], ["out=folder.png is a folder"]),
    (["out=/proc/no/x.png"], ["out=/proc/no/x.png: cannot write to /proc"]),
    (["out=file.txt/x.png"], ["cannot write to", "file.txt"]),
    (["n=4097"], ["n=4097 is too many for a picture", "out=samples.npz"]),
    (["device=cuda:99"], ["device=cuda:99"]),
]


@pytest.mark.parametrize(("typed", "parts"), REFUSED, ids=[t[0] for t, _ in REFUSED])
def test_what_cannot_be_done_is_said_before_anything_is_drawn(
    gentrain: Callable[..., Ended],
    trained: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    typed: list[str],
    parts: list[str],
) -> None:
    from gentrain.models.autoencoder.vae import VAE

    Path("folder.png").mkdir()
    Path("file.txt").write_text("x")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr(VAE, "sample", lambda *_: pytest.fail("it drew"))
    ended = gentrain("sample", *typed)
    assert ended.status == 2, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert sorted(Path().rglob("*")) == before


def test_a_label_for_data_without_labels(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    state["spec"] = {**state["spec"], "classes": None, "label_names": None}
    checkpoint.save(state, Path("bare.pt"))
    ended = gentrain("sample", "ckpt=bare.pt", "label=0")
    assert ended.status == 2
    assert "label=0: expected none: the data have no labels" in ended.one_line()
    assert not Path("samples.png").exists()


FACES = ["Bald", "Eyeglasses", "Goatee", "Male", "Young", "5_o_Clock_Shadow", "Bangs", "Chubby", "Hat", "Tie"]


@pytest.fixture
def faces(gentrain: Callable[..., Ended], workplace: Path) -> str:
    """The checkpoint of a conditional model, of data with ten attributes as far as it knows."""
    assert gentrain("train", *MODELS["cvae"], "train.steps=2", "run_dir=run").status == 0
    state = checkpoint.load(Path("run/checkpoints/last.pt"))
    state["spec"] = {**state["spec"], "classes": None, "label_names": None, "attributes": FACES}
    checkpoint.save(state, Path("faces.pt"))
    return "ckpt=faces.pt"


@pytest.mark.parametrize("named", [["Male", "Eyeglasses"], ["5_o_Clock_Shadow"], []])
def test_of_attributes_by_name(gentrain: Callable[..., Ended], faces: str, named: list[str]) -> None:
    done = gentrain("sample", faces, f"attributes=[{','.join(named)}]", "n=501", "out=x.npz", "seed=7")
    assert done.status == 0, done.err
    model: Any = package.load("faces.pt")
    torch.manual_seed(7)
    label = torch.tensor([name in named for name in FACES])
    expected = torch.cat([model.sample(n, condition=label) for n in (500, 1)])
    assert np.array_equal(np.load("x.npz")["images"], expected.numpy())


def test_of_a_label(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *MODELS["cvae"], "train.steps=2", "run_dir=run").status == 0
    done = gentrain("sample", "label=3", "n=501", "out=x.npz", "seed=7")
    assert done.status == 0, done.err
    model: Any = package.load("run")
    torch.manual_seed(7)
    expected = torch.cat([model.sample(n, condition=torch.tensor(3)) for n in (500, 1)])
    assert np.array_equal(np.load("x.npz")["images"], expected.numpy())


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        (["attributes=[male]"], ["'male'", "did you mean Male"]),
        (["attributes=[Male,Eyeglases]"], ["'Eyeglases'", "did you mean Eyeglasses"]),
        (["attributes=[xyzzy]"], ["'xyzzy'", "valid: ", "Young"]),
        (["attributes=[null]"], ["'None'", "valid: "]),
        (["attributes=[[Male]]"], ["Male"]),
        (["attributes=Male"], ["attributes=Male: expected a list", "attributes=[Male]"]),
        (["attributes={Male:1}"], ["attributes", "expected a list"]),
        (["attributes=[Male]", "label=0"], ["label and attributes"]),
        (["label=0"], ["label=0: expected none: the data have no labels"]),
    ],
    ids=str,
)
def test_attributes_that_cannot_be_had(
    gentrain: Callable[..., Ended], faces: str, typed: list[str], parts: list[str]
) -> None:
    ended = gentrain("sample", faces, *typed, "out=x.png")
    assert ended.status == 2, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert not Path("x.png").exists()


def test_attributes_of_a_model_without(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """The data have none, or the model learnt without them."""
    ended = gentrain("sample", "attributes=[Male]")
    assert ended.status == 2
    assert "attributes: expected none: the data have no attributes" in ended.one_line()
    state = checkpoint.load(trained.mlp / "checkpoints" / "last.pt")
    checkpoint.save({**state, "spec": {**state["spec"], "attributes": FACES}}, Path("faces.pt"))
    ended = gentrain("sample", "ckpt=faces.pt", "attributes=[Male]")
    assert ended.status == 2
    assert ended.one_line().startswith("gentrain: attributes: ")
    assert not Path("samples.png").exists()


def test_a_full_disk_leaves_no_half_file(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, **arrays: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    Path("x.npz").write_bytes(b"from before")
    monkeypatch.setattr(np, "savez_compressed", full)
    ended = gentrain("sample", "n=3", "out=x.npz")
    assert ended.status == 1
    assert ended.one_line().endswith(
        "cannot write x.npz: No space left on device; make room there, or write to another disk with out=FILE"
    )
    assert Path("x.npz").read_bytes() == b"from before"
    assert not list(Path().glob(".x.npz*"))

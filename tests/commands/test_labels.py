"""Labels by name or by number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import MODELS, Ended

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.commands.interpolate import spherical
from gentrain.commands.labels import label_of
from gentrain.data.batches import images_at
from gentrain.errors import UserError
from gentrain.images import grid

#: In the order of their numbers, as class folders are sorted.
NAMES = ("1e1", "2", "3", "cat", "true", "two words")


def test_a_name_goes_before_a_number() -> None:
    for item, expected in ((2, 1), ("2", 1), (3, 2), (0, 0), (5, 5), ("cat", 3), (True, 4), ("two words", 5)):
        assert label_of(item, NAMES, "x") == expected
    assert [label_of(i, tuple("0123456789"), "x") for i in range(10)] == list(range(10))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("cta", "x: expected 0 to 5 or the name of a label, found 'cta'; did you mean cat?"),
        ("Cat", "x: expected 0 to 5 or the name of a label, found 'Cat'; did you mean cat?"),
        ("bird", "; valid: 1e1, 2, 3, cat, true, two words"),
        (6, "x: expected 0 to 5 or the name of a label, found 6"),
        (-1, "found -1"),
        (1.5, "found 1.5"),
        (False, "found False"),
        ([1], "found [1]"),
        ("", "found ''"),
    ],
    ids=str,
)
def test_no_such_label(item: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        label_of(item, NAMES, "x")
    assert str(error.value).startswith("x: expected 0 to 5")
    assert said in str(error.value)


def test_of_many_labels_only_the_nearest_are_named() -> None:
    names = [f"n{i:04}" for i in range(1000)]
    with pytest.raises(UserError) as error:
        label_of("zebra", names, "x")
    assert str(error.value).endswith("found 'zebra'")
    with pytest.raises(UserError, match="did you mean n0"):
        label_of("n0x", names, "x")


@pytest.fixture
def album(workplace: Path) -> Path:
    """Six classes of three pictures each."""
    draw = np.random.default_rng(0)
    for name in NAMES:
        folder = workplace / "album" / name
        folder.mkdir(parents=True)
        for i in range(3):
            Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    return workplace / "album"


def test_samples_of_a_label_by_name(gentrain: Callable[..., Ended], album: Path) -> None:
    settings = ["dataset=folder", f"dataset.root={album}", "train.steps=2", "train.batch_size=4"]
    done = gentrain("train", *MODELS["cvae"], *settings, "run_dir=run")
    assert done.status == 0, done.err
    model: Any = package.load("run")
    assert model.spec.label_names == NAMES
    meant = {"cat": 3, "2": 1, "0": 0, "1e1": 0, "true": 4, "'two words'": 5, "5": 5}
    for typed, label in meant.items():
        done = gentrain("sample", f"label={typed}", "n=3", "out=x.npz", "seed=7")
        assert done.status == 0, done.err
        torch.manual_seed(7)
        expected = model.sample(3, condition=torch.tensor(label))
        assert np.array_equal(np.load("x.npz")["images"], expected.numpy()), typed
    ended = gentrain("sample", "label=cta")
    assert ended.status == 2
    assert "label=cta: expected 0 to 5 or the name of a label, found 'cta'; did you mean cat?" in ended.err
    several = gentrain("sample", "-m", "label=cat,two words", "n=3")
    assert several.status == 0, several.err
    assert Path("run/samples-2.png").is_file()
    moved = gentrain("arithmetic", "images=0", "plus=[cat]", "minus=[2]")
    assert moved.status == 0, moved.err


def grid_of(path: str) -> np.ndarray:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.mark.slow
def test_every_command_takes_the_images_own_labels_or_the_one_that_is_typed(
    gentrain: Callable[..., Ended], workplace: Path
) -> None:
    few = ["train.steps=60", "train.sample_count=4", "optim.main.lr=0.01", "run_dir=run"]
    assert gentrain("train", *MODELS["cvae"], "dataset=digits", *few).status == 0
    model: Any = package.load("run")
    data = build_source(compose_train(["dataset=digits"]).dataset).load()
    batch = images_at(data, data.test, [0, 1, 2, 3], 0)
    assert batch.label is not None
    z = model.images_to_latents(batch.x, condition=batch.label)
    columns = 4
    weights = torch.linspace(0, 1, columns)
    rows = [spherical(a, b, weights) for a, b in zip(z[::2], z[1::2], strict=True)]
    firsts = batch.label[::2].repeat_interleave(columns)
    for typed, condition in ((), firsts), (("label=3",), torch.tensor(3)):
        done = gentrain("interpolate", "images=0,1,2,3", f"columns={columns}", "out=x.png", *typed)
        assert done.status == 0, done.err
        assert ("shown with the label of the first of each pair" in done.out) == (not typed)
        expected = grid(model.latents_to_images(torch.cat(rows), condition=condition), 17, columns=columns)
        assert np.array_equal(grid_of("x.png"), expected[0].numpy())
    for command in (
        ["reconstruct", "images=0,1,2"],
        ["arithmetic", "images=0,1", "plus=[7]", "minus=[1]"],
        ["arithmetic", "plus=[0]", "minus=[1]"],
        ["arithmetic"],
        ["interpolate"],
    ):
        shown = []
        for typed in ([], ["label=3"], ["label=8"]):
            done = gentrain(*command, *typed, "out=x.png", "seed=5")
            assert done.status == 0, done.err
            shown.append(grid_of("x.png"))
        assert not np.array_equal(shown[1], shown[2]), command
    latents = []
    for typed in ([], ["label=3"]):
        assert gentrain("encode", "out=z.npz", "images=0,1", *typed).status == 0
        latents.append(np.load("z.npz")["latents"])
    assert np.allclose(latents[0], z[:2].numpy(), atol=1e-5)
    assert not np.allclose(latents[0], latents[1])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("file.png")
    for verb in ("reconstruct", "encode"):
        refused = gentrain(verb, "images=file.png")
        assert refused.status == 2
        assert "needs the label of every image" in refused.one_line()
        assert gentrain(verb, "images=file.png", "label=2").status == 0

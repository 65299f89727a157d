"""`gentrain arithmetic`: latents to choose from, sums of them, images moved along labels."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import ListConfig
from PIL import Image
from running import Ended, toy
from torch import Tensor

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.commands.arithmetic import combined, labels, stacked, to_pixels, walk, with_numbers
from gentrain.contracts import DataSpec
from gentrain.data.source import Data, Split
from gentrain.images import grid
from gentrain.training import checkpoint

#: Side of a tile of digits with its gap.
PITCH = 58


def shown(path: Path) -> Tensor:
    """A picture's pixels, [height, width] where it is grey, else [height, width, 3]."""
    with Image.open(path) as picture:
        return torch.from_numpy(np.array(picture))


def digits() -> Data:
    return build_source(compose_train([]).dataset).load()


def rows_of(path: Path) -> list[Tensor]:
    """The rows of a picture made by `stacked`, each [height, width]."""
    return list(shown(path).split(PITCH + 2))


def drawn(n: int = 64, seed: int = 0, dims: int = 4) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(n, dims)


# Latents


def test_numbered_latents(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    done = gentrain("arithmetic", "seed=4", "n=20", "columns=6")
    assert done.status == 0, done.err
    picture = shown(trained.conv / "arithmetic_latents.png")
    model: Any = package.load(trained.conv)
    expected = grid(model.latents_to_images(drawn(20, 4)), 17, columns=6)[0]
    assert picture.shape == (*expected.shape, 3)
    for number in range(20):
        row, column = divmod(number, 6)
        lower = np.s_[row * PITCH + 20 : row * PITCH + 58, column * PITCH : column * PITCH + 58]
        assert (picture[lower] == expected[lower][..., None]).all(), f"{number} is elsewhere"
        corner = picture[row * PITCH : row * PITCH + 20, column * PITCH : column * PITCH + 30]
        assert (corner[..., 0] > corner[..., 2]).any(), f"{number} is not written"
    assert "plus=[...] minus=[...]" in done.out
    then = follow(done)
    assert then.status == 0, then.err
    first = shown(trained.conv / "arithmetic.png")[: PITCH + 2, : 2 * PITCH + 2]
    assert torch.equal(first, expected[: PITCH + 2, : 2 * PITCH + 2]), "the same latents as on the sheet"


@pytest.mark.parametrize("n", [1, 2])
def test_few_latents(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace, n: int
) -> None:
    assert follow(gentrain("arithmetic", f"n={n}")).status == 0


def test_a_difference_of_means(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    done = gentrain("arithmetic", "plus=[3,8,12,3]", "minus=[5,9]", "columns=5", "noise=0")
    assert done.status == 0, done.err
    model: Any = package.load(trained.conv)
    z = drawn()
    images = model.latents_to_images(z)
    target = (2 * z[3] + z[8] + z[12]) / 4 - (z[5] + z[9]) / 2
    mean = (2 * images[3].float() + images[8] + images[12]) / 4 - (images[5].float() + images[9]) / 2
    result = model.latents_to_images(target[None])
    expected = [
        images[[3, 8, 12, 3]],
        images[[5, 9]],
        model.latents_to_images(torch.stack([z[[3, 8, 12, 3]].mean(0), z[[5, 9]].mean(0)])),
        torch.stack([images[group].float().mean(0) for group in ([3, 8, 12, 3], [5, 9])]).round().byte(),
        result.repeat(5, 1, 1, 1),
        mean.round().clamp(0, 16).to(torch.uint8)[None],
    ]
    assert torch.equal(shown(trained.conv / "arithmetic.png"), stacked(expected, model.spec)[0])
    assert follow(done).status == 0


def test_around_the_result(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """The result comes first, what surrounds it differs, more so with more noise; the seed decides."""

    def fifth(*typed: str) -> list[Tensor]:
        done = gentrain("arithmetic", "plus=[3]", "minus=[5]", "ckpt=mlp", "out=x.png", *typed)
        assert done.status == 0, done.err
        row = rows_of(Path("x.png"))[4]
        return [row[:, i * PITCH : (i + 1) * PITCH].float() for i in range(8)]

    none, little, much = fifth("noise=0"), fifth("noise=0.25"), fifth("noise=2")
    assert all(torch.equal(tile[:, 2:], none[0][:, 2:]) for tile in none)
    assert torch.equal(little[0], none[0])
    apart = [sum(float((tile - tiles[0]).abs().mean()) for tile in tiles[1:]) for tiles in (little, much)]
    assert 0 < apart[0] < apart[1]
    assert all(map(torch.equal, little, fifth("noise=0.25")))


def test_groups_are_averaged_each(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    done = gentrain("arithmetic", "plus=[[3,8],[12]]", "minus=[[5],[9,1,2]]", "columns=2", "out=x.png")
    assert done.status == 0, done.err
    assert "2 of plus, 2 of minus" in done.out
    z = drawn()
    target = (z[3] + z[8]) / 2 + z[12] - z[5] - (z[9] + z[1] + z[2]) / 3
    model: Any = package.load(trained.conv)
    expected = grid(model.latents_to_images(target[None]), 17)[0]
    rows = rows_of(Path("x.png"))
    assert len(rows) == 8
    assert torch.equal(rows[6][:, : PITCH + 2], expected)
    singles = torch.stack([z[[3, 8]].mean(0), z[12], z[5], z[[9, 1, 2]].mean(0)])
    means = grid(model.latents_to_images(singles), 17, columns=4)[0]
    assert torch.equal(rows[4], means[: PITCH + 2][:, : rows[4].shape[1]]), "each group's mean, in order"
    assert (rows[1][:, PITCH + 2 :] == 128).all(), "nothing beside the group of one"


def test_plus_alone(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    assert gentrain("arithmetic", "plus=[7]", "noise=0", "out=x.png").status == 0
    assert gentrain("arithmetic", "plus=[7]", "minus=[]", "noise=0", "out=y.png").status == 0
    rows = rows_of(Path("x.png"))
    assert len(rows) == 5
    for row in rows[1:]:
        assert torch.equal(rows[0][:, : PITCH + 2], row[:, : PITCH + 2]), "the mean of one is that one"
    assert torch.equal(shown(Path("x.png")), shown(Path("y.png")))


def test_any_model_with_latents(
    gentrain: Callable[..., Ended], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import toys

    assert gentrain("train", *toy("toy_gan", "train.steps=2", "run_dir=run")).status == 0
    assert gentrain("arithmetic", "trust=[toys]", "plus=[1,2]", "minus=[3]").status == 0
    assert Path("run/arithmetic.png").is_file()
    encoding = gentrain("arithmetic", "trust=[toys]", "plus=[1]", "images=0")
    assert encoding.status == 2
    assert "arithmetic with images: toy_gan cannot do this" in encoding.one_line()
    monkeypatch.setattr(toys.ToyGAN, "latent_prior", "none")
    ended = gentrain("arithmetic", "trust=[toys]", "plus=[1]", "out=x.png")
    assert ended.status == 2
    assert "no prior" in ended.one_line()
    assert not Path("x.png").exists()


def test_a_model_without_latents(gentrain: Callable[..., Ended], workplace: Path) -> None:
    assert gentrain("train", *toy("toy_flow", "train.steps=2")).status == 0
    ended = gentrain("arithmetic", "trust=[toys]", "plus=[1]")
    assert ended.status == 2
    assert "arithmetic: toy_flow cannot do this" in ended.one_line()


# Labels


def by_hand(model: Any, plus: list[int], minus: list[int], most: int) -> tuple[Tensor, Tensor]:
    """The directions in latents [D] and in pixels [C, H, W]."""
    train = digits().train
    assert train.labels is not None
    means = []
    for side in (plus, minus):
        seen = dict.fromkeys(side, 0)
        images = []
        for image, label in zip(train.images, train.labels.tolist(), strict=True):
            if label in seen and seen[label] < most:
                seen[label] += 1
                images.append(image)
        x = torch.from_numpy(np.stack(images))
        means.append((model.images_to_latents(x).mean(0), x.float().mean(0)))
    return means[0][0] - means[1][0], means[0][1] - means[1][1]


@pytest.mark.parametrize(
    ("typed", "plus", "minus", "strength", "most"),
    [
        (["plus=[7]", "minus=[1]", "strength=1.5"], [7], [1], 1.5, 200),
        (["plus=['7',2]", 'minus=["1"]', "strength=-2", "per_label=30"], [7, 2], [1], -2, 30),
        (["plus=[7,2]", "batch_size=7"], [7, 2], [0, 1, 3, 4, 5, 6, 8, 9], 1, 200),
        (["plus=[7]", "minus=[]", "per_label=1"], [7], [0, 1, 2, 3, 4, 5, 6, 8, 9], 1, 1),
    ],
)
def test_images_move_along_labels(
    gentrain: Callable[..., Ended],
    trained: SimpleNamespace,
    typed: list[str],
    plus: list[int],
    minus: list[int],
    strength: float,
    most: int,
) -> None:
    done = gentrain("arithmetic", "images=4,0", "columns=3", *typed)
    assert done.status == 0, done.err
    model: Any = package.load(trained.conv)
    x = torch.from_numpy(np.array(digits().test.images[[4, 0]]))
    z = model.images_to_latents(x)
    dz, dx = by_hand(model, plus, minus, most)
    tiles = []
    for image, latent in zip(x, z, strict=True):
        steps = (0, strength / 2, strength)
        tiles += [model.latents_to_images((latent + s * dz)[None])[0] for s in steps]
        tiles += [(image + s * dx).round().clamp(0, 16).to(torch.uint8) for s in steps]
    expected = grid(torch.stack(tiles), 17, columns=3)[0]
    found = shown(trained.conv / "arithmetic.png")
    assert found.shape == expected.shape
    # Sums in another order may round a pixel to its neighbouring level (255 / 16 in the picture).
    apart = (found.float() - expected.float()).abs()
    assert float(apart.max()) <= 16
    assert float((apart > 0).float().mean()) < 0.01
    assert torch.equal(found[: 2 * PITCH, :PITCH], expected[: 2 * PITCH, :PITCH]), "from the image"


def test_a_label_moves_images_towards_it(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    """In pixels, where the direction is sure: a step of 1 takes the mean of minus to the mean of plus."""
    assert gentrain("arithmetic", "images=0", "plus=[0]", "minus=[1]", "columns=2", "out=x.png").status == 0
    data = digits()
    assert data.train.labels is not None
    zeros, ones = (
        torch.from_numpy(data.train.images[data.train.labels == i]).float().mean(0) for i in (0, 1)
    )
    picture = shown(Path("x.png")).float() * 16 / 255
    tile = picture[PITCH + 2 : 2 * PITCH : 7, PITCH + 2 : 2 * PITCH : 7]  # 56 pixels are 8
    image = torch.from_numpy(np.array(data.test.images[0])).float()
    assert torch.allclose(tile, (image + zeros - ones).clamp(0, 16)[0], atol=1.0)


def test_an_image_from_a_file(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    Image.new("L", (8, 8), 90).save("one image.png")
    done = gentrain("arithmetic", "images=one image.png", "plus=[7]", "out=x.png")
    assert done.status == 0, done.err
    assert shown(Path("x.png")).shape == (2 * PITCH + 2, 8 * PITCH + 2)


# Mistakes

MISTAKES = [
    (["plus=[99]"], ["plus=[99]: expected numbers 0 to 63"]),
    (["plus=[8]", "n=8"], ["plus=[8]: expected numbers 0 to 7"]),
    (["plus=[-1]"], ["plus=[-1]: expected numbers"]),
    (["plus=[1]", "minus=[1,64]"], ["minus=[1,64]: expected numbers 0 to 63"]),
    (["plus=3"], ["plus=3: expected a list of numbers, e.g. plus=[3]"]),
    (["plus='3,8'"], ["plus=3,8: expected a list of numbers, e.g. plus=[3,8]"]),
    (["plus=[]"], ["plus is empty"]),
    (["minus=[3]"], ["plus is empty"]),
    (["plus=[[]]"], ["plus=[[]]: expected numbers"]),
    (["plus=[[1],2]"], ["plus=[[1],2]: expected numbers", "list of lists"]),
    (["plus=[[[1]]]"], ["plus=[[[1]]]: expected numbers"]),
    (["plus=[1.5]"], ["plus=[1.5]: expected numbers"]),
    (["plus=[true]"], ["plus=[True]: expected numbers"]),
    (["plus=[a]"], ["plus=[a]: expected numbers"]),
    (["plus=[null]"], ["plus=[None]: expected numbers"]),
    (["plus={a: 1}"], ["plus=", "expected a list of numbers"]),
    (["images=0", "plus=[10]"], ["plus=[10]: expected 0 to 9, found 10"]),
    (["images=0", "plus=[-1]"], ["plus=[-1]: expected 0 to 9"]),
    (["images=0", "plus=[7]", "minus=['x']"], ["minus=[x]: expected 0 to 9", "found 'x'"]),
    (["images=0", "plus=[true]"], ["expected 0 to 9"]),
    (["images=0", "plus=[[7]]"], ["plus=[[7]]: expected 0 to 9"]),
    (["images=0", "plus=7"], ["plus=7: expected a list of labels, e.g. plus=[7]"]),
    (["images=0"], ["images=0", "plus=[0]"]),
    (["images=0", "minus=[1]"], ["plus=[0]"]),
    (["images=0", "plus=[7,2]", "minus=[2,7]"], ["share 7, 2"]),
    (["images=0", "plus=[0,1,2,3,4,5,6,7,8,9]"], ["are all labels"]),
    (["images=400", "plus=[7]"], ["no image 400", "0 to 296"]),
    (["images=nowhere.png", "plus=[7]"], ["images=nowhere.png"]),
    (["strength=nan"], ["strength: expected a finite number"]),
    (["strength=inf"], ["strength: expected a finite number"]),
    (["noise=-1"], ["noise: expected at least 0"]),
    (["n=0"], ["n: expected at least 1"]),
    (["columns=1"], ["columns: expected at least 2"]),
    (["per_label=0"], ["per_label: expected at least 1"]),
    (["plus=[1]", "out=x.jpg"], ["out=x.jpg", ".png"]),
    (["puls=[1]"], ["unknown key puls", "plus"]),
]


@pytest.mark.parametrize(("typed", "parts"), MISTAKES, ids=[" ".join(t) for t, _ in MISTAKES])
def test_a_mistake_gets_one_line(
    gentrain: Callable[..., Ended], trained_mlp: Path, typed: list[str], parts: list[str]
) -> None:
    before = sorted(Path().rglob("*"))
    ended = gentrain("arithmetic", f"ckpt={trained_mlp}", *typed)
    assert ended.status == 2, ended.out
    for part in parts:
        assert part in ended.one_line()
    assert sorted(Path().rglob("*")) == before


@pytest.fixture
def trained_mlp(trained_once: Path, workplace: Path) -> Path:
    """The smaller model alone."""
    shutil.copytree(trained_once / "mlp", "mlp", symlinks=True)
    return Path("mlp")


def test_data_without_labels(gentrain: Callable[..., Ended], workplace: Path) -> None:
    draw = np.random.default_rng(0)
    Path("pictures").mkdir()
    for i in range(20):
        Image.fromarray(draw.integers(0, 256, (9, 9), dtype=np.uint8)).save(f"pictures/{i:02}.png")
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8"]
    assert gentrain("train", *settings, "dataset=folder", "dataset.root=pictures").status == 0
    ended = gentrain("arithmetic", "images=0", "plus=[0]", "out=x.png")
    assert ended.status == 2
    assert "no labels" in ended.one_line()
    assert not Path("x.png").exists()


def test_labels_that_no_training_image_has(
    gentrain: Callable[..., Ended], trained_mlp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named, such a label is refused; as one of all the others it is left out."""
    from gentrain.commands import arithmetic

    data = digits()
    assert data.train.labels is not None
    kept = np.flatnonzero(data.train.labels != 3)
    parts = {name: array[kept] for name, array in data.train.parts.items()}
    data = dataclasses.replace(data, train=Split(parts))
    monkeypatch.setattr(arithmetic, "open_data", lambda *_: data)
    ended = gentrain("arithmetic", "ckpt=mlp", "images=0", "plus=[3]")
    assert ended.status == 2
    assert "plus=[3]: no training image has the label 3" in ended.one_line()
    assert gentrain("arithmetic", "ckpt=mlp", "images=0", "plus=[7]").status == 0
    many = gentrain("arithmetic", "ckpt=mlp", "images=0", "plus=[0,1,2,4,5,6,7,8,9]")
    assert "are all labels" in many.one_line()


def test_a_name_that_looks_like_another_labels_number(
    gentrain: Callable[..., Ended], trained_mlp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the name."""
    from gentrain.commands import arithmetic

    monkeypatch.setattr(arithmetic, "label_names", lambda data: tuple("9876543210"))
    assert labels("plus", ListConfig(["2", 2, 9]), tuple("9876543210"), set(range(10))) == [7, 0]
    pictures = []
    for typed in ("plus=['2']", "plus=[2]", "plus=[7]"):
        assert gentrain("arithmetic", "ckpt=mlp", "images=0", typed, "out=x.png").status == 0
        pictures.append(Path("x.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_a_checkpoint_on_its_own(gentrain: Callable[..., Ended], trained_mlp: Path) -> None:
    state = checkpoint.load(trained_mlp / "checkpoints" / "last.pt")
    checkpoint.save(state, Path("alone.pt"))
    assert gentrain("arithmetic", "ckpt=alone.pt").status == 0
    assert Path("arithmetic_latents.png").is_file()


# What is computed


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), min_size=1, max_size=3), st.data())
def test_sums_of_means(plus: list[list[int]], data: st.DataObject) -> None:
    values = torch.randn(10, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    minus = data.draw(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=5), max_size=3))
    x = values.numpy()
    expected = sum((x[g].mean(0) for g in plus), np.zeros((3, 2))) - sum(
        (x[g].mean(0) for g in minus), np.zeros((3, 2))
    )
    assert np.allclose(combined(values, plus, minus).numpy(), expected)
    assert torch.allclose(combined(values, plus, plus), torch.zeros(3, 2, dtype=torch.float64))


def test_a_walk_and_its_pixels() -> None:
    start, direction = torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, -10.0]])
    path = walk(start, direction, torch.tensor([0.0, 0.5, 2.0]))
    assert path.tolist() == [[[1, 2]], [[6, -3]], [[21, -18]]]
    assert to_pixels(path, 17).tolist() == [[[1, 2]], [[6, 0]], [[16, 0]]]
    assert to_pixels(torch.tensor([0.4, 0.6, 15.6]), 17).tolist() == [0, 1, 16]


def test_rows_of_different_lengths_stand_below_one_another() -> None:
    rows = [torch.full((n, 3, 60, 60), n, dtype=torch.uint8) for n in (1, 3, 2)]
    picture = stacked(rows, DataSpec((3, 60, 60)))
    assert picture.shape == (3, 3 * 64, 3 * 62 + 2)
    assert [int(picture[0, 64 * i + 30, 30]) for i in range(3)] == [1, 3, 2]
    assert [int(picture[0, 64 * i + 30, -30]) for i in range(3)] == [128, 3, 128]


def test_numbers_fit_pictures_in_colour_too() -> None:
    for channels in (1, 3):
        picture = grid(torch.zeros(12, channels, 8, 8, dtype=torch.uint8), 256, columns=5)
        numbered = with_numbers(picture, 12, 5)
        assert numbered.shape == (3, *picture.shape[1:])
        assert numbered.dtype == torch.uint8

"""`gentrain reconstruct`, and the ways to name images that other verbs share with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import MODELS, Ended, toy

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.contracts import Batch
from gentrain.images import to_display

#: A tile of `images.grid` for images of 8x8: 56 pixels and a frame of 2.
TILE, FRAME = 56, 2


def tile(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """[8, 8], the image at a place in the grid, in 0 .. 255."""
    top, left = FRAME + row * (TILE + FRAME), FRAME + column * (TILE + FRAME)
    return picture[top : top + TILE : 7, left : left + TILE : 7]


def read(path: Path) -> np.ndarray:
    """A picture's pixels."""
    with Image.open(path) as picture:
        return np.array(picture)


def digits_test() -> torch.Tensor:
    """uint8 [297, 1, 8, 8]."""
    return torch.from_numpy(np.array(build_source(compose_train([]).dataset).load().test.images))


def decoded(model: Any, x: torch.Tensor) -> torch.Tensor:
    """What the model makes of images."""
    return model.latents_to_images(model.images_to_latents(x))


def test_eight_images_by_default(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    done = gentrain("reconstruct")
    picture = read(trained.conv / "reconstructions.png")
    x = digits_test()[:8]
    y = decoded(package.load(trained.conv), x)
    for i in range(8):
        assert np.array_equal(tile(picture, 0, i), to_display(x, 17)[i, 0])
        assert np.array_equal(tile(picture, 1, i), to_display(y, 17)[i, 0])
    error = float((x.float() - y.float()).abs().mean() / 16)
    assert f"error   {error:.4f} reconstruction (mean absolute" in done.out
    then = follow(done)
    assert then.status == 0, then.err
    assert (trained.conv / "interpolations.png").is_file()


@pytest.mark.parametrize("typed", ["5,3,296", "5, 3, 296", "[5,3,296]", "(5,3,296)"])
def test_chosen_by_index(gentrain: Callable[..., Ended], trained: SimpleNamespace, typed: str) -> None:
    done = gentrain("reconstruct", f"images={typed}", "out=x.png")
    assert done.status == 0, done.err
    assert "(3 images" in done.out
    picture = read(Path("x.png"))
    for column, index in enumerate((5, 3, 296)):
        assert np.array_equal(tile(picture, 0, column), to_display(digits_test(), 17)[index, 0])


@pytest.mark.parametrize("count", [1, 8, 10, 16, 19])
def test_each_stands_above_its_own(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, count: int
) -> None:
    """In rows of eight, the last not full."""
    done = gentrain("reconstruct", "images=" + ",".join(map(str, range(count))), "out=x.png")
    assert done.status == 0, done.err
    picture = read(Path("x.png"))
    x = digits_test()[:count]
    y = decoded(package.load(trained.conv), x)
    for i in range(count):
        row, column = 2 * (i // 8), i % 8
        assert np.array_equal(tile(picture, row, column), to_display(x, 17)[i, 0])
        assert np.array_equal(tile(picture, row + 1, column), to_display(y, 17)[i, 0])


def test_binarised_data_are_shown_as_the_model_saw_them(
    gentrain: Callable[..., Ended], workplace: Path
) -> None:
    settings = ["model=vae_mlp", "model.hidden=[8]", "train.steps=2", "train.batch_size=8"]
    assert gentrain("train", *settings, "dataset.binarize=dynamic", "run_dir=run").status == 0
    assert gentrain("reconstruct", "images=0,1", "out=a.png").status == 0
    assert gentrain("reconstruct", "images=0,1", "out=b.png").status == 0
    assert gentrain("reconstruct", "images=0,1", "out=c.png", "seed=1").status == 0
    a, b, c = (read(Path(f"{name}.png")) for name in "abc")
    assert set(np.unique(a)) == {0, 128, 255}
    assert np.array_equal(a, b)
    assert not np.array_equal(tile(a, 0, 0), tile(c, 0, 0)), "another seed, another draw"


def test_more_kinds_of_rows_than_two(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """The model says which; the error of each is that from the images."""
    assert gentrain("train", *MODELS["dae"], "train.steps=2", "run_dir=run").status == 0
    done = gentrain("reconstruct", "images=3,1,4", "seed=5", "out=x.png")
    assert done.status == 0, done.err
    assert "(3 images, from top to bottom: corrupted, restored, clean)" in done.out
    x = digits_test()[[3, 1, 4]]
    model: Any = package.load("run")
    torch.manual_seed(5)
    rows = model.reconstructions(Batch(x))
    picture = read(Path("x.png"))
    for i, row in enumerate(rows.values()):
        for j in range(3):
            assert np.array_equal(tile(picture, i, j), to_display(row, 17)[j, 0])
    corrupted, restored = (
        float((rows[name].float() - x.float()).abs().mean() / 16) for name in ("corrupted", "restored")
    )
    assert f"error   {corrupted:.4f} corrupted, {restored:.4f} restored (mean absolute" in done.out


def test_a_model_that_needs_the_labels(
    gentrain: Callable[..., Ended], workplace: Path, colours: Path
) -> None:
    """It is given those of test images; a file has none."""
    assert gentrain("train", *MODELS["cvae"], "train.steps=2", "run_dir=run").status == 0
    done = gentrain("reconstruct", "images=3,1,4", "out=x.png")
    assert done.status == 0, done.err
    split = build_source(compose_train([]).dataset).load().test
    x, label = (torch.from_numpy(np.array(part)[[3, 1, 4]]) for part in (split.images, split.labels))
    model: Any = package.load("run")
    picture = read(Path("x.png"))
    for i, row in enumerate(model.reconstructions(Batch(x, label)).values()):
        for j in range(3):
            assert np.array_equal(tile(picture, i, j), to_display(row, 17)[j, 0])
    ended = gentrain("reconstruct", f"images={colours.name}", "out=y.png")
    assert ended.status == 2
    assert "needs the label of every image" in ended.one_line()
    assert "images=0" in ended.one_line()
    assert not Path("y.png").exists()


@pytest.fixture
def colours(workplace: Path) -> Path:
    """A colour photograph of 40x20 pixels: bright red, but for the left and right ends."""
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 6:34] = (255, 0, 0)
    path = workplace / "my photo (1).png"
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_of_ones_own(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, colours: Path
) -> None:
    """Any size, in colour for a grey model: cropped from the centre, made grey, in the model's levels."""
    done = gentrain("reconstruct", f"images={colours.name}", "out=x.png")
    assert done.status == 0, done.err
    assert "(1 images" in done.out
    x = tile(read(Path("x.png")), 0, 0)
    grey = 76  # of pure red, ITU-R 601-2
    assert set(np.unique(x)) == {round(round(grey * 16 / 255) * 255 / 16)}


def test_a_folder_of_images_in_the_order_of_their_names(
    gentrain: Callable[..., Ended], trained: SimpleNamespace
) -> None:
    folder = Path("own images")
    folder.mkdir()
    for value, name in ((255, "b.png"), (0, "a.PNG"), (128, "c.jpg")):
        Image.new("RGB", (30, 30), (value, value, value)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    done = gentrain("reconstruct", "images=own images", "out=x.png")
    assert done.status == 0, done.err
    assert "(3 images" in done.out
    picture = read(Path("x.png"))
    assert [int(tile(picture, 0, i).mean()) for i in range(3)] == [0, 255, 128]


BAD = [
    ("297", ["297", "0 to 296"]),
    ("0,500", ["500", "0 to 296"]),
    ("-1", ["images=-1", "test indices such as 0,1,2"]),
    ("0,,1", ["images=0,,1"]),
    ("nowhere.png", ["images=nowhere.png", "image file or a folder"]),
    ("broken.png", ["broken.png cannot be read"]),
    ("empty.png", ["empty.png cannot be read"]),
    ("page.png", ["page.png cannot be read"]),
    ("none", ["none holds no image"]),
    ("mixed", ["mixed/z.png cannot be read"]),
]


TRIED = [
    *(("reconstruct", *bad) for bad in BAD),
    *((verb, *bad) for verb in ("interpolate", "encode") for bad in BAD[:6:2]),
]


@pytest.mark.parametrize(("verb", "images", "parts"), TRIED, ids=[f"{t[0]} {t[1]}" for t in TRIED])
def test_images_that_cannot_be_had(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, verb: str, images: str, parts: list[str]
) -> None:
    good = Path("good.png")
    Image.new("L", (9, 9), 100).save(good)
    Path("broken.png").write_bytes(good.read_bytes()[:-20])
    Path("empty.png").write_bytes(b"")
    Path("page.png").write_text("<html>404</html>")
    Path("none").mkdir()
    Path("mixed").mkdir()
    good.rename("mixed/a.png")
    Path("mixed/z.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    before = sorted(Path().rglob("*"))
    ended = gentrain(verb, f"images={images}")
    assert ended.status == 2, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert sorted(Path().rglob("*")) == before


def test_a_model_without_an_encoder(gentrain: Callable[..., Ended], workplace: Path) -> None:
    """It says so whatever else was typed; what it can do still works."""
    assert gentrain("train", *toy("toy_gan", "train.steps=2")).status == 0
    for verb in ("reconstruct", "encode"):
        ended = gentrain(verb, "trust=[toys]", "images=nowhere")
        assert ended.status == 2
        assert f"{verb}: toy_gan cannot do this" in ended.one_line()
    ended = gentrain("interpolate", "trust=[toys]", "images=0,1")
    assert ended.status == 2
    assert "interpolate between images: toy_gan cannot do this" in ended.one_line()
    assert gentrain("interpolate", "trust=[toys]").status == 0


@pytest.mark.parametrize(("verb", "wrong"), [("reconstruct", "x.npz"), ("encode", "x.png")])
def test_a_file_of_another_kind(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, verb: str, wrong: str
) -> None:
    ended = gentrain(verb, f"out={wrong}")
    assert ended.status == 2
    assert f"out={wrong}: expected a name that ends in" in ended.one_line()

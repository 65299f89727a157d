"""`gentrain complete`: what it draws, what it takes as a mask, what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import Ended, quietly_in

import gentrain as package
from gentrain.api import compose_train
from gentrain.building import build_source
from gentrain.cli import main
from gentrain.commands.complete import known_part
from gentrain.contracts import Completes, DataSpec
from gentrain.images import to_display

#: A tile of `images.grid` for images of 8x8: 56 pixels and a frame of 2.
TILE, FRAME = 56, 2
NOTE = "what is known after a pixel cannot inform it"


def tile(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """[8, 8], the image at a place in the grid, in 0 .. 255."""
    top, left = FRAME + row * (TILE + FRAME), FRAME + column * (TILE + FRAME)
    return picture[top : top + TILE : 7, left : left + TILE : 7]


def read(path: str | Path) -> np.ndarray:
    """A picture's pixels."""
    with Image.open(path) as picture:
        return np.array(picture)


def digits_test() -> torch.Tensor:
    """uint8 [297, 1, 8, 8]."""
    return torch.from_numpy(np.array(build_source(compose_train([]).dataset).load().test.images))


@pytest.fixture(scope="session")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small autoregressive model, trained a little."""
    place = tmp_path_factory.mktemp("drawn")
    small = ["model.channels=8", "model.depth=1", "model.first_kernel=3", "model.head_channels=8"]
    little = ["dataset=digits", "train.steps=5", "train.batch_size=16", "train.sample_count=2", "run_dir=run"]
    with quietly_in(place):
        assert main(["train", "model=pixelcnn", *small, *little]) == 0
    return place / "run"


@pytest.fixture
def run(drawn_once: Path, workplace: Path) -> Path:
    """That folder's copy, `run` in the current folder."""
    shutil.copytree(drawn_once, "run")
    return Path("run")


def complete(gentrain: Callable[..., Ended], *more: str) -> Ended:
    return gentrain("complete", "ckpt=run", *more)


def test_rows_of_the_image_what_is_given_and_ways_to_go_on(
    gentrain: Callable[..., Ended], follow: Callable[..., Ended], run: Path
) -> None:
    done = complete(gentrain, "images=0,1,2,3", "known=top")
    assert done.status == 0, done.err
    assert NOTE not in done.out, "what is known comes first"
    picture = read(run / "completions.png")
    assert picture.shape == (4 * (TILE + FRAME) + FRAME, 8 * (TILE + FRAME) + FRAME)
    x = to_display(digits_test()[:4], 17).numpy()
    many = digits_test()[:4].repeat_interleave(6, 0)
    known = torch.zeros_like(many, dtype=torch.bool)
    known[:, :, :4] = True
    model: Any = package.load("run")
    torch.manual_seed(0)
    made = to_display(model.complete(many, known), 17).numpy()
    for i in range(4):
        assert np.array_equal(tile(picture, i, 0), x[i, 0])
        assert np.array_equal(tile(picture, i, 1)[:4], x[i, 0, :4])
        assert (tile(picture, i, 1)[4:] == 128).all()
        for way in range(6):
            assert np.array_equal(tile(picture, i, 2 + way), made[6 * i + way, 0])
        assert not np.array_equal(tile(picture, i, 2), tile(picture, i, 3)), "the ways differ"
    then = follow(done, "n=2")
    assert then.status == 0, then.err
    assert (run / "samples.png").is_file()


#: Each part of 8x8, as [rows, columns] that are given; whether something known comes after what is not.
PARTS = [
    ("top", (slice(0, 4), slice(None)), False),
    ("bottom", (slice(4, 8), slice(None)), True),
    ("left", (slice(None), slice(0, 4)), True),
    ("right", (slice(None), slice(4, 8)), True),
    ("centre", (slice(2, 6), slice(2, 6)), True),
]


@pytest.mark.parametrize(("part", "given", "noted"), PARTS, ids=[part for part, _, _ in PARTS])
def test_parts(
    gentrain: Callable[..., Ended], run: Path, part: str, given: tuple[slice, slice], noted: bool
) -> None:
    done = complete(gentrain, f"known={part}", "images=5,9", "n=1", "out=x.png")
    assert done.status == 0, done.err
    assert (NOTE in done.out) == noted
    assert done.out.count("note") == noted
    picture = read("x.png")
    mask = np.zeros((8, 8), dtype=bool)
    mask[given] = True
    for i, index in enumerate((5, 9)):
        x = to_display(digits_test()[index : index + 1], 17)[0, 0].numpy()
        assert np.array_equal(tile(picture, i, 1), np.where(mask, x, 128))
        assert np.array_equal(tile(picture, i, 2)[mask], x[mask])


@pytest.mark.parametrize("kind", ["png", "bool", "integers", "channels"])
def test_masks_from_files(gentrain: Callable[..., Ended], run: Path, kind: str) -> None:
    mask = np.random.default_rng(0).random((8, 8)) < 0.5
    file = Path("my mask (1).png" if kind == "png" else "mask.npy")
    if kind == "png":
        Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB").save(file)
    else:
        np.save(file, {"bool": mask, "integers": mask.astype(np.int64), "channels": mask[None]}[kind])
    done = complete(gentrain, f"known={file}", "images=3", "n=2", "out=x.png")
    assert done.status == 0, done.err
    x = to_display(digits_test()[3:4], 17)[0, 0].numpy()
    picture = read("x.png")
    assert np.array_equal(tile(picture, 0, 1), np.where(mask, x, 128))
    assert np.array_equal(tile(picture, 0, 3)[mask], x[mask])


def test_the_seed_decides(gentrain: Callable[..., Ended], run: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert complete(gentrain, "images=0", f"seed={seed}", f"out={name}.png").status == 0
    a, b, c = (Path(f"{name}.png").read_bytes() for name in "abc")
    assert a == b
    assert a != c


REFUSED = [
    (["known=up"], ["known=up: expected top, bottom, left, right, centre"]),
    (["known=nowhere.png"], ["known=nowhere.png: there is no such file"]),
    (["known=small.png"], ["known=small.png: expected [8, 8]", "found [8, 7]"]),
    (["known=small.npy"], ["known=small.npy: expected [8, 8]", "[1, 8, 8]", "found [4, 4]"]),
    (["known=batch.npy"], ["known=batch.npy: expected [8, 8]", "found [2, 1, 8, 8]"]),
    (["known=grey.npy"], ["known=grey.npy: expected true and false, or 1 and 0"]),
    (["known=broken.png"], ["known=broken.png cannot be read"]),
    (["known=broken.npy"], ["known=broken.npy cannot be read"]),
    (["known=empty.npy"], ["known=empty.npy cannot be read"]),
    (["known=objects.npy"], ["known=objects.npy cannot be read"]),
    (["known=all.npy"], ["known=all.npy gives all of the 8x8 pixels"]),
    (["known=none.npy"], ["known=none.npy gives none of the 8x8 pixels", "gentrain sample"]),
    (["known="], ["known is empty"]),
    (["n=0"], ["n: expected at least 1", "found 0"]),
    (["images=297"], ["297", "0 to 296"]),
    (["images=nowhere.png"], ["images=nowhere.png"]),
    (["out=x.npz"], ["out=x.npz: expected a name that ends in .png"]),
    (["temperature=0.5"], ["temperature"]),
    (["ckpt=nowhere"], ["nowhere"]),
]


@pytest.mark.parametrize(("typed", "parts"), REFUSED, ids=[t[0] for t, _ in REFUSED])
def test_what_cannot_be_done_is_said_and_nothing_written(
    gentrain: Callable[..., Ended], run: Path, typed: list[str], parts: list[str]
) -> None:
    Image.new("L", (7, 8)).save("small.png")
    np.save("small.npy", np.zeros((4, 4), dtype=bool))
    np.save("batch.npy", np.zeros((2, 1, 8, 8), dtype=bool))
    np.save("grey.npy", np.full((8, 8), 255, dtype=np.uint8))
    Path("broken.png").write_bytes(Path("small.png").read_bytes()[:40])
    Path("broken.npy").write_bytes(Path("batch.npy").read_bytes()[:-20])
    Path("empty.npy").write_bytes(b"")
    np.save("objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save("all.npy", np.ones((8, 8), dtype=bool))
    np.save("none.npy", np.zeros((8, 8), dtype=bool))
    before = sorted(Path().rglob("*"))
    ended = complete(gentrain, *typed)
    assert ended.status == 2, ended.err
    for part in parts:
        assert part in ended.one_line()
    assert sorted(Path().rglob("*")) == before


def test_data_of_other_levels_than_the_checkpoints(gentrain: Callable[..., Ended], run: Path) -> None:
    from gentrain.training import checkpoint

    state = checkpoint.load(run / "checkpoints" / "last.pt")
    state["config"] = state["config"].replace("binarize: none", "binarize: fixed")
    assert "binarize: fixed" in state["config"]
    checkpoint.save(state, Path("other.pt"))
    ended = gentrain("complete", "ckpt=other.pt")
    assert ended.status == 2
    assert "the data are [1, 8, 8] with 2 levels, the checkpoint was trained on" in ended.one_line()
    assert not Path("completions.png").exists()


def test_a_model_that_cannot(gentrain: Callable[..., Ended], trained: SimpleNamespace) -> None:
    ended = gentrain("complete", "known=nowhere")
    assert ended.status == 2
    assert "complete: vae cannot do this" in ended.one_line()


def test_a_model_has_nothing_to_note_unless_it_says_so() -> None:
    class Model(Completes):
        pass

    assert Model(DataSpec((1, 2, 2))).note(torch.zeros(1, 1, 2, 2, dtype=torch.bool)) is None


def test_the_top_of_a_sound_is_its_beginning() -> None:
    for known, given in (("top", [1, 1, 1, 0, 0, 0, 0]), ("bottom", [0, 0, 0, 0, 1, 1, 1])):
        assert known_part(known, (1, 1, 7))[0, 0].int().tolist() == given
    assert known_part("top", (1, 4, 2))[0].int().tolist() == [[1, 1], [1, 1], [0, 0], [0, 0]]

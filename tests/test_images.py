"""Grids and files of images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from gentrain.errors import Fault, UserError
from gentrain.images import check_out, grid, rows_of_eight, save_png, to_display


def images(count: int, *shape: int, levels: int = 256) -> Tensor:
    draw = torch.Generator().manual_seed(count)
    return torch.randint(0, levels, (count, *shape), generator=draw, dtype=torch.uint8)


# Pixels


@pytest.mark.parametrize("levels", [2, 17, 255, 256])
def test_black_stays_black_white_becomes_white_and_no_two_levels_meet(levels: int) -> None:
    x = torch.arange(levels).to(torch.uint8).view(levels, 1, 1, 1)
    shown = to_display(x, levels).flatten()
    assert shown.dtype == torch.uint8
    assert (int(shown[0]), int(shown[-1])) == (0, 255)
    assert (shown.long().diff() > 0).all()
    exact = torch.arange(levels).double() * 255 / (levels - 1)
    assert (shown.double() - exact).abs().max() <= 0.5


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (4, 1), (7, 1)])
def test_grey_colour_or_the_first_channel(channels: int, shown: int) -> None:
    x = images(3, channels, 5, 6)
    display = to_display(x, 256)
    assert torch.equal(display, x[:, :shown])
    assert len(grid(x, 256)) == shown


# Grids


def tiles(picture: Tensor, height: int, width: int, columns: int) -> list[Tensor]:
    """What stands in each place, row by row; checks that the frame is grey."""
    frame = torch.ones(picture.shape[-2:], dtype=torch.bool)
    found = []
    for top in range(2, picture.shape[1] - height, height + 2):
        for left in range(2, 2 + columns * (width + 2), width + 2):
            place = (slice(None), slice(top, top + height), slice(left, left + width))
            frame[place[1:]] = False
            found.append(picture[place])
    assert (picture[:, frame] == 128).all()
    return found


@pytest.mark.parametrize(("count", "columns", "rows", "wide"), [(6, 3, 2, 3), (7, 3, 3, 3), (2, 5, 1, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_row_by_row(count: int, columns: int, rows: int, wide: int, channels: int) -> None:
    x = images(count, channels, 60, 70)
    picture = grid(x, 256, columns=columns)
    assert picture.dtype == torch.uint8
    assert picture.shape == (channels, rows * 62 + 2, wide * 72 + 2)
    found = tiles(picture, 60, 70, wide)
    for i, expected in enumerate(x):
        assert torch.equal(found[i], expected)
    for empty in found[count:]:
        assert (empty == 128).all()


@pytest.mark.parametrize(("count", "columns", "rows"), [(2, 2, 1), (4, 2, 2), (9, 3, 3), (10, 4, 3)])
def test_as_square_as_can_be(count: int, columns: int, rows: int) -> None:
    assert grid(images(count, 1, 56, 56), 256).shape == (1, rows * 58 + 2, columns * 58 + 2)


def test_small_images_are_enlarged_by_a_whole_factor() -> None:
    x = images(4, 1, 8, 9, levels=17)
    first = tiles(grid(x, 17), 56, 63, 2)[0]
    assert torch.equal(first[:, ::7, ::7], to_display(x, 17)[0])
    assert torch.equal(first, first[:, ::7, ::7].repeat_interleave(7, 1).repeat_interleave(7, 2))


def test_large_images_stay_as_they_are() -> None:
    x = images(2, 3, 200, 300)
    assert torch.equal(tiles(grid(x, 256), 200, 300, 2)[1], x[1])


@pytest.mark.parametrize("shape", [(4, 1024), (1024, 4), (1, 5000), (8, 300)])
def test_long_images_make_no_endless_picture(shape: tuple[int, int]) -> None:
    longest = max(shape)
    assert max(grid(images(64, 1, *shape), 256).shape) <= max(longest, 1024) + 4
    assert max(grid(images(64, 1, *shape), 256, columns=8).shape) <= 8 * (longest + 2) + 2
    x = images(1, 1, *shape)
    assert torch.equal(grid(x, 256)[:, 2:-2, 2:-2], x[0])


def test_as_square_as_can_be_with_wide_images() -> None:
    assert grid(images(16, 1, 56, 224), 256).shape == (1, 8 * 58 + 2, 2 * 226 + 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_single_image_is_a_grid_too(channels: int) -> None:
    x = images(1, channels, 60, 61)
    picture = grid(x, 256, columns=8)
    assert picture.shape == (channels, 64, 65)
    assert torch.equal(tiles(picture, 60, 61, 1)[0], x[0])


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.integers(2, 256))
def test_any_images_make_a_picture(count: int, side: int, channels: int, levels: int) -> None:
    picture = grid(images(count, channels, side, side, levels=levels), levels)
    assert picture.dtype == torch.uint8
    assert picture.ndim == 3
    assert picture.shape[0] in (1, 3)


def test_the_images_themselves_stay() -> None:
    x = images(3, 1, 4, 4, levels=2)
    before = x.clone()
    grid(x, 2)
    assert torch.equal(x, before)


@pytest.mark.parametrize("count", [1, 7, 8])
def test_a_row_of_pairs(count: int) -> None:
    x, y = images(count, 1, 4, 4), images(count + 50, 1, 4, 4)[:count]
    assert torch.equal(rows_of_eight(x, y), torch.cat([x, y]))


@pytest.mark.parametrize("count", [9, 15, 16, 17])
def test_rows_of_pairs_are_filled_up(count: int) -> None:
    x, y = images(count, 1, 4, 4), images(count + 50, 1, 4, 4)[:count]
    rows = rows_of_eight(x, y).view(-1, 2, 8, 1, 4, 4)
    assert torch.equal(rows[:, 0].flatten(0, 1)[:count], x)
    assert torch.equal(rows[:, 1].flatten(0, 1)[:count], y)
    assert not rows[:, 0].flatten(0, 1)[count:].any()
    assert not rows[:, 1].flatten(0, 1)[count:].any()


@pytest.mark.parametrize("count", [1, 8, 9, 17])
@pytest.mark.parametrize("kinds", [1, 3, 4])
def test_any_number_of_kinds_of_rows(kinds: int, count: int) -> None:
    parts = [images(count, 1, 4, 4) // (kind + 1) for kind in range(kinds)]
    wide = min(count, 8)
    rows = rows_of_eight(*parts).unflatten(0, (-1, kinds, wide))
    for kind, part in enumerate(parts):
        assert torch.equal(rows[:, kind].flatten(0, 1)[:count], part)
        assert not rows[:, kind].flatten(0, 1)[count:].any()


# Files


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_every_pixel(tmp_path: Path, channels: int) -> None:
    picture = images(1, channels, 30, 41)[0]
    path = tmp_path / "new" / "folders" / "x.png"
    save_png(picture, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == {1: "L", 3: "RGB"}[channels]
        read = torch.from_numpy(np.array(image)).view(30, 41, channels).permute(2, 0, 1)
    assert torch.equal(read, picture)
    assert [f.name for f in path.parent.iterdir()] == ["x.png"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    save_png(images(1, 1, 5, 5)[0], path)
    before = path.read_bytes()

    def full(self: Image.Image, file: Path, **options: object) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(Fault, match=r"cannot write .*x\.png: No space left on device; make room there"):
        save_png(images(2, 1, 5, 5)[1], path)
    assert path.read_bytes() == before
    assert [f.name for f in tmp_path.iterdir()] == ["x.png"]


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is renamed into place is complete."""
    seen = []

    def rename(source: Path, target: Path) -> None:
        with Image.open(source) as image:
            image.load()
            seen.append(image.size)
        assert not Path(target).exists()
        assert Path(source).parent == Path(target).parent, "a rename between file systems is a copy"

    monkeypatch.setattr(os, "replace", rename)
    save_png(images(1, 1, 5, 6)[0], tmp_path / "x.png")
    assert seen == [(6, 5)]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write .*file/x\.png"):
        save_png(images(1, 1, 5, 5)[0], tmp_path / "file" / "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder\.png"):
        save_png(images(1, 1, 5, 5)[0], tmp_path / "folder.png")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.gif", r"expected a name that ends in \.png or \.npz"),
        ("png", "expected a name that ends in"),
        ("folder.png", "is a folder; expected a file name"),
        ("file/x.png", "cannot write to .*file: it is not a folder"),
    ],
)
def test_an_output_is_refused_before_the_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UserError, match=message):
        check_out(tmp_path / name, (".png", ".npz"))
    with pytest.raises(UserError, match="cannot write to /proc"):  # where os.access says yes to root
        check_out(Path("/proc/x.png"), (".png",))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["x.png", "x.npz", "deep/er/x.png"])
def test_an_output_that_can_be_written(tmp_path: Path, name: str) -> None:
    check_out(tmp_path / name, (".png", ".npz"))
    assert list(tmp_path.iterdir()) == []

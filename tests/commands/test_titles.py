"""Words around a sheet: every pixel of it stays, and the words are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from running import Ended
from titled_sheets import around

from gentrain.commands.given import each_in_words
from gentrain.contracts import DataSpec
from gentrain.images import GAP, grid
from gentrain.titles import WIDE, Labels, titled


def inked(part: torch.Tensor) -> bool:
    """Whether something is written there."""
    return bool((part < 128).any())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [30, 2000])
def test_every_pixel_stays(channels: int, width: int) -> None:
    """As squares of equal pixels, in one piece."""
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (channels, 20, width), np.uint8))
    sheet = titled(picture, Labels("a title", ["one", "two"], ["a", "b", "c"]))
    factor = max(1, -(-WIDE // width))
    large = picture.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    top = sheet.shape[1] - large.shape[1] - 20
    left = sheet.shape[2] - large.shape[2] - 20
    assert torch.equal(sheet[:, top:-20, left:-20], large)
    assert large.shape[2] >= WIDE
    rest = sheet.clone()
    rest[:, top:-20, left:-20] = 255
    assert inked(rest[:, :top])
    for row in range(2):
        part = slice(top + row * large.shape[1] // 2, top + (row + 1) * large.shape[1] // 2)
        assert inked(rest[:, part, :left]), "a name beside each row"
    for column in range(3):
        part = slice(left + column * large.shape[2] // 3, left + (column + 1) * large.shape[2] // 3)
        assert inked(rest[:, top - 58 : top, part]), "a name above each column"
    assert not inked(rest[:, -20:])


def test_long_names_stay_in_their_places() -> None:
    """They are made smaller, then cut: nothing is written on the picture or on a neighbour."""
    white = torch.full((1, 100, 400), 255, dtype=torch.uint8)
    sheet = titled(white, Labels("", ["x" * 300, ""], ["y" * 300, "", "", ""]))
    left = WIDE // 3 + 40
    assert not inked(sheet[:, 78:, left:]), "on the picture"
    assert inked(sheet[:, :68, left : left + WIDE // 4])
    assert not inked(sheet[:, :68, left + WIDE // 4 :]), "above the next column"


def test_words_stand_below_each_picture_of_a_grid() -> None:
    """Rows of pictures lie apart by as much as their words take, and no picture loses a pixel."""
    shades = torch.arange(10, 250, 48, dtype=torch.uint8)  # five pictures
    tiles = shades[:, None, None, None].expand(-1, 1, 60, 60)
    long = "one two three four five six seven eight nine"
    words = ["1", long, "", "x" * 99, "5"]
    sheet = titled(grid(tiles, 256, columns=3), Labels("", under=words, across=3))[0]
    factor = -(-WIDE // (3 * 62 + 2))
    found = {}
    for shade in shades.tolist():
        same = sheet == shade  # of the edges of letters too, here and there
        rows, columns = ((same.sum(side) >= 60 * factor).nonzero().flatten() for side in (1, 0))
        assert len(rows) == len(columns) == 60 * factor
        assert same[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all(), "whole, and in one piece"
        found[shade] = rows[-1].item() + 1 + GAP * factor, columns[0].item() - GAP * factor
    for (bottom, left), word in zip(found.values(), words, strict=True):
        part = sheet[bottom : bottom + 40, left : left + 62 * factor]
        assert inked(part) == bool(word), word
        assert not inked(part[:, :8]), "nothing beside it"


def test_nothing_to_write() -> None:
    picture = torch.zeros(1, 10, 1600, dtype=torch.uint8)
    assert titled(picture, Labels()).shape == (1, 10 + 40, 1600 + 40), "with as much white on every side"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "n=4"],
        ["reconstruct", "images=0,1,2"],
        ["interpolate", "images=0,1", "columns=3"],
        ["interpolate", "rows=2", "columns=3"],
        ["arithmetic", "plus=[[1],[2,3]]", "minus=[4]", "columns=3"],
        ["arithmetic", "images=0", "plus=[3]", "columns=3"],
    ],
    ids=" ".join,
)
def test_sheets_of_verbs(
    gentrain: Callable[..., Ended], trained: SimpleNamespace, arguments: list[str]
) -> None:
    """The picture of without is in that of with; without, nothing is written on it."""
    for titles in ("false", "true"):
        done = gentrain(*arguments, f"ckpt={trained.mlp}", f"titles={titles}", f"out={titles}.png")
        assert done.status == 0, done.err
    around("false.png", "true.png")
    assert Path("false.png").stat().st_size < Path("true.png").stat().st_size


@pytest.mark.parametrize(
    ("kind", "y", "words"),
    [
        ("label", torch.tensor([1, 0]), ["dog", "cat"]),
        ("attributes", torch.tensor([[True, True], [False, False]]), ["old, wet", "none"]),
        ("caption", torch.tensor([[2, 1, 0], [3, 0, 0]]), ["two one", "three"]),
    ],
)
def test_what_a_picture_is_drawn_for_in_words(kind: str, y: torch.Tensor, words: list[str]) -> None:
    spec = DataSpec(
        (1, 4, 4),
        classes=2,
        label_names=("cat", "dog"),
        attributes=("old", "wet"),
        vocabulary=("one", "two", "three"),
        caption_length=3,
    )
    model = SimpleNamespace(spec=spec, condition=SimpleNamespace(name=kind))
    assert each_in_words(y, SimpleNamespace(model=model)) == words  # type: ignore[arg-type]

"""Grids of images and files of them: PNG pictures to look at, .npz archives to compute with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from gentrain.errors import UserError
from gentrain.files import check_folder, writing

#: Smallest side of a picture's tile in pixels; smaller images are enlarged by a whole factor.
_TILE = 56
#: Longest side up to which tiles are enlarged, in pixels.
_LONGEST = 8 * _TILE
#: Grey pixels around each tile.
GAP = 2


def to_display(x: Tensor, levels: int) -> Tensor:
    """uint8 [B, C, H, W] in 0 .. levels-1 -> uint8 [B, 3 or 1, H, W] in 0 .. 255, on the CPU."""
    x = x.detach().cpu()
    shown = (x.float() * (255 / (levels - 1))).round().to(torch.uint8)
    return shown if shown.shape[1] in (1, 3) else shown[:, :1]


def grid(x: Tensor, levels: int, columns: int | None = None) -> Tensor:
    """Tile images, row by row.

    Args:
        x: uint8 [B, C, H, W] in 0 .. levels-1.
        levels: grey levels of a pixel.
        columns: images in a row; None: a picture that is as square as can be.

    Returns:
        uint8 [1 or 3, height, width].
    """
    # Not torchvision's make_grid: importing torchvision takes as long as all else that starts a command.
    shown = to_display(x, levels)
    height, width = shown.shape[-2:]
    factor = max(1, min(math.ceil(_TILE / min(height, width)), _LONGEST // max(height, width)))
    shown = shown.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    columns = min(columns or columns_of(len(shown), height, width), len(shown))
    rows = math.ceil(len(shown) / columns)
    tiles = functional.pad(shown, (GAP, 0, GAP, 0), value=128)  # each with its left and upper gap
    blank = tiles.new_full((rows * columns - len(tiles), *tiles.shape[1:]), 128)
    tiles = torch.cat([tiles, blank]).unflatten(0, (rows, columns))  # [rows, columns, C, h, w]
    tiled = tiles.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)  # [C, rows * h, columns * w]
    return functional.pad(tiled, (0, GAP, 0, GAP), value=128)


def columns_of(count: int, height: int, width: int) -> int:
    """How many images of a size stand in a row of a picture that is as square as can be."""
    return min(count, math.ceil(math.sqrt(count * height / width)))


def as_image(picture: Tensor) -> Image.Image:
    """uint8 [1 or 3, height, width] as PIL has it."""
    array = picture.permute(1, 2, 0).numpy()  # [height, width, 1 or 3]
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def draw_png(picture: Tensor, path: Path) -> None:
    """Write uint8 [1 or 3, height, width] to `path` as a PNG, whatever its name.

    Raises:
        OSError: it cannot be written.
    """
    as_image(picture).save(path, format="PNG")


def save_png(picture: Tensor, path: Path) -> None:
    """Write uint8 [1 or 3, height, width] as a PNG; whole or not at all.

    Raises:
        UserError: the place can never be written.
        Fault: the disk is full, or failed.
    """
    with writing(path) as temporary:
        draw_png(picture, temporary)


def save_animation(
    frames: Sequence[Image.Image], path: Path, kind: str, milliseconds: int = 150, last: int = 1000
) -> None:
    """Pictures one after the other, over and over.

    Args:
        frames: at least two, of one size.
        path: where to write, whatever its name.
        kind: GIF or WEBP; both without loss, but for the 256 colours of a GIF.
        milliseconds: that each is shown.
        last: milliseconds that the last is.

    Raises:
        OSError: it cannot be written.
    """
    first, *rest = (frame.convert("RGB") for frame in frames)
    more = {"lossless": True} if kind == "WEBP" else {}
    times = [milliseconds] * len(rest) + [last]
    first.save(path, format=kind, save_all=True, append_images=rest, duration=times, loop=0, **more)


def check_out(out: Path, suffixes: tuple[str, ...]) -> None:
    """Refuse an output file before the work that fills it.

    Raises:
        UserError: another ending than `suffixes`, or a folder that cannot be written.
        Fault: the disk is full.
    """
    if out.suffix not in suffixes:
        raise UserError(f"out={out}: expected a name that ends in {' or '.join(suffixes)}")
    if out.is_dir():
        raise UserError(f"out={out} is a folder; expected a file name")
    check_folder(out.absolute().parent, f"out={out}")


def rows_of_eight(*parts: Tensor) -> Tensor:
    """[B, ...] several times -> rows of eight for `grid`: eight of each part, above their eight of the next.

    With more than eight the last rows are filled up with zeros, so that each stays above its own.
    """
    rows: list[Tensor] = []
    for i in range(0, len(parts[0]), 8):
        for part in parts:
            row = part[i : i + 8]
            gap = 8 - len(row) if len(part) > 8 else 0
            rows += [row, row.new_zeros(gap, *row.shape[1:])]
    return torch.cat(rows)

"""Images that a user names on the command line, made into what a model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.data.archive import is_image, open_archive, read_file
from gentrain.data.decoding import BadImage, decode_with_shape
from gentrain.data.draws import permutation
from gentrain.errors import UserError

_TAKEN = {1: "of colour, taken as grey", 3: "grey, taken as of colour"}
#: Images that are taken from a folder at most.
MOST = 1024


def read_images(path: Path, spec: DataSpec) -> tuple[Tensor, list[str]]:
    """An image file, or every image of a folder or zip in the order of their names.

    Resized to cover the model's size and cropped from the centre, grey or colour as the model is, and
    8-bit pixels rounded to the nearest of its levels.

    Args:
        path: a file or a folder.
        spec: of the model's images.

    Returns:
        uint8 [B, C, H, W] in 0 .. levels-1, and what was changed of the files' images, in lines for the user.

    Raises:
        UserError: nothing there, not an image, or a model of neither grey nor colour images; names `images`.
    """
    channels, height, width = spec.shape
    if channels not in (1, 3):
        raise UserError(f"the model's images have {channels} channels; image files have 1 or 3")
    arrays, shapes = [], []
    for name, read in _files(path):
        try:
            array, shape = decode_with_shape(read(), (height, width), channels)
        except (BadImage, OSError) as error:
            raise UserError(f"{name} cannot be read: {error}") from error
        arrays.append(array)
        shapes.append(shape)
    pixels = np.stack(arrays).astype(np.float32) * ((spec.levels - 1) / 255)
    return torch.from_numpy(np.rint(pixels).astype(np.uint8)), _changes(shapes, spec)


def _changes(shapes: Sequence[tuple[int, int, int]], spec: DataSpec) -> list[str]:
    """What becomes of images of these (C, H, W) to be as the model's are: nothing, or a line or two."""
    channels, height, width = spec.shape
    lines = []
    if resized := [shape for shape in shapes if shape[1:] != (height, width)]:
        cropped = sum(h * width != w * height for _, h, w in resized)
        lines.append(
            f"images: {len(resized)} of {len(shapes)} resized to {width}x{height} pixels, the first from "
            f"{resized[0][2]}x{resized[0][1]}"
            + (f"; {cropped} of them cropped to the middle" if cropped else "")
        )
    if others := sum(shape[0] != channels for shape in shapes):
        lines.append(f"images: {others} of {len(shapes)} {_TAKEN[channels]}")
    return lines


def drawn_images(path: Path, key: str, n: int, *seed: int | str) -> list[tuple[str, bytes]]:
    """`n` image files of a folder or zip, drawn from `seed` without looking: their names and bytes.

    Args:
        path: a folder or a zip.
        key: what messages call it.
        n: how many, each another.
        seed: of the draw.

    Raises:
        UserError: no folder, fewer images than `n`, or one that cannot be read.
    """
    if not path.exists():
        raise UserError(f"{key}={path}: there is no such folder")
    with open_archive(path, key) as archive:
        files = [file for file in archive.files if is_image(file.name)]
        if len(files) < n:
            raise UserError(f"{key}={path} holds {len(files):,} images, and {n:,} are wanted")
        found = []
        for number in permutation(len(files), *seed)[:n].tolist():
            name = files[number].name
            try:
                found.append((f"{key}={path}: {archive.path(name)}", archive.read(name)))
            except (BadImage, OSError) as error:
                raise UserError(f"{key}={path}: {name} cannot be read: {error}") from error
    return found


def _files(path: Path) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """What to call each image file in a message, and how to read it."""
    if not path.is_dir() and path.suffix.lower() != ".zip":
        yield f"images={path}", partial(read_file, path)
        return
    with open_archive(path, "images") as archive:
        files = [file for file in archive.files if is_image(file.name)]
        if not files:
            raise UserError(f"images={path} holds no image (.png, .jpg, ...)")
        if len(files) > MOST:
            raise UserError(f"images={path} holds {len(files):,} images; at most {MOST:,} are taken")
        for file in files:
            yield f"images={path}: {archive.path(file.name)}", partial(archive.read, file.name)

"""A page: one HTML file from a template, with its pictures inside."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from torch import Tensor

from gentrain import __version__
from gentrain.errors import UserError

#: Bytes that a page may have: more is slow to open, and mail refuses it.
LARGEST = 25_000_000


def rendered(template: str, **values: Any) -> str:
    """The page that `template` (its name without .html.jinja) makes of `values`, which are escaped."""
    environment = Environment(
        loader=PackageLoader("gentrain.pages", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(f"{template}.html.jinja").render(version=__version__, **values)


def check_size(page: str, remedy: Callable[[float], str]) -> None:
    """Refuse a page that is too large to be opened or sent.

    Args:
        page: its text.
        remedy: what to type for one of so many times its size, below 1.

    Raises:
        UserError: it is above `LARGEST` bytes.
    """
    size = len(page.encode("utf-8", "surrogatepass"))
    if size > LARGEST:
        found = f"the page would be {size / 1e6:.0f} MB, more than {LARGEST // 10**6} MB"
        raise UserError(f"{found}; {remedy(LARGEST / size)}")


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """A file as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def sheet(tiles: Sequence[Tensor]) -> tuple[bytes, int]:
    """Pictures of one size side by side without gaps, as one PNG.

    Args:
        tiles: uint8 [1 or 3, H, W] each, in 0 .. 255; grey ones are made colour beside colour ones.

    Returns:
        The PNG, and how many pictures are in a row.
    """
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    colour = max(len(tile) for tile in tiles)
    _, height, width = tiles[0].shape
    picture = np.zeros((rows * height, columns * width, colour), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height, number % columns * width
        array = tile.permute(1, 2, 0).numpy()  # [H, W, 1 or 3]
        picture[top : top + height, left : left + width] = array
    file = io.BytesIO()
    Image.fromarray(picture[..., 0] if colour == 1 else picture).save(file, format="PNG", optimize=True)
    return file.getvalue(), columns

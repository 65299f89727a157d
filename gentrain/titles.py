"""Words around a sheet of pictures: a title, names of its rows and columns; in a size that prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

#: Pixels that a titled sheet is wide at least: 300 for each of 5.3 inches, a column of a page.
WIDE = 1600
#: Pixels of a letter, 11.5 points at that size, and of a word that had to be made smaller.
_LETTER, _SMALLEST = 48, 20
_PAD = 20


@dataclass(frozen=True)
class Labels:
    """What stands around a sheet.

    title: above all. rows: one name for each row of equal height, or none. columns: one for each column of
    equal width, or none.
    """

    title: str = ""
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()


def titled(picture: Tensor, labels: Labels) -> Tensor:
    """The picture, enlarged by a whole factor so that it prints, on white with words around it.

    Every pixel of it is there, as a square of equal pixels.

    Args:
        picture: uint8 [1 or 3, height, width].
        labels: what to write.

    Returns:
        uint8 [1 or 3, height', width'].
    """
    factor = max(1, -(-WIDE // picture.shape[-1]))
    large = picture.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    channels, height, width = large.shape
    rows, columns = ([" ".join(word.split()) for word in words] for words in (labels.rows, labels.columns))
    left = max((_font(_LETTER).getlength(word) for word in rows), default=0)
    left = min(round(left), WIDE // 3) + (2 * _PAD if rows else _PAD)
    above = [_LETTER + 2 * _PAD] * bool(labels.title) + [_LETTER + _PAD] * bool(columns)
    top = sum(above) or _PAD
    sheet = Image.new("L", (left + width + _PAD, top + height + _PAD), 255)
    draw = ImageDraw.Draw(sheet)
    if labels.title:
        _write(draw, labels.title, (left, _PAD), "la", width)
    for number, word in enumerate(columns):
        middle = left + (number + 0.5) * width / len(columns)
        _write(draw, word, (middle, top - _PAD // 2), "md", width / len(columns) - _PAD // 2)
    for number, word in enumerate(rows):
        middle = top + (number + 0.5) * height / len(rows)
        _write(draw, word, (left - _PAD, middle), "rm", left - 2 * _PAD, height / len(rows))
    words = torch.from_numpy(np.array(sheet))  # [height', width']
    whole = words.expand(channels, *words.shape).clone()
    whole[:, top : top + height, left : left + width] = large
    return whole


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, it is Pillow's own outline font
    return font


def _write(
    draw: ImageDraw.ImageDraw,
    word: str,
    place: tuple[float, float],
    anchor: str,
    room: float,
    tall: float = _LETTER,
) -> None:
    """A word at `place`, smaller where it is wider than `room` or not so `tall`, cut where it still is."""
    size = min(_LETTER, tall) * min(1.0, room / max(1.0, _font(_LETTER).getlength(word)))
    font = _font(max(size, min(_SMALLEST, tall)))
    while len(word) > 1 and font.getlength(word) > room:
        word = word[:-2] + "…"
    draw.text(place, word, fill=0, font=font, anchor=anchor)

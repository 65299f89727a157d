"""Words around a sheet of pictures: a title, names of its rows and columns; in a size that prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from gentrain.images import GAP

#: Pixels that a titled sheet is wide at least: 300 for each of 5.3 inches, a column of a page.
WIDE = 1600
#: Pixels of a letter, 11.5 points at that size, and of a word that had to be made smaller.
_LETTER, _SMALLEST = 48, 20
_PAD = 20
#: Pixels of a letter below a picture of a grid, how wide such a picture is at least, and the most lines.
_CAPTION, _ROOM, _LINES = 28, 160, 6


@dataclass(frozen=True)
class Labels:
    """What stands around a sheet.

    title: above all. rows: one name for each row of equal height, or none. columns: one for each column of
    equal width, or none. under: what stands below each picture of a grid (`images.grid`) of `across` in a
    row, or none; several lines where it is long.
    """

    title: str = ""
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    under: Sequence[str] = ()
    across: int = 1


def titled(picture: Tensor, labels: Labels) -> Tensor:
    """The picture, enlarged by a whole factor so that it prints, on white with words around it.

    Every pixel of it is there, as a square of equal pixels; rows lie apart where something stands below each.

    Args:
        picture: uint8 [1 or 3, height, width].
        labels: what to write.

    Returns:
        uint8 [1 or 3, height', width'].
    """
    wide = max(WIDE, _ROOM * labels.across) if labels.under else WIDE
    factor = max(1, -(-wide // picture.shape[-1]))
    large = picture.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    if labels.under:
        large = _apart(large, factor * GAP, labels)
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


def _apart(large: Tensor, gap: int, labels: Labels) -> Tensor:
    """A grid whose rows lie apart, with the words of each picture below it.

    Args:
        large: uint8 [1 or 3, height, width], with `gap` pixels around each picture.
        gap: as it is here.
        labels: with `under` and `across`.

    Returns:
        uint8 [1 or 3, height', width].
    """
    channels, height, width = large.shape
    across, rows = labels.across, -(-len(labels.under) // labels.across)
    tile, room = (height - gap) // rows, width / across - _PAD
    font = _font(_CAPTION)
    under = [_lines(" ".join(words.split()), font, room) for words in labels.under]
    parts = []
    for row in range(rows):
        words = under[row * across : (row + 1) * across]
        tall = max(len(lines) for lines in words) * (_CAPTION + 4) + _PAD
        strip = Image.new("L", (width, tall), 255)
        draw = ImageDraw.Draw(strip)
        for number, lines in enumerate(words):
            middle = (number + 0.5) * width / across
            for line, part in enumerate(lines):
                draw.text((middle, 4 + line * (_CAPTION + 4)), part, fill=0, font=font, anchor="ma")
        written = torch.from_numpy(np.array(strip))
        parts += [large[:, row * tile : (row + 1) * tile + gap], written.expand(channels, -1, -1)]
    return torch.cat(parts, 1)


def _lines(words: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Words in lines that are no wider than `room`; of too many lines the last ends in an ellipsis."""
    lines: list[str] = []
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(_cut(word, font, room))
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], _cut(f"{lines[_LINES - 1]} …", font, room)]
    return lines


def _cut(word: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """As much of a word as has room."""
    while len(word) > 1 and font.getlength(word) > room:
        word = word[:-2] + "…"
    return word


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
    draw.text(place, _cut(word, font, room), fill=0, font=font, anchor=anchor)

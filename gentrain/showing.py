"""What a model makes as a picture, by its medium: images as a grid, sounds as waveforms and spectrograms."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from gentrain import images, sounds
from gentrain.contracts import DataSpec


def sheet(x: Tensor, spec: DataSpec, columns: int | None = None) -> Tensor:
    """Several of them as one picture, row by row.

    Args:
        x: uint8 [B, C, H, W] in 0 .. levels-1.
        spec: what they are.
        columns: how many in a row; None: as the medium looks best.

    Returns:
        uint8 [1 or 3, height, width].
    """
    if spec.sample_rate is not None:
        return sounds.sheet(x, spec, columns)
    return images.grid(x, spec.levels, columns)


def rows_beside(rows: Iterable[tuple[Tensor, DataSpec]]) -> Tensor:
    """Rows of images of several kinds, grey or colour, of one size or not, above one another.

    Args:
        rows: uint8 [B, C, H, W] and what they are, as many in each.

    Returns:
        uint8 [1 or 3, height, width]; eight to a row, those of one number below one another.
    """
    shown = [images.to_display(x, spec.levels) for x, spec in rows]
    colours = max(x.shape[1] for x in shown)
    height, width = (max(x.shape[side] for x in shown) for side in (2, 3))
    same = [_enlarged(x.expand(-1, colours, -1, -1), height, width) for x in shown]
    return images.grid(images.rows_of_eight(*same), 256, columns=min(8, len(same[0])))


def _enlarged(x: Tensor, height: int, width: int) -> Tensor:
    """Images, uint8 [B, C, h, w], by repeating pixels: [B, C, height, width]."""
    down = torch.arange(height) * x.shape[2] // height
    across = torch.arange(width) * x.shape[3] // width
    return x[:, :, down][..., across]

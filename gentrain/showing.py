"""What a model makes as a picture, by its medium: images as a grid, sounds as waveforms and spectrograms."""

from __future__ import annotations

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

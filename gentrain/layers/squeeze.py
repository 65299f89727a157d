"""Trading resolution for channels.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
"""

from __future__ import annotations

from torch import Tensor

from gentrain.layers.transform import Transform


class Squeeze(Transform):
    """Each 2x2 block of pixels becomes four channels, [1] section 3.6.

    [B, C, H, W] -> [B, 4 C, H / 2, W / 2] for even H and W; values are only moved, so the determinant is 1.
    """

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> ([B, 4 C, H / 2, W / 2], zeros [B])."""
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        return blocks.reshape(batch, 4 * channels, height // 2, width // 2), x.new_zeros(batch)

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """y [B, 4 C, H / 2, W / 2] -> [B, C, H, W]."""
        batch, channels, height, width = y.shape
        blocks = y.reshape(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(batch, channels // 4, 2 * height, 2 * width)

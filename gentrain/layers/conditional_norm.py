"""Batch normalisation whose gain and shift may depend on what is given of an image.

[1] de Vries et al. 2017, "Modulating early visual processing by language", arXiv:1707.00683, section 4.
[2] Miyato & Koyama 2018, "cGANs with Projection Discriminator", arXiv:1802.05637.
[3] Brock et al. 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis", arXiv:1809.11096.
"""

from __future__ import annotations

from torch import Tensor, nn

from gentrain.layers.spectral import normalised


class BatchNorm(nn.BatchNorm2d):
    """torch's, which is given a condition and does not look at it."""

    def forward(self, input: Tensor, c: Tensor | None = None) -> Tensor:
        """[B, F, H, W] -> the same shape."""
        return super().forward(input)


class ConditionalBatchNorm(nn.BatchNorm2d):
    """gain 1 + U c and shift V c for each map [1]: where c is 0 it is the plain one.

    U and V start at zero, so that at first every class has gain 1 and shift 0. Where their own spectral norm
    is to be taken [3] they cannot: they start orthogonal, and gains lie around 1 for c around 0.

    Args:
        maps: F.
        known: Y, numbers that are known of an image.
        spectral: whether U and V are spectrally normalised.
    """

    def __init__(self, maps: int, known: int, spectral: bool = False) -> None:
        super().__init__(maps, affine=False)
        self.gain, self.shift = (self._of(known, maps, spectral) for _ in range(2))

    @staticmethod
    def _of(known: int, maps: int, spectral: bool) -> nn.Module:
        layer = nn.Linear(known, maps, bias=False)
        if spectral:
            nn.init.orthogonal_(layer.weight)
        else:
            nn.init.zeros_(layer.weight)
        return normalised(layer, spectral)

    def forward(self, input: Tensor, c: Tensor | None = None) -> Tensor:
        """[B, F, H, W], c [B, Y] -> [B, F, H, W]."""
        assert c is not None
        y = super().forward(input)
        gain, shift = 1 + self.gain(c), self.shift(c)
        return y * gain[:, :, None, None] + shift[:, :, None, None]

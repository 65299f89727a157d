"""The mu-law: 256 levels of a waveform, fine where it is quiet (ITU-T G.711's curve, without its bit layout).

van den Oord et al. 2016, "WaveNet", arXiv:1609.03499, section 2.2: f(x) = sign(x) ln(1 + mu |x|) / ln(1 +
mu), -1 < x < 1, mu = 255, and 256 levels of f.
"""

from __future__ import annotations

import numpy as np

#: Levels of a sample.
LEVELS = 256
_MU = LEVELS - 1


def compressed(wave: np.ndarray) -> np.ndarray:
    """Amplitudes float32 [...] in [-1, 1], beyond it cut -> levels uint8 [...], the nearest of f."""
    wave = np.clip(wave, -1, 1)
    f = np.sign(wave) * np.log1p(_MU * np.abs(wave)) / np.log1p(_MU)
    return np.floor((f + 1) / 2 * _MU + 0.5).astype(np.uint8)


def expanded(levels: np.ndarray) -> np.ndarray:
    """Levels uint8 [...] -> amplitudes float32 [...] in [-1, 1]: `compressed` of them is `levels` again."""
    f = levels.astype(np.float32) * (2 / _MU) - 1
    return (np.sign(f) * np.expm1(np.abs(f) * np.log1p(_MU)) / _MU).astype(np.float32)

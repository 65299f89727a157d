"""Sounds to look at and to hear: a sheet of waveforms above their spectrograms, and WAV files."""

from __future__ import annotations

import io
import math
import wave
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.data.mu_law import expanded

#: Pixels of a sound in a sheet.
WIDTH, WAVE_HEIGHT, SPECTROGRAM_HEIGHT = 480, 60, 128
_GAP = 4  # grey pixels around each sound
_BETWEEN = 0.25  # seconds of silence between the sounds of one file
_FRAME = 0.032  # seconds of the window of a spectrogram
_RANGE = 80.0  # decibels below the loudest that are still seen
_INK, _PAPER, _GREY = 30, 250, 128


def waveforms(x: Tensor, spec: DataSpec) -> Tensor:
    """uint8 [B, 1, 1, T] -> amplitudes float32 [B, T'] in [-1, 1], on the CPU, without the context."""
    levels = x[:, 0, 0, spec.context or 0 :].cpu().numpy()
    return torch.from_numpy(expanded(levels))


def sheet(x: Tensor, spec: DataSpec, columns: int | None = None) -> Tensor:
    """Each sound as its waveform above its spectrogram, row by row.

    A spectrogram shows the power of frequencies from 0, at the bottom, to half the rate, on a scale of
    decibels below its own loudest.

    Args:
        x: uint8 [B, 1, 1, T].
        spec: of the sounds.
        columns: sounds in a row; None: two, or one where there is one.

    Returns:
        uint8 [1, height, width].
    """
    columns = min(columns or 2, len(x))
    tiles = [_tile(one, spec.sample_rate or 1) for one in waveforms(x, spec)]
    tiles += [torch.full_like(tiles[0], _GREY)] * (-len(tiles) % columns)
    padded = [F.pad(tile, (_GAP, 0, _GAP, 0), value=_GREY) for tile in tiles]
    rows = [torch.cat(padded[i : i + columns], 1) for i in range(0, len(padded), columns)]
    return F.pad(torch.cat(rows), (0, _GAP, 0, _GAP), value=_GREY)[None]


def _tile(one: Tensor, rate: int) -> Tensor:
    """[T] -> uint8 [height, WIDTH]."""
    return torch.cat([_waveform(one), _spectrogram(one, rate)])


def _waveform(one: Tensor) -> Tensor:
    """[T] -> uint8 [WAVE_HEIGHT, WIDTH]: in each column from the lowest to the highest amplitude."""
    middle = (WAVE_HEIGHT - 1) / 2
    rows = torch.arange(WAVE_HEIGHT)[:, None]
    # Of few samples each is several columns wide.
    columns = (torch.arange(WIDTH + 1) * len(one)) // WIDTH
    pieces = [one[a : max(b, a + 1)] for a, b in pairwise(columns.tolist())]
    lowest, highest = (torch.stack([f(piece) for piece in pieces]) for f in (torch.min, torch.max))
    top, bottom = (middle * (1 - edge) for edge in (highest, lowest))
    inside = (rows >= top.floor()) & (rows <= bottom.ceil())
    return torch.where(inside, _INK, _PAPER).to(torch.uint8)


def _spectrogram(one: Tensor, rate: int) -> Tensor:
    """[T] -> uint8 [SPECTROGRAM_HEIGHT, WIDTH], dark where it is loud."""
    size = max(16, 2 ** round(math.log2(_FRAME * rate)))
    one = F.pad(one, (0, max(0, size - len(one))))
    hop = max(1, min(size // 4, len(one) // WIDTH))
    spectrum = torch.stft(one, size, hop, window=torch.hann_window(size), center=False, return_complex=True)
    decibels = 20 * spectrum.abs().clamp_min(1e-7).log10()  # [size / 2 + 1, frames]
    shown = (decibels - decibels.max() + _RANGE).clamp_min(0) / _RANGE  # 0 .. 1
    tile = F.interpolate(
        shown.flip(0)[None, None], (SPECTROGRAM_HEIGHT, WIDTH), mode="bilinear", antialias=True
    )[0, 0]
    return (_PAPER + (_INK - _PAPER) * tile.clamp(0, 1)).round().to(torch.uint8)


def wav(x: Tensor, spec: DataSpec) -> bytes:
    """A WAV file of 16 bits: the sounds uint8 [B, 1, 1, T] one after the other, a quarter second between."""
    rate = spec.sample_rate or 1
    pause = np.zeros(round(_BETWEEN * rate), np.float32)
    pieces = [part for one in waveforms(x, spec).numpy() for part in (pause, one)][1:]
    samples = np.rint(np.concatenate(pieces) * (2**15 - 1)).astype("<i2")
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return content.getvalue()

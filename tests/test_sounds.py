"""Sounds to look at and to hear."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from waves import tone

from gentrain import sounds
from gentrain.contracts import DataSpec
from gentrain.data.mu_law import compressed, expanded
from gentrain.showing import sheet

SPEC = DataSpec((1, 1, 4100), sample_rate=8000, context=100)


def heard(*waves: np.ndarray) -> torch.Tensor:
    """uint8 [B, 1, 1, 4100], silence first."""
    return torch.from_numpy(np.stack([compressed(np.concatenate([np.zeros(100), w])) for w in waves]))[
        :, None, None
    ]


def test_a_wav_holds_the_sounds_one_after_the_other() -> None:
    x = heard(tone(4000), tone(4000, 900))
    rate, samples = wavfile.read(io.BytesIO(sounds.wav(x, SPEC)))
    assert (rate, samples.dtype, len(samples)) == (8000, np.int16, 4000 + 2000 + 4000)
    levels = expanded(x.numpy()[:, 0, 0, 100:])
    np.testing.assert_allclose(samples[:4000] / 32767, levels[0], atol=1e-4)
    np.testing.assert_allclose(samples[6000:] / 32767, levels[1], atol=1e-4)
    assert not samples[4000:6000].any()
    with wave.open(io.BytesIO(sounds.wav(x, SPEC))) as file:
        assert file.getnchannels() == 1


@pytest.mark.parametrize("hertz", [500, 3000])
def test_a_spectrogram_is_darkest_at_the_tone(hertz: float) -> None:
    picture = sheet(heard(tone(4000, hertz)), SPEC)[0].float()
    tile = picture[4 + sounds.WAVE_HEIGHT : -4, 4:-4]
    assert tile.shape == (sounds.SPECTROGRAM_HEIGHT, sounds.WIDTH)
    row = int(tile.mean(1).argmin())
    assert (sounds.SPECTROGRAM_HEIGHT - row) / sounds.SPECTROGRAM_HEIGHT * 4000 == pytest.approx(
        hertz, abs=60
    )


def test_a_waveform_shows_how_loud_it_is() -> None:
    def ink(loud: float) -> int:
        return int(
            (sheet(heard(tone(4000, loud=loud)), SPEC)[0, 4 : 4 + sounds.WAVE_HEIGHT, 4:-4] < 100).sum()
        )

    assert ink(0.8) > 3 * ink(0.2) > 0


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, None, 1), (3, None, 2), (5, 5, 1)])
def test_sheets_of_several(count: int, columns: int | None, rows: int) -> None:
    picture = sheet(heard(*[tone(4000)] * count), SPEC, columns)
    height = sounds.WAVE_HEIGHT + sounds.SPECTROGRAM_HEIGHT + 4
    across = min(columns or 2, count)
    assert picture.dtype == torch.uint8
    assert picture.shape == (1, rows * height + 4, across * (sounds.WIDTH + 4) + 4)


@pytest.mark.parametrize("length", [1, 7, 300])
def test_short_sounds_can_be_shown(length: int) -> None:
    spec = DataSpec((1, 1, length), sample_rate=8000, context=0)
    assert sheet(torch.full((2, 1, 1, length), 128, dtype=torch.uint8), spec).shape[0] == 1

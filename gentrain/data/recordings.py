"""From the bytes of a recording to its waveform: WAV by NumPy, other kinds by the package soundfile."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Endings of the files that count as recordings, in lower case.
WAV = frozenset({".wav", ".wave"})
OTHERS = frozenset({".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})
EXTENSIONS = WAV | OTHERS
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = 0xFFFFFFFF  # a length that a program did not know when it began to write
_BLOCK = 1 << 20  # samples of all channels that are converted at once


def is_recording(name: str) -> bool:
    """Whether a file counts as a recording, by the ending of its name."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


class BadRecording(Exception):
    """A file that cannot be decoded; says why in one line."""


@dataclass(frozen=True)
class Recording:
    """A recording that has been opened.

    rate: samples in a second; channels: how many; samples: of each channel.
    """

    rate: int
    channels: int
    samples: int
    _content: Any  # of a WAV the samples' bytes, else a file of soundfile
    _kind: tuple[int, int] | None  # of a WAV its format and bytes of a sample

    def blocks(self) -> Iterator[np.ndarray]:
        """The waveform, channels mixed into one by their mean, piece by piece: float32 [n] in [-1, 1]."""
        frames = max(1, _BLOCK // self.channels)
        for start in range(0, self.samples, frames):
            count = min(frames, self.samples - start)
            if self._kind is None:
                wave = self._content.read(count, dtype="float32", always_2d=True)  # [n, channels]
            else:
                width = self._kind[1] * self.channels
                raw = self._content[start * width : (start + count) * width]
                wave = _amplitudes(raw, *self._kind).reshape(count, self.channels)
            if not np.isfinite(wave).all():
                raise BadRecording("it holds samples that are no numbers")
            yield wave[:, 0] if self.channels == 1 else wave.mean(axis=1)


def open_recording(name: str, content: bytes) -> Recording:
    """The recording in the `content` of a file.

    Args:
        name: of the file, whose ending says what it is.
        content: its bytes.

    Raises:
        BadRecording: empty, truncated, of a kind that is not read, or without the package that reads it.
    """
    if not content:
        raise BadRecording("the file is empty")
    if os.path.splitext(name)[1].lower() not in WAV:
        return _by_soundfile(content)
    return _wav(content)


def _wav(content: bytes) -> Recording:
    if content[:4] == b"RIFX":
        raise BadRecording("its samples are big-endian (RIFX), which is not read; convert it: sox IN OUT.wav")
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise BadRecording("it is no WAV file")
    kind: tuple[int, int, int, int] | None = None  # format, channels, rate, bytes of a sample
    place = 12
    while place + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, place)
        body = place + 8
        if name == b"fmt ":
            kind = _format(content[body : body + size])
        if name == b"data":
            if kind is None:
                raise BadRecording("it is damaged: samples come before their format")
            return _samples(content, body, size, *kind)
        place = body + size + size % 2
    raise BadRecording("it is truncated: it ends before its samples")


def _format(chunk: bytes) -> tuple[int, int, int, int]:
    """(format, channels, rate, bytes of a sample)."""
    if len(chunk) < 16:
        raise BadRecording("it is truncated: it ends within its header")
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if code == _EXTENSIBLE and len(chunk) >= 26:
        (code,) = struct.unpack_from("<H", chunk, 24)
    good = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
    if bits not in good.get(code, ()):
        raise BadRecording(
            f"its samples are of {bits} bits in format {code}, which is not read; expected PCM of 8, 16, 24 "
            "or 32 bits, or float: sox IN -b 16 OUT.wav"
        )
    if not channels or not 1 <= rate <= 1_000_000:
        raise BadRecording(f"its header is damaged: {channels} channels, {rate} samples a second")
    return code, channels, rate, bits // 8


def _samples(
    content: bytes, start: int, size: int, code: int, channels: int, rate: int, width: int
) -> Recording:
    there = len(content) - start
    if size == _UNKNOWN or (size == 0 and there):
        size = there
    count = size // (width * channels)
    if size > there:
        has = there // (width * channels)
        raise BadRecording(f"it is truncated: its header says {count:,} samples, found {has:,}")
    if not count:
        raise BadRecording("it has no samples")
    view = memoryview(content)[start : start + count * width * channels]
    return Recording(rate, channels, count, view, (code, width))


def _amplitudes(raw: Any, code: int, width: int) -> np.ndarray:
    """Little-endian samples -> float32 [n] in [-1, 1]."""
    if code == _FLOAT:
        return np.frombuffer(raw, f"<f{width}").astype(np.float32)
    if width == 1:  # the only one without a sign
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:
        three = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three
        return four.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(raw, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)


def _by_soundfile(content: bytes) -> Recording:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise BadRecording("only WAV is read without soundfile: pip install 'gentrain[audio]'") from error
    try:
        file = soundfile.SoundFile(io.BytesIO(content))
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise BadRecording(str(error).splitlines()[0]) from error
    if not file.frames:
        raise BadRecording("it has no samples")
    return Recording(file.samplerate, file.channels, file.frames, file, None)

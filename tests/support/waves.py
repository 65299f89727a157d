"""WAV files that tests make: tones, in any of the kinds that programs write."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def tone(samples: int, hertz: float = 440.0, rate: int = 8000, loud: float = 0.5) -> np.ndarray:
    """float64 [samples] in [-1, 1]."""
    return loud * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)


def wav(
    wave: np.ndarray, rate: int = 8000, bits: int = 16, floats: bool = False, extensible: bool = False
) -> bytes:
    """A file of a waveform [n] or [n, channels] in [-1, 1]."""
    wave = np.atleast_2d(wave.T).T
    if floats:
        body = wave.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        body = np.rint(wave * 127 + 128).astype(np.uint8).tobytes()
    else:
        whole = np.rint(wave * (2 ** (bits - 1) - 1)).astype("<i4")
        body = whole.view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()
    channels, width = wave.shape[1], bits // 8
    code = 3 if floats else 1
    kind = struct.pack("<HHIIHH", 0xFFFE if extensible else code, channels, rate, rate * channels * width,
                       channels * width, bits)  # fmt: skip
    if extensible:
        kind += struct.pack("<HHIH", 22, bits, 0, code) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    chunks = [(b"fmt ", kind), (b"LIST", b"odd"), (b"data", body)]
    content = b"WAVE" + b"".join(
        name + struct.pack("<I", len(chunk)) + chunk + b"\0" * (len(chunk) % 2) for name, chunk in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def written(root: Path, files: Mapping[str, bytes]) -> Path:
    """The files in the folder `root`, or in the zip of that name."""
    if root.suffix == ".zip":
        with zipfile.ZipFile(root, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return root
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root

"""Recordings as data: what is read, where crops lie, and what is refused."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from running import environment
from scipy.io import wavfile
from waves import tone, wav, written

from gentrain.data import recordings
from gentrain.data.audio import Audio
from gentrain.data.batches import Batches, images_at, in_order
from gentrain.data.mu_law import compressed, expanded
from gentrain.data.recordings import BadRecording, open_recording
from gentrain.data.tape import Tape, cut_up
from gentrain.errors import UserError

CPU = torch.device("cpu")
Load = Callable[..., Any]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load(root, ...)` of crops of 100 samples after 20."""

    def call(root: Path, **settings: Any) -> Any:
        usual = {"length": 100, "context": 20, "sample_rate": None, "on_error": "raise", "test_fraction": 0.2}
        shared = {"cache": str(tmp_path / "cache"), "validation": 0, "split_seed": 0, "license": None}
        return Audio(root=str(root), **usual | shared | settings).load()

    return call


# The mu-law


def test_the_mu_law_is_that_of_the_paper_and_inverts() -> None:
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(compressed(expanded(levels)), levels)
    x = np.linspace(-1.2, 1.2, 1001)
    f = np.sign(x) * np.log(1 + 255 * np.abs(np.clip(x, -1, 1))) / np.log(256)
    assert np.array_equal(compressed(x), np.floor((f + 1) / 2 * 255 + 0.5))
    assert (np.diff(compressed(x).astype(int)) >= 0).all()
    assert abs(expanded(compressed(np.zeros(1)))[0]) < 1e-4, "silence stays"


# WAV


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("extensible", [False, True])
def test_pcm_is_read_as_other_libraries_read_it(bits: int, extensible: bool) -> None:
    wave_ = np.stack([tone(501), tone(501, 700, loud=0.9)], 1)
    content = wav(wave_, 11025, bits, extensible=extensible)
    found = open_recording("a.WAV", content)
    assert (found.rate, found.channels, found.samples) == (11025, 2, 501)
    mine = np.concatenate(list(found.blocks()))
    rate, theirs = wavfile.read(io.BytesIO(content))
    scale = {8: 128, 16: 2**15, 24: 2**31, 32: 2**31}[bits]
    theirs = (theirs.astype(np.float64) - (128 if bits == 8 else 0)) / scale
    assert rate == 11025
    np.testing.assert_allclose(mine, theirs.mean(1), atol=1e-6)
    np.testing.assert_allclose(mine, wave_.mean(1), atol=0.01)


@pytest.mark.parametrize("bits", [32, 64])
def test_floats_are_read(bits: int) -> None:
    (found,) = open_recording("a.wav", wav(tone(300), bits=bits, floats=True)).blocks()
    np.testing.assert_allclose(found, tone(300), atol=1e-6)


def test_flac_and_ogg_are_read_where_soundfile_is(monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile = pytest.importorskip("soundfile")
    for kind, near in (("FLAC", 1e-4), ("OGG", 0.05)):
        file = io.BytesIO()
        soundfile.write(file, tone(4000), 8000, format=kind)
        found = open_recording(f"a.{kind.lower()}", file.getvalue())
        assert (found.rate, found.samples) == (8000, 4000)
        np.testing.assert_allclose(np.concatenate(list(found.blocks())), tone(4000), atol=near)
    with pytest.raises(BadRecording):
        open_recording("a.flac", b"no flac")
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(BadRecording, match=r"gentrain\[audio\]"):
        open_recording("a.flac", file.getvalue())


def test_long_recordings_come_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(open_recording("a.wav", wav(tone(1000))).blocks()))
    monkeypatch.setattr(recordings, "_BLOCK", 64)
    blocks = list(open_recording("a.wav", wav(tone(1000))).blocks())
    assert max(map(len, blocks)) == 64
    assert np.array_equal(np.concatenate(blocks), whole)


GOOD = wav(tone(500))
BAD = {
    "empty": (b"", "the file is empty"),
    "cut off": (GOOD[:-400], r"truncated: its header says 500 samples, found 300"),
    "cut off early": (GOOD[:40], "truncated: it ends before its samples"),
    "no samples": (wav(np.zeros(0)), "it has no samples"),
    "big-endian": (b"RIFX" + GOOD[4:], "big-endian"),
    "no WAV": (b"ID3" + GOOD, "it is no WAV file"),
    "12 bits": (GOOD.replace(struct.pack("<HH", 2, 16), struct.pack("<HH", 2, 12)), "of 12 bits in format 1"),
    "a codec": (GOOD.replace(b"fmt \x10\0\0\0\x01\0", b"fmt \x10\0\0\0\x06\0"), "in format 6, which is not"),
    "no channel": (GOOD.replace(b"\x01\0\x01\0", b"\x01\0\0\0"), "header is damaged: 0 channels"),
    "not a number": (wav(np.full(9, np.nan), bits=32, floats=True), "samples that are no numbers"),
}


@pytest.mark.parametrize("why", BAD)
def test_bad_recordings_are_named_or_skipped(why: str, tmp_path: Path, load: Load) -> None:
    content, reason = BAD[why]
    with pytest.raises(BadRecording, match=reason):
        list(open_recording("a.wav", content).blocks())
    files = {f"{i}.wav": wav(tone(300)) for i in range(5)}
    root = written(tmp_path / "r", {**files, "bad.wav": content})
    with pytest.raises(UserError, match=rf"bad\.wav cannot be decoded: .*{reason}.*on_error=skip"):
        load(root)
    data = load(root, on_error="skip")
    assert any("1 recordings skipped, as they cannot be decoded: bad.wav" in line for line in data.notes)
    assert sum(split.images.starts.max() + 100 for split in (data.train, data.test)) == 1500


@given(cut=st.integers(0, len(GOOD)), flip=st.integers(0, 99), to=st.integers(0, 255))
def test_damage_is_one_kind_of_error(cut: int, flip: int, to: int) -> None:
    content = bytearray(GOOD)
    content[flip] = to
    try:
        for block in open_recording("a.wav", bytes(content[:cut])).blocks():
            assert np.isfinite(block).all()
    except BadRecording:
        pass


# Where crops lie


def numbers(split: Any) -> np.ndarray:
    """Of a split whose samples are a counter, the crops [N, T]."""
    return split.images.at(np.arange(len(split))).numpy()[:, 0, 0]


@pytest.mark.parametrize("kind", ["folder", "x.zip"])
def test_crops_cover_every_sample_after_its_context(kind: str, tmp_path: Path, load: Load) -> None:
    rng = np.random.default_rng(0)
    waves = {f"test/{i}.wav": rng.uniform(-1, 1, 130 + 40 * i) for i in range(4)}
    files = {name: wav(w, bits=32, floats=True) for name, w in waves.items()}
    root = written(
        tmp_path / kind, {**files, "train/a.wav": GOOD, "train/b.wav": GOOD, "train/notes.txt": b"-"}
    )
    data = load(root)
    tape = np.concatenate([compressed(w.astype(np.float32)) for w in waves.values()])
    assert np.array_equal(data.test.images.samples, tape)
    assert len(data.test) == -(-len(tape) // 100)
    padded = np.concatenate([np.full(20, 128, np.uint8), tape])
    starts = np.minimum(np.arange(len(data.test)) * 100, len(tape) - 100)
    assert np.array_equal(numbers(data.test), np.stack([padded[s : s + 120] for s in starts]))
    assert data.spec.shape == (1, 1, 120)
    assert (data.spec.sample_rate, data.spec.context, data.spec.counted) == (8000, 20, 100)
    whole = torch.cat([b.x for b in in_order(data, data.test, batch_size=3, device=CPU, seed=0)])
    assert np.array_equal(whole.numpy()[:, 0, 0], numbers(data.test))
    assert torch.equal(images_at(data, data.test, [2, 0], 0).x, whole[[2, 0]])
    assert "recordings: train 2 (0.0 min), test 4 (0.0 min)" in data.describe()


def test_classes_are_labels_and_crops_stay_within_theirs(tmp_path: Path, load: Load) -> None:
    files = {
        f"{part}/{word}/{i}.wav": wav(np.full(250 + 30 * i, value))
        for part in ("train", "test")
        for word, value in (("high", 0.5), ("low", -0.5))
        for i in range(3)
    }
    data = load(written(tmp_path / "r", files))
    assert data.spec.label_names == ("high", "low")
    level = {0: compressed(np.array([0.5]))[0], 1: compressed(np.array([-0.5]))[0]}
    batches = Batches(data, data.train, batch_size=4, seed=1, device=CPU)
    for step in range(20):
        batch = batches.at(step)
        for x, label in zip(batch.x[:, 0, 0].tolist(), batch.label.tolist(), strict=True):
            assert set(x[20:]) == {level[label]}
            assert set(x[:20]) <= {level[label], 128}


def test_training_crops_are_anywhere_and_a_function_of_seed_and_step(tmp_path: Path, load: Load) -> None:
    rng = np.random.default_rng(1)
    files = {f"{i}.wav": wav(rng.uniform(-1, 1, 180)) for i in range(6)}
    data = load(written(tmp_path / "r", files), validation=2)
    (tape, held_out), train = (data.validation.images, data.validation.images), data.train.images
    assert held_out.samples is tape.samples

    def crops(seed: int, rank: int = 0, world: int = 1) -> list[torch.Tensor]:
        batches = Batches(data, data.train, batch_size=4, seed=seed, device=CPU, rank=rank, world=world)
        return [batches.at(step).x for step in range(150)]

    first = crops(0)
    assert all(torch.equal(a, b) for a, b in zip(first, crops(0), strict=True))
    assert not torch.equal(first[0], crops(1)[0])
    halves = zip(crops(0, 0, 2), crops(0, 1, 2), strict=True)
    assert all(torch.equal(a, torch.cat(two)) for a, two in zip(first, halves, strict=True))
    tail = train.samples[train.starts.min() :]
    windows = {bytes(w): i for i, w in enumerate(np.lib.stride_tricks.sliding_window_view(tail, 100))}
    found = [windows[bytes(crop[0, 0, 20:].numpy())] for batch in first for crop in batch]
    for u, place in ((0.0, 0), (1 - 1e-12, len(windows) - 1)):
        assert windows[bytes(train.anywhere(np.array([0]), np.array([u]))[0, 0, 0, 20:].numpy())] == place
    assert len(set(found)) > 0.6 * len(windows)
    heard = held_out.starts.max() + 100
    assert train.starts.min() >= heard - 100, "what is held out is not trained on, but for an overlap"


def test_a_held_out_part_is_not_even_heard(tmp_path: Path, load: Load) -> None:
    data = load(written(tmp_path / "r", {f"{i}.wav": wav(np.full(200, 0.5)) for i in range(6)}), validation=2)
    first = data.train.images.starts.argmin()
    crop = data.train.images.at(np.array([first]))[0, 0, 0]
    assert set(crop[:20].tolist()) == {128}


@given(
    sizes=st.lists(st.integers(0, 400), min_size=1, max_size=5),
    length=st.integers(1, 120),
    part=st.floats(0, 1),
)
def test_every_sample_of_a_region_is_in_a_crop(sizes: list[int], length: int, part: float) -> None:
    lows = np.cumsum([0, *sizes])
    regions = list(zip(lows[:-1].tolist(), sizes, strict=True))
    starts, numbers_, shares = cut_up(regions, length)
    assert (np.diff(shares) >= 0).all()
    covered = np.zeros(lows[-1], bool)
    for start, number in zip(starts, numbers_, strict=True):
        low, size = regions[number]
        assert low <= start <= low + size - length
        covered[start : start + length] = True
    for low, size in regions:
        assert covered[low : low + size].all() == (size >= length or size == 0)
    if len(starts) > 1:
        samples = np.arange(lows[-1]).astype(np.uint8)
        tape = Tape(samples, starts, numbers_, lows[:-1][numbers_], 0, length)
        cut = int(part * (len(starts) - 1)) + 1
        for rows in (slice(0, cut), slice(cut, None)):
            if len(one := tape.part(rows)):
                u = np.linspace(0, 0.999, len(one))
                crop = one.anywhere(np.arange(len(one)), u)
                assert crop.shape == (len(one), 1, 1, length)


def test_a_tape_on_a_device_gives_the_same_crops() -> None:
    rng = np.random.default_rng(2)
    samples = rng.integers(0, 256, 1000, dtype=np.uint8)
    starts, regions, _ = cut_up([(0, 333), (333, 667)], 50)
    tape = Tape(samples, starts, regions, np.array([0, 333])[regions], 70, 50)
    there = Tape(torch.from_numpy(samples), starts, regions, tape.lows, 70, 50)  # as on a GPU
    rows, u = np.arange(len(tape)), rng.random(len(tape))
    assert torch.equal(tape.at(rows), there.at(rows))
    assert torch.equal(tape.anywhere(rows, u), there.anywhere(rows, u))


# Other settings


def test_recordings_at_several_depths_have_no_labels(tmp_path: Path, load: Load) -> None:
    data = load(written(tmp_path / "r", {"a.wav": GOOD, "b/c.wav": GOOD, "b/d/e.wav": GOOD}))
    assert data.spec.classes is None
    assert "recordings lie at several depths: they have no labels" in data.notes


def test_rates_must_agree_or_are_brought_to_one(tmp_path: Path, load: Load) -> None:
    root = written(
        tmp_path / "r",
        {"a.wav": GOOD, "b.wav": wav(tone(1600, 500, 16000), 16000), "c.wav": wav(tone(800, 500))},
    )
    with pytest.raises(
        UserError, match=r"b\.wav 16,000; bring all to one rate with dataset\.sample_rate=8000"
    ):
        load(root)
    data = load(root, sample_rate=8000)
    assert data.spec.sample_rate == 8000
    tapes = [expanded(np.array(split.images.samples)) for split in (data.train, data.test)]
    assert sum(map(len, tapes)) == 500 + 800 + 800
    spectrum = np.abs(np.fft.rfft(tone(800, 500)))
    assert any(
        np.corrcoef(np.abs(np.fft.rfft(tape[i : i + 800])), spectrum)[0, 1] > 0.95
        for tape in tapes
        for i in range(0, len(tape) - 799, 100)
    )
    assert any("resampled to 8,000 Hz from 8,000, 16,000" in note for note in data.notes)


def test_what_a_user_should_know_is_noted(tmp_path: Path, load: Load) -> None:
    files = {"loud.wav": wav(np.sign(tone(300))), "two.wav": wav(np.zeros((300, 2))), "a.wav": GOOD}
    notes = "\n".join(load(written(tmp_path / "r", files)).notes)
    assert "1 recordings clipped: loud.wav" in notes
    assert "1 recordings their channels mixed into one: two.wav" in notes


def test_validation_of_the_datas_own(tmp_path: Path, load: Load) -> None:
    files = {f"{part}/{i}.wav": GOOD for part in ("train", "val", "test") for i in range(2)}
    data = load(written(tmp_path / "r", files), validation=0.5)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 10, 10)


REFUSED: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "a crop longer than all": (
        {"a.wav": GOOD, "b.wav": GOOD}, {"length": 600},
        r"dataset.length=600 is longer than every recording; the longest, .*a\.wav, has 500 samples"),
    "one recording": ({"a.wav": GOOD}, {}, "holds 1 recording; at least 2"),
    "nothing": ({"a.txt": b"-"}, {}, r"holds no recording \(\.wav, \.flac, \.\.\.\); found 1 other files"),
    "a short class": (
        {f"train/{w}/a.wav": c for w, c in (("long", GOOD), ("short", wav(tone(50))))}
        | {"test/long/a.wav": GOOD}, {}, r"class short are 0\.01 s in train, less than a crop; at most"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_roots_that_are_refused(why: str, tmp_path: Path, load: Load) -> None:
    files, settings, reason = REFUSED[why]
    with pytest.raises(UserError, match=reason):
        load(written(tmp_path / "r", files), **settings)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"length": 0}, "dataset.length must be at least 1"),
        ({"context": -1}, "dataset.context must be at least 0"),
        ({"sample_rate": 0}, "dataset.sample_rate must be 1 to"),
        ({"on_error": "cry"}, "dataset.on_error must be raise or skip"),
        ({"test_fraction": 1.0}, "dataset.test_fraction must lie between"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], reason: str, tmp_path: Path, load: Load) -> None:
    with pytest.raises(ValueError, match=reason):
        load(tmp_path, **settings)


def test_without_a_root_a_package_of_recordings_is_named() -> None:
    with pytest.raises(UserError, match="apt install asterisk-core-sounds-en-wav"):
        Audio(root=None, length=1, context=0, sample_rate=None, on_error="raise", test_fraction=0.1,
              cache=None, validation=0, split_seed=0, license=None)  # fmt: skip


def test_the_prompts(real_data: Path, load: Load) -> None:
    data = load(real_data / "prompts.zip", length=8192, context=2048)
    assert (len(data.train.images.samples), len(data.test.images.samples)) == (9_816_232, 1_322_210)
    assert (len(data.train), len(data.test), data.spec.sample_rate) == (1199, 162, 8000)
    with wave.open(io.BytesIO(wav(tone(10)))) as file:  # the tests' own writer, by the standard library
        assert (file.getnframes(), file.getframerate(), file.getsampwidth()) == (10, 8000, 2)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_ten_hours_take_less_than_a_gibibyte(tmp_path: Path) -> None:
    """Reading them and fifty training batches, in a process of its own, whose libraries count too."""
    minute = wav(np.random.default_rng(0).uniform(-0.1, 0.1, 8000 * 60))
    root = tmp_path / "hours"
    root.mkdir()
    (root / "0.wav").write_bytes(minute)
    for i in range(1, 600):
        os.link(root / "0.wav", root / f"{i}.wav")
    program = f"""
import torch
from gentrain.data.audio import Audio
from gentrain.data.batches import Batches
def peak():  # KiB; getrusage would count the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
before = peak()
data = Audio(root={str(root)!r}, length=8192, context=2048, sample_rate=None, on_error="raise",
             test_fraction=0.1, validation=0.1, split_seed=0, license=None,
             cache={str(tmp_path / "cache")!r}).load()
batches = Batches(data, data.train, batch_size=8, seed=0, device=torch.device("cpu"))
for step in range(50):
    batches.at(step)
print(before, peak())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after < 2**20
    assert after - before < 288_000 / 2  # the sound takes 288 MB

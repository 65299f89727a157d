"""The user's own recordings: a folder or a zip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import Any

import numpy as np
from tqdm import tqdm

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File, fingerprint, open_archive
from gentrain.data.draws import drawn_part, draws_by_name
from gentrain.data.layout import Kind, Layout, arrange
from gentrain.data.mu_law import LEVELS, compressed
from gentrain.data.recordings import BadRecording, Recording, is_recording, open_recording
from gentrain.data.source import Source
from gentrain.data.tape import cut_up
from gentrain.data.writer import Writer
from gentrain.errors import UserError

RECORDINGS = Kind("recording", ".wav, .flac, ...", is_recording, mixed=True)
_NAMED = 3  # files that a note names
_FULL_SCALE, _CLIPPED = 0.9999, 10  # amplitude, and so many samples of it make a recording a clipped one
_RELEASE = 16 << 20  # samples written between two times that memory is given back
_HIGHEST_RATE = 192_000  # Hz


@dataclass
class _Found:
    """What was found of the recordings while they were read; file names, or numbers."""

    rates: dict[int, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    mixed: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


class Audio(Source):
    """Recordings in a folder or a .zip, cut into crops of 256 mu-law levels.

    They lie as images do in `dataset=folder`: in `CLASS/RECORDING` or all at the top, with or without
    `train/`, `val/` and `test/`; where they lie at several depths, they have no labels. Those of a class (or
    all) are joined end to end, and crops are cut out of that: in training at random places, a pure function
    of seed and step, in evaluation one after the other, the last of a class ending with it. The first
    `context` samples of a crop are given, and the likelihood is of the `length` that follow; before the first
    recording is silence. Nothing is trimmed, and channels are mixed into one.

    Args:
        root: the folder or zip.
        length: samples of a crop.
        context: samples before it that a model is given, at least its field of view.
        sample_rate: Hz to which recordings are resampled; None where all are of one rate.
        on_error: raise at a file that cannot be decoded, or skip and count it.
        test_fraction: part of the recordings, in (0, 1), that is the test set where there is no `test/`.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    name = "audio"

    def __init__(
        self,
        *,
        length: int,
        context: int,
        sample_rate: int | None,
        on_error: str,
        test_fraction: float,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if self.root is None:
            raise UserError(
                "dataset=audio needs dataset.root=PATH, a folder or a .zip of recordings; on Debian: apt "
                "install asterisk-core-sounds-en-wav, dataset.root=/usr/share/asterisk/sounds/en_US_f_Allison"
            )
        if length < 1:
            raise ValueError(f"dataset.length must be at least 1 sample, found {length}")
        if context < 0:
            raise ValueError(f"dataset.context must be at least 0 samples, found {context}")
        if sample_rate is not None and not 1 <= sample_rate <= _HIGHEST_RATE:
            raise ValueError(
                f"dataset.sample_rate must be 1 to {_HIGHEST_RATE:,} Hz, or null, found {sample_rate}"
            )
        if on_error not in ("raise", "skip"):
            raise ValueError(f"dataset.on_error must be raise or skip, found {on_error}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"dataset.test_fraction must lie between 0 and 1, found {test_fraction}")
        self.length, self.context, self.sample_rate = length, context, sample_rate
        self.on_error, self.test_fraction = on_error, test_fraction

    def key(self) -> Mapping[str, Any]:
        assert self.root is not None
        settings = ("length", "context", "sample_rate", "on_error", "test_fraction")
        return {"files": fingerprint(self.root), **{key: getattr(self, key) for key in settings}}

    def decode(self, writer: Writer) -> DataSpec:
        assert self.root is not None
        found = _Found()
        with open_archive(self.root) as archive:
            layout = arrange(archive, RECORDINGS)
            splits = layout.splits
            if "test" not in splits:
                splits = {**splits, **self._draw_test(layout)}
            for split, files in splits.items():
                self._measure(archive, files, found)
                if not any(file.name in found.sizes for file in files):
                    raise UserError(
                        f"{archive.typed}: none of the {len(files):,} recordings of {split} can be decoded"
                    )
            rate = self._rate(archive, found)
            longest = max(found.sizes, key=found.sizes.__getitem__)
            if self.length > found.sizes[longest]:
                raise UserError(
                    f"dataset.length={self.length} is longer than every recording; the longest, "
                    f"{archive.path(longest)}, has {found.sizes[longest]:,} samples"
                )
            with tqdm(total=len(found.sizes), desc="decoding", unit="recording", disable=None) as bar:
                for split, files in splits.items():
                    self._join(writer, archive, layout, split, files, rate, found, bar)
        writer.notes += [*_notes(found, splits, rate), *layout.notes]
        classes = tuple(layout.classes) or None
        return DataSpec(
            (1, 1, self.context + self.length),
            LEVELS,
            len(classes) if classes else None,
            classes,
            sample_rate=rate,
            context=self.context,
        )

    def _draw_test(self, layout: Layout) -> dict[str, list[File]]:
        """The files of train and test, where there is no test/."""
        files = layout.splits["train"]
        if len(files) < 2:
            raise UserError(
                f"dataset.root={self.root} holds {len(files)} recording; at least 2 are needed, train and "
                "test"
            )
        names = [layout.below_class(file.name) for file in files]
        chosen = drawn_part(draws_by_name(names, "test", self.split_seed), self.test_fraction)
        return {
            part: [file for file, drawn in zip(files, chosen, strict=True) if drawn == held_out]
            for part, held_out in (("train", False), ("test", True))
        }

    def _measure(self, archive: Archive, files: list[File], found: _Found) -> None:
        """Note rates and lengths, in samples as they will be."""
        for file in files:
            recording = self._opened(archive, file, found)
            if recording is not None:
                found.rates.setdefault(recording.rate, file.name)
                up, down = self._resampling(recording.rate)
                found.sizes[file.name] = -(-recording.samples * up // down)
                if recording.channels > 1:
                    found.mixed.append(file.name)

    def _opened(self, archive: Archive, file: File, found: _Found) -> Recording | None:
        """A recording; None where it is skipped."""
        try:
            return open_recording(file.name, archive.read(file.name))
        except (BadRecording, OSError) as error:
            self._bad(archive, file, error, found)
            return None

    def _bad(self, archive: Archive, file: File, error: Exception, found: _Found) -> None:
        if self.on_error == "raise":
            raise UserError(
                f"{archive.path(file.name)} cannot be decoded: {error}; mend or remove it, or leave such "
                "files out with dataset.on_error=skip"
            ) from error
        found.skipped.append(file.name)

    def _rate(self, archive: Archive, found: _Found) -> int:
        """The one rate of all, in Hz."""
        if self.sample_rate is not None:
            return self.sample_rate
        if len(found.rates) > 1:
            (one, a), (other, b) = list(found.rates.items())[:2]
            raise UserError(
                f"{archive.path(a)} has {one:,} samples a second, {archive.path(b)} {other:,}; bring all to "
                f"one rate with dataset.sample_rate={min(one, other)}"
            )
        return next(iter(found.rates))

    def _resampling(self, rate: int) -> tuple[int, int]:
        """(up, down): by what a recording's samples are multiplied and divided."""
        wanted = self.sample_rate or rate
        common = gcd(wanted, rate)
        return wanted // common, rate // common

    def _join(
        self,
        writer: Writer,
        archive: Archive,
        layout: Layout,
        split: str,
        files: list[File],
        rate: int,
        found: _Found,
        bar: Any,
    ) -> None:
        """Fill the tape of a split, and say where its crops lie."""
        good = [file for file in files if file.name in found.sizes]
        if split == "train":  # the validation part is a beginning of each region
            names = [layout.below_class(file.name) for file in good]
            draws = draws_by_name(names, "validation", self.split_seed)
            good = [good[i] for i in np.argsort(draws, kind="stable")]
        tape = writer.tape(split, sum(found.sizes[file.name] for file in good))
        regions: list[tuple[int, int]] = []
        place = unreleased = 0
        words = list(layout.classes) or [""]
        for number, word in enumerate(words):
            low = place
            for file in good:
                if layout.classes and layout.label(file.name) != number:
                    continue
                before = place
                try:
                    for wave in self._waves(archive, file, found):
                        tape[place : place + len(wave)] = compressed(wave)
                        place, unreleased = place + len(wave), unreleased + len(wave)
                        if unreleased > _RELEASE:
                            writer.release()
                            unreleased = 0
                except (BadRecording, OSError) as error:
                    self._bad(archive, file, error, found)
                    del found.sizes[file.name]
                    place = before
                bar.update()
            regions.append((low, place - low))
            if place - low < self.length:
                of = f"class {word}" if word else split
                lost = f"the recordings of {of} are {(place - low) / rate:.2f} s in {split}, less than a crop"
                if split == "train" or not word:
                    raise UserError(f"{lost}; at most dataset.length={max(place - low, 1)}")
                writer.notes.append(f"{lost}: left out")
        starts, numbers, shares = cut_up(regions, self.length)
        lows = np.array([low for low, _ in regions], dtype=np.int64)[numbers]
        labels = numbers if layout.classes else None
        writer.crops(split, self.length, starts, numbers, shares, lows, labels)

    def _waves(self, archive: Archive, file: File, found: _Found) -> Iterator[np.ndarray]:
        """A recording's waveform, at the rate of all, piece by piece; notes whether it is clipped."""
        recording = open_recording(file.name, archive.read(file.name))
        up, down = self._resampling(recording.rate)
        full = 0
        pieces = []
        for wave in recording.blocks():
            full += int((np.abs(wave) >= _FULL_SCALE).sum())
            if up == down:
                yield wave
            else:
                pieces.append(wave)
        if pieces:
            from scipy.signal import resample_poly

            yield resample_poly(np.concatenate(pieces), up, down)
        if full > _CLIPPED:
            found.clipped.append(file.name)


def _notes(found: _Found, splits: Mapping[str, list[File]], rate: int) -> list[str]:
    """What there is, in lines for the user."""
    parts = []
    for split, files in splits.items():
        sizes = [found.sizes[file.name] for file in files if file.name in found.sizes]
        parts.append(f"{split} {len(sizes):,} ({sum(sizes) / rate / 60:.1f} min)")
    notes = [f"recordings: {', '.join(parts)}"]
    if set(found.rates) != {rate}:
        notes.append(f"resampled to {rate:,} Hz from {', '.join(f'{r:,}' for r in sorted(found.rates))}")
    for names, what in (
        (found.mixed, "their channels mixed into one"),
        (found.clipped, "clipped"),
        (found.skipped, "skipped, as they cannot be decoded"),
    ):
        if names:
            more = ", ..." if len(names) > _NAMED else ""
            notes.append(f"{len(names):,} recordings {what}: {', '.join(names[:_NAMED])}{more}")
    return notes

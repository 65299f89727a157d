"""Recordings joined end to end, read as crops: what `[N, 1, 1, T]` is to images, without storing it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gentrain.data.cache import release


@dataclass(frozen=True)
class Tape:
    """N crops of a tape of samples. A crop is `context` samples that are given, and `length` more.

    Crops lie in regions, of one class each, and see nothing outside: before a region is silence.

    Args:
        samples: uint8 [M], an array (which may be a memory map) or a tensor on a device.
        starts: int64 [N], where in the tape the samples after the context begin.
        regions: int64 [N], the region of each crop.
        lows: int64 [N], the first sample of its region.
        context: samples.
        length: samples.
        silence: the level that stands for it.
    """

    samples: np.ndarray | Tensor
    starts: np.ndarray
    regions: np.ndarray
    lows: np.ndarray
    context: int
    length: int
    silence: int = 128

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 1, 1, context + length)."""
        return len(self), 1, 1, self.context + self.length

    @property
    def nbytes(self) -> int:
        """Of the samples, which the crops share."""
        return int(self.samples.nbytes)

    def part(self, rows: slice) -> Tape:
        """The crops `rows`; the regions of that part end where its crops do."""
        starts, regions = self.starts[rows], self.regions[rows]
        lows = self.lows[rows].copy()
        for region in np.unique(regions):
            mine = regions == region
            # A part that does not begin with its region hears nothing of what is before it.
            if (first := starts[mine].min()) > self.starts[self.regions == region].min():
                lows[mine] = first
        return replace(self, starts=starts, regions=regions, lows=lows)

    def resident(self, device: torch.device) -> Tape:
        """The same with its samples on `device`."""
        return replace(self, samples=torch.from_numpy(np.array(self.samples)).to(device))

    def at(self, rows: np.ndarray) -> Tensor:
        """Crops number `rows` [n], uint8 [n, 1, 1, T]."""
        return self._cut(self.starts[rows], self.lows[rows])

    def anywhere(self, rows: np.ndarray, uniform: np.ndarray) -> Tensor:
        """As many crops, each at a random place in the region of its row: uint8 [n, 1, 1, T].

        Args:
            rows: [n].
            uniform: [n] in [0, 1), where between the first and the last place.
        """
        first, last = self._bounds
        places = first[rows] + (uniform * (last[rows] - first[rows] + 1)).astype(np.int64)
        return self._cut(places, self.lows[rows])

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each crop, the first and the last start in its region, int64 [N] each."""
        first, last = np.empty_like(self.starts), np.empty_like(self.starts)
        for region in np.unique(self.regions):
            mine = self.regions == region
            first[mine], last[mine] = self.starts[mine].min(), self.starts[mine].max()
        return first, last

    def _cut(self, starts: np.ndarray, lows: np.ndarray) -> Tensor:
        """Crops that begin, after their context, at `starts` [n]; before `lows` [n] is silence."""
        width = self.context + self.length
        if isinstance(self.samples, Tensor):
            device = self.samples.device
            begin, low = (torch.from_numpy(part).to(device)[:, None] for part in (starts, lows))
            place = begin - self.context + torch.arange(width, device=device)
            found = self.samples[place.clamp_min(0)].masked_fill(place < low, self.silence)
            return found[:, None, None]
        crops = np.full((len(starts), width), self.silence, dtype=np.uint8)
        for crop, start, low in zip(crops, starts.tolist(), lows.tolist(), strict=True):
            begin = max(low, start - self.context)
            crop[begin - start + self.context :] = self.samples[begin : start + self.length]
        # The kernel maps far more around a crop than is read: random ones soon would have mapped the file.
        release(self.samples)
        return torch.from_numpy(crops)[:, None, None]


def cut_up(regions: list[tuple[int, int]], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crops that cover regions, in an order of which every beginning has a like share of each region.

    The last crop of a region ends with it, and overlaps the one before; a region shorter than one has none.

    Args:
        regions: (first sample, samples) of each.
        length: of a crop, in samples.

    Returns:
        starts, regions (as numbers), and the share of its region before each crop, which rises: [N] each.
    """
    starts, numbers, shares = [], [], []
    for number, (low, size) in enumerate(regions):
        if size < length:
            continue
        count = -(-size // length)
        begins = np.minimum(np.arange(count) * length, size - length)
        starts.append(low + begins)
        numbers.append(np.full(count, number))
        shares.append((np.arange(count) + 0.5) / count)
    if not starts:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    order = np.argsort(np.concatenate(shares), kind="stable")
    return (
        np.concatenate(starts)[order].astype(np.int64),
        np.concatenate(numbers)[order].astype(np.int64),
        np.concatenate(shares)[order],
    )

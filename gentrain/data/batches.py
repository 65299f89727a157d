"""Batches: what the trainer and the commands read, on the device, without worker processes.

Every batch is a pure function of (seed, step), so that a resumed run needs no position, and N ranks
together see the batch that one rank would see.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentrain.contracts import Batch
from gentrain.data.draws import (
    bernoulli,
    bernoulli_by_index,
    bernoulli_on_device,
    generator,
    permutation,
    seed_of,
)
from gentrain.data.source import Data, Split
from gentrain.errors import UserError

_CHUNK = 4096  # images handled at a time


class Batches:
    """Training batches, in an order that is a pure function of `seed`.

    The stream of images is one permutation of the split after the other; step s takes images
    s*batch_size .. (s+1)*batch_size - 1 of it. All batches are of equal size, may straddle two epochs,
    and nothing is dropped. Flips and dynamic binarisation are drawn for the whole batch from
    (seed, step), of which each rank uses its part.

    Args:
        data: what `split` belongs to.
        split: normally `data.train`.
        batch_size: B, images per step over all ranks.
        seed: of the order and of the augmentations.
        device: where batches are delivered; the images stay there if they fit.
        rank: this process, 0 .. world-1.
        world: how many processes share a batch.

    Raises:
        UserError: B below 1, larger than the split or not a multiple of `world` (names train.batch_size).
    """

    def __init__(
        self,
        data: Data,
        split: Split,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        count = len(split)
        if batch_size < 1:
            raise UserError(f"train.batch_size must be at least 1, found {batch_size}")
        if batch_size > count:
            raise UserError(
                f"train.batch_size={batch_size} is larger than the {count:,} training images of {data.name}; "
                f"at most train.batch_size={count}"
            )
        if batch_size % world:
            raise UserError(
                f"train.batch_size={batch_size} cannot be shared equally by {world} processes; "
                f"try train.batch_size={math.ceil(batch_size / world) * world}"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank must be 0 to {world - 1}, found {rank}")
        self.batch_size = batch_size
        self._data = data
        self._count = count
        self._seed = seed
        self._device = device
        self._part = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
        self._orders: dict[int, Tensor] = {}
        self._draw = torch.Generator(device=device)  # of the augmentations on a device
        resident = fits(split.images.nbytes, device)
        self._images = np.array(split.images) if resident and device.type == "cpu" else split.images
        self._labels = None if split.labels is None else np.array(split.labels)
        self._attributes = None if split.attributes is None else np.array(split.attributes)
        self._on_device: Batch | None = None
        if resident and device.type != "cpu":
            self._on_device = Batch(
                _to_device(split.images, device),
                None if self._labels is None else _to_device(self._labels, device),
                None if self._attributes is None else _to_device(self._attributes, device),
            )

    @property
    def steps_per_epoch(self) -> float:
        """N / B; not whole where a batch straddles two epochs."""
        return self._count / self.batch_size

    def steps(self, epochs: float) -> int:
        """ceil(epochs * N / B), the steps in which every image has been seen `epochs` times."""
        # By way of the decimal text: 0.1 epochs are not to be a step more than a tenth.
        return math.ceil(Fraction(str(epochs)) * self._count / self.batch_size)

    def at(self, step: int) -> Batch:
        """This rank's part of the batch of step `step` (0-based): x uint8 [B / world, C, H, W]."""
        first = step * self.batch_size
        indices = self._indices(first + self._part.start, first + self._part.stop)  # [B / world]
        if self._on_device is None:
            batch = _gather(self._images, self._labels, self._attributes, indices.numpy(), self._device)
        else:
            batch = self._on_device.map(lambda part: part.index_select(0, indices))
        augment = self._augment_in_numpy if self._device.type == "cpu" else self._augment_on_device
        return batch._replace(x=augment(batch.x, step))

    def _indices(self, first: int, last: int) -> Tensor:
        """Images first .. last-1 of the endless stream of permutations, int64, where the images lie."""
        epoch, start = divmod(first, self._count)
        stop = start + last - first
        if stop <= self._count:
            return self._order(epoch)[start:stop]
        # B <= N, so that a batch never reaches a third epoch.
        return torch.cat([self._order(epoch)[start:], self._order(epoch + 1)[: stop - self._count]])

    def _order(self, epoch: int) -> Tensor:
        order = self._orders.get(epoch)
        if order is None:
            order = torch.from_numpy(permutation(self._count, "order", self._seed, epoch))
            if self._on_device is not None:
                # Moved as a whole: a batch's part of it is then a view, and costs neither copy nor launch.
                order = _moved(order, self._device)
            # Kept: this epoch and the one that a batch may share with it.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) == 1} | {epoch: order}
        return order

    def _augment_in_numpy(self, x: Tensor, step: int) -> Tensor:
        data, images = self._data, x.numpy()  # a fresh copy, which may be written to
        draw = generator("augment", self._seed, step)
        if data.flip:
            mirrored = (draw.random(self.batch_size) < 0.5)[self._part]
            images[mirrored] = images[mirrored, ..., ::-1]
        if data.binarize == "dynamic":
            uniform = draw.random((self.batch_size, *images.shape[1:]), dtype=np.float32)
            images = bernoulli(images, data.stored_levels, uniform[self._part])
        return torch.from_numpy(images)

    def _augment_on_device(self, x: Tensor, step: int) -> Tensor:
        data, device = self._data, self._device
        draw = self._draw.manual_seed(seed_of("augment", self._seed, step))
        if data.flip:
            mirrored = torch.rand(self.batch_size, generator=draw, device=device)[self._part] < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
        if data.binarize == "dynamic":
            uniform = torch.rand((self.batch_size, *x.shape[1:]), generator=draw, device=device)
            x = bernoulli_on_device(x, data.stored_levels, uniform[self._part])
        return x


def in_order(
    data: Data,
    split: Split,
    *,
    batch_size: int,
    device: torch.device,
    seed: int,
    rank: int = 0,
    world: int = 1,
    limit: int | None = None,
) -> Iterator[Batch]:
    """Batches for evaluation: every image once, in order, without flips, the last batch partial.

    Dynamic binarisation is drawn from (seed, index of the image): an evaluation gives the same images
    for any batch size, number of ranks and device.

    Args:
        data: what `split` belongs to.
        split: what to read.
        batch_size: most images in a batch, on this rank.
        device: where batches are delivered.
        seed: of dynamic binarisation.
        rank: this process; it takes images [rank::world], which may be none.
        world: how many processes share the split.
        limit: only the first `limit` images of the split, over all ranks; None for all.

    Raises:
        ValueError: batch_size or limit below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, found {batch_size}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 or None, found {limit}")
    indices = np.arange(rank, min(len(split), limit or len(split)), world)
    for start in range(0, len(indices), batch_size):
        batch = _read(data, split, indices[start : start + batch_size], seed)
        yield batch.map(lambda part: _moved(part, device))


def images_at(data: Data, split: Split, indices: Sequence[int], seed: int) -> Batch:
    """The images number `indices` of `split`, in that order, on the CPU; as `in_order` gives them.

    Raises:
        UserError: none asked for, or one that is not in the split.
    """
    if not len(indices):
        raise UserError(f"no image was chosen; give at least one index from 0 to {len(split) - 1}")
    for index in indices:
        if not 0 <= index < len(split):
            raise UserError(
                f"there is no image {index} among the {len(split):,} of {data.name}; "
                f"valid are 0 to {len(split) - 1}"
            )
    return _read(data, split, np.asarray(indices, dtype=np.int64), seed)


def fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes of images should stay on `device` for the whole run.

    On a CPU below a quarter of the memory that is available, on a GPU below 60 % of what is free: the
    model needs the rest. Elsewhere (mps) memory is shared with the CPU, and counts like it.
    """
    if device.type == "cuda":
        return size < 0.6 * torch.cuda.mem_get_info(device)[0]
    return size < available_memory() / 4


def available_memory() -> int:
    """Bytes of main memory that this process can still use, within its control group."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
        group = Path("/sys/fs/cgroup")
        allowed = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        free = min(free, max(allowed, 0))
    except (OSError, ValueError, StopIteration):
        # Not Linux, or no limit ("max"): what was found so far stands.
        pass
    return free


def _read(data: Data, split: Split, indices: np.ndarray, seed: int) -> Batch:
    batch = _gather(split.images, split.labels, split.attributes, indices, torch.device("cpu"))
    if data.binarize != "dynamic":
        return batch
    x = bernoulli_by_index(batch.x.numpy(), data.stored_levels, indices.tolist(), "evaluation", seed)
    return batch._replace(x=torch.from_numpy(x))


def _gather(
    images: np.ndarray,
    labels: np.ndarray | None,
    attributes: np.ndarray | None,
    indices: np.ndarray,
    device: torch.device,
) -> Batch:
    """The images `indices`, copied out of arrays (in memory or on disk) and moved to the device."""

    def gather(array: np.ndarray) -> Tensor:
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        # Fresh pinned memory each time: PyTorch reuses it only once the copy out of it is done.
        chosen = torch.empty((len(indices), *array.shape[1:]), dtype=dtype, pin_memory=device.type == "cuda")
        # Not "raise", which would buffer the output.
        np.take(array, indices, axis=0, out=chosen.numpy(), mode="clip")
        return chosen.to(device, non_blocking=True)

    return Batch(
        gather(images),
        None if labels is None else gather(labels),
        None if attributes is None else gather(attributes),
    )


def _moved(x: Tensor, device: torch.device) -> Tensor:
    """`x` on the device, without waiting for it."""
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)


def _to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A whole array on the device, by pieces: a memory map must not be read into memory twice."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    whole = torch.empty(array.shape, dtype=dtype, device=device)
    for start in range(0, len(array), _CHUNK):
        piece = np.array(array[start : start + _CHUNK])  # a copy, for memory maps are read-only
        whole[start : start + len(piece)] = torch.from_numpy(piece)
    return whole

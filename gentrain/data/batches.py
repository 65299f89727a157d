"""Batches: what the trainer and the commands read, on the device, without worker processes.

Every batch is a pure function of (seed, step), so that a resumed run needs no position, and N ranks
together see the batch that one rank would see.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gentrain.contracts import Batch
from gentrain.data.augment import Augment
from gentrain.data.draws import bernoulli_by_index, generator, permutation
from gentrain.data.parts import PARTS
from gentrain.data.source import Data, Split
from gentrain.data.tape import Tape
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
                f"train.batch_size={batch_size} is larger than the {count:,} training "
                f"{data.spec.words[0]}s of {data.name}; at most train.batch_size={count}"
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
        self._orders: dict[tuple[str, int], Tensor] = {}
        self._augment = Augment(data, seed, batch_size, self._part, device)
        #: Parts with an order of their own: how many of each there are.
        self._apart = {name: len(array) for name, array in split.apart.items()}
        arrays = {**split.parts, **split.apart}
        images = {name: array for name, array in arrays.items() if PARTS[name].images}
        resident = fits(sum(array.nbytes for array in images.values()), device)
        # What is no image is small, and is read from memory always.
        copied = arrays if resident and device.type == "cpu" else arrays.keys() - images.keys()
        self._arrays = {
            name: np.array(array) if name in copied else array
            for name, array in arrays.items()
            if not isinstance(array, Tape)
        }
        #: Sounds are cut out of their tape at a random place; on a CPU out of the file, which costs no more.
        self._tapes = {
            name: array.resident(device) if resident and device.type != "cpu" else array
            for name, array in arrays.items()
            if isinstance(array, Tape)
        }
        self._on_device: dict[str, Tensor] | None = None
        if resident and device.type != "cpu":
            moved = {name: _to_device(array, device) for name, array in self._arrays.items()}
            self._on_device = {
                name: part.to(PARTS[name].served or part.dtype) for name, part in moved.items()
            }

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
        place = (first + self._part.start, first + self._part.stop)
        indices = dict.fromkeys(self._arrays, self._indices("order", self._count, *place))  # [B / world] each
        indices |= {name: self._indices(name, count, *place) for name, count in self._apart.items()}
        if self._on_device is None:
            found = {name: _gather(array, indices[name].numpy(), self._device, PARTS[name].served)
                     for name, array in self._arrays.items()}  # fmt: skip
        else:
            found = {name: part.index_select(0, indices[name]) for name, part in self._on_device.items()}
        for name in _of_several(found):
            found[name] = self._in_turn(found[name], indices[name], place)
        for name, tape in self._tapes.items():
            rows = self._indices("order", self._count, *place).cpu().numpy()
            anywhere = generator("place", self._seed, step).random(self.batch_size)[self._part]
            found[name] = _moved(tape.anywhere(rows, anywhere), self._device)
        return self._augment(Batch(**found), step)

    def _in_turn(self, several: Tensor, rows: Tensor, place: tuple[int, int]) -> Tensor:
        """Of [B, K, T] the one whose turn it is, by (seed, epoch, image): [B, T]."""
        epochs = torch.arange(*place, device=several.device) // self._count
        counts = (several[:, :, 0] != 0).sum(1).clamp_min(1)
        turn = (epochs + rows.to(several.device) + self._seed) % counts
        return several[torch.arange(len(several), device=several.device), turn]

    def _indices(self, stream: str, count: int, first: int, last: int) -> Tensor:
        """Numbers first .. last-1 of the endless `stream` of permutations of `count`, where the data lie."""
        pieces = []
        while first < last:
            epoch, start = divmod(first, count)
            stop = min(count, start + last - first)
            pieces.append(self._order(stream, count, epoch)[start:stop])
            first += stop - start
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _order(self, stream: str, count: int, epoch: int) -> Tensor:
        order = self._orders.get((stream, epoch))
        if order is None:
            order = torch.from_numpy(permutation(count, stream, self._seed, epoch))
            if self._on_device is not None:
                # Moved as a whole: a batch's part of it is then a view, and costs neither copy nor launch.
                order = _moved(order, self._device)
            # Kept: this epoch and the one that a batch may share with it.
            kept = {key: o for key, o in self._orders.items() if key[0] != stream or abs(key[1] - epoch) == 1}
            self._orders = kept | {(stream, epoch): order}
        return order


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


def _of_several(parts: Mapping[str, Tensor]) -> list[str]:
    """The parts of which an image has several, of which one is to be served."""
    return [name for name, part in parts.items() if PARTS[name].several and part.ndim == 3]


def _read(data: Data, split: Split, indices: np.ndarray, seed: int) -> Batch:
    """The images `indices` of a split; of what has an order of its own, those of the same numbers, around."""
    cpu = torch.device("cpu")
    found = {
        name: array.at(indices)
        if isinstance(array, Tape)
        else _gather(array, indices, cpu, PARTS[name].served)
        for name, array in split.parts.items()
    }
    for name in _of_several(found):
        found[name] = found[name][:, 0].contiguous()
    for name, array in split.apart.items():
        found[name] = _gather(array, indices % len(array), cpu, PARTS[name].served)
    batch = Batch(**found)
    if data.binarize != "dynamic":
        return batch
    x = bernoulli_by_index(batch.x.numpy(), data.stored_levels, indices.tolist(), "evaluation", seed)
    return batch._replace(x=torch.from_numpy(x))


def _gather(
    array: np.ndarray, indices: np.ndarray, device: torch.device, served: torch.dtype | None
) -> Tensor:
    """Rows `indices`, copied out of an array (in memory or on disk) and moved to the device."""
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    # Fresh pinned memory each time: PyTorch reuses it only once the copy out of it is done.
    chosen = torch.empty((len(indices), *array.shape[1:]), dtype=dtype, pin_memory=device.type == "cuda")
    # Not "raise", which would buffer the output.
    np.take(array, indices, axis=0, out=chosen.numpy(), mode="clip")
    return chosen.to(device, served or dtype, non_blocking=True)


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

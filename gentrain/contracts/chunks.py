"""How many images to compute at once: as many as fit, which is found by measuring one and two."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Bytes that the tensors of one chunk may take, weights aside.
CHUNK_BYTES = 256 * 2**20
#: The same where a CPU is quicker when they stay in its caches.
CACHE_BYTES = 24 * 2**20
#: Items that are computed at once at least, where `CHUNK_BYTES` allows it: fewer wait for Python.
MIN_AT_ONCE = 64
#: What operations use besides their results, in convolutions above all, is not seen: results count double.
UNSEEN = 2


class PeakBytes(TorchDispatchMode):
    """Context that notes the most bytes that tensors made within took at one time: `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._living: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given = {leaf.untyped_storage()._cdata for leaf in _tensors((args, kwargs))}
        for made in _tensors(out):
            storage = made.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._living:
                self._add(storage)
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)

        def freed() -> None:
            self._living.pop(key, None)
            self.now -= size

        self._living[key] = weakref.finalize(storage, freed)
        self._living[key].atexit = False


def _tensors(nested: Any) -> list[Tensor]:
    # Weights that oneDNN has packed for itself have no storage to look at.
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor) and not leaf.is_mkldnn]


def at_once(run: Callable[[int], object], device: torch.device, in_cache: bool = False) -> int:
    """How many items `run(count)` may take at once, at least 1.

    `run` is measured with one item and with two: what does not grow with their number is told apart from
    what does. The random state is left as it was.

    Args:
        run: computes `count` items without gradients.
        device: where.
        in_cache: on a CPU, as few as its caches hold, but `MIN_AT_ONCE` at least.
    """
    peaks = []
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
        for count in (1, 2):
            with PeakBytes() as seen:
                run(count)
            peaks.append(UNSEEN * seen.peak)
    each = max(peaks[1] - peaks[0], 1)
    fixed = max(peaks[0] - each, 0)
    most = max((CHUNK_BYTES - fixed) // each, 1)
    if in_cache and device.type == "cpu":
        most = min(most, max(MIN_AT_ONCE, CACHE_BYTES // each))
    return most


def in_chunks(run: Callable[..., Tensor], n: int, parts: Sequence[Tensor], size: int) -> Tensor:
    """What `run` makes of `n` items, `size` of them at a time.

    Args:
        run: (count, *pieces of `parts`, [count, ...] each) -> [count, ...].
        n: at least 1.
        parts: [n, ...] each.
        size: of a chunk.

    Returns:
        [n, ...].
    """
    if size >= n:
        return run(n, *parts)
    starts = range(0, n, size)
    return torch.cat(
        [run(min(size, n - start), *(part[start : start + size] for part in parts)) for start in starts]
    )

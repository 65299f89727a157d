"""Random draws that are pure functions of what they are for.

Nothing here has a state that goes on: every draw starts a generator from a seed made of the purpose
and the position of the draw. That is why a resumed run needs no position to be restored.

On the CPU images are handled in NumPy. It works in the calling thread; the thread pool of torch costs
more than a batch of uint8 images is worth, and a hundred times that when the cores are busy.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from a purpose and positions, e.g. `seed_of("order", seed, epoch)`.

    Different parts give unrelated seeds, which nearby integers need not give to a generator.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: int | str) -> np.random.Generator:
    """NumPy's default generator, started from `seed_of(*parts)`."""
    return np.random.default_rng(seed_of(*parts))


def permutation(n: int, *parts: int | str) -> np.ndarray:
    """A permutation of 0 .. n-1, int64 [n], equal on every rank."""
    return generator(*parts).permutation(n)


def draws_by_name(names: Sequence[str], *parts: int | str) -> np.ndarray:
    """A draw in [0, 1) for each name that depends on nothing but the name and `parts`, float64 [N].

    What is chosen by it stays chosen when names are added. Two spellings of one name in Unicode, as file
    systems have them, are one name.
    """

    def draw(name: str) -> float:
        spelt = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(repr(parts).encode() + b"\0" + spelt, digest_size=8).digest()
        return (int.from_bytes(digest, "big") >> 11) / 2**53

    return np.array([draw(name) for name in names], dtype=np.float64)


def drawn_part(draws: np.ndarray, share: float) -> np.ndarray:
    """Which of N >= 2 are in a part of about `share`, bool [N]: never none of them, never all.

    Args:
        draws: a number in [0, 1) for each, float64 [N].
        share: in (0, 1).
    """
    chosen = draws < share
    chosen[draws.argmin()] = True
    # The last of the largest: where all are equal, the first is the smallest.
    chosen[len(draws) - 1 - draws[::-1].argmax()] = False
    return chosen


def bernoulli(x: np.ndarray, levels: int, uniform: np.ndarray) -> np.ndarray:
    """Binarise: 1 with probability x / (levels - 1), else 0.

    The probability is exact up to 2^-24 (the tests check every x of every number of levels), and
    black and white pixels are never changed.

    Args:
        x: uint8 [..., C, H, W] in 0 .. levels-1.
        levels: grey levels of `x`.
        uniform: float32 in [0, 1), multiples of 2^-24, shaped like `x`.

    Returns:
        uint8, shaped like `x`, in {0, 1}.
    """
    return (uniform < np.divide(x, np.float32(levels - 1), dtype=np.float32)).view(np.uint8)


def bernoulli_on_device(x: Tensor, levels: int, uniform: Tensor) -> Tensor:
    """`bernoulli` of tensors, with a float32 `uniform` as `torch.rand` draws it."""
    return (uniform < x.to(torch.float32).div_(levels - 1)).view(torch.uint8)


def bernoulli_by_index(x: np.ndarray, levels: int, indices: Iterable[int], *parts: int | str) -> np.ndarray:
    """`bernoulli` with a draw that depends on the image's index alone, not on its batch.

    One generator per image costs about 20 microseconds, so this is for evaluation and for images
    that are binarised once; training batches draw for the whole batch.

    Args:
        x: uint8 [B, C, H, W].
        levels: grey levels of `x`.
        indices: B integers, the index of each image in its split.
        parts: what the draw is for, including the seed.

    Returns:
        uint8 [B, C, H, W] in {0, 1}.
    """
    uniform = np.empty(x.shape, dtype=np.float32)
    for row, index in zip(uniform, indices, strict=True):
        generator(*parts, int(index)).random(dtype=np.float32, out=row)
    return bernoulli(x, levels, uniform)


def thresholded(x: np.ndarray, levels: int) -> np.ndarray:
    """1 where x / (levels - 1) >= 1/2, else 0; uint8 of x's shape."""
    return (2 * x.astype(np.int16) >= levels - 1).view(np.uint8)

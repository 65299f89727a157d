"""Random draws that are pure functions of what they are for.

Nothing here has a state that goes on: every draw starts a torch generator from a seed made of the
purpose and the position of the draw. That is why a resumed run needs no position to be restored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from a purpose and positions, e.g. `seed_of("order", seed, epoch)`.

    Different parts give unrelated seeds, which nearby integers need not give to a generator.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """A torch generator on `device`, started from `seed_of(*parts)`."""
    return torch.Generator(device=device).manual_seed(seed_of(*parts))


def permutation(n: int, *parts: int | str) -> Tensor:
    """A permutation of 0 .. n-1, int64 [n], drawn on the CPU: equal on every device and rank."""
    return torch.randperm(n, generator=generator("cpu", *parts))


def bernoulli(x: Tensor, levels: int, uniform: Tensor) -> Tensor:
    """Binarise: 1 with probability x / (levels - 1), else 0.

    `uniform` are floats in [0, 1) of 24 random bits, as `torch.rand` draws them. The probability is
    then exact up to 2^-24 (the tests check every x of every number of levels), and black and white
    pixels are never changed.

    Args:
        x: uint8 [..., C, H, W] in 0 .. levels-1.
        levels: grey levels of `x`.
        uniform: float32, shaped like `x`.

    Returns:
        uint8, shaped like `x`, in {0, 1}.
    """
    return (uniform < x.to(torch.float32).div_(levels - 1)).view(torch.uint8)


def bernoulli_by_index(x: Tensor, levels: int, indices: Iterable[int], *parts: int | str) -> Tensor:
    """`bernoulli` with a draw that depends on the image's index alone, not on its batch.

    One generator per image costs about 10 microseconds, so this is for evaluation and for images
    that are binarised once; training batches draw for the whole batch.

    Args:
        x: uint8 [B, C, H, W] on the CPU.
        levels: grey levels of `x`.
        indices: B integers, the index of each image in its split.
        parts: what the draw is for, including the seed.

    Returns:
        uint8 [B, C, H, W] in {0, 1}.
    """
    uniform = torch.empty(x.shape, dtype=torch.float32)
    draw = torch.Generator()
    for row, index in zip(uniform, indices, strict=True):
        torch.rand(row.shape, generator=draw.manual_seed(seed_of(*parts, int(index))), out=row)
    return bernoulli(x, levels, uniform)

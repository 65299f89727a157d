"""What every capability does before and after a model computes: checks, chunks, no gradients."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from gentrain.buffers import evaluating
from gentrain.contracts.chunks import in_chunks
from gentrain.contracts.data import DataSpec
from gentrain.contracts.model import GenerativeModel


def check_images(x: Tensor, spec: DataSpec, any_length: bool = False) -> None:
    """Refuse images that are not what a model was built for; with `any_length` those of any width are.

    Raises:
        ValueError: dtype, shape or a value outside 0 .. levels-1, with expected and found.
    """
    if x.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, found {x.dtype}")
    shape = (*spec.shape[:2], x.shape[-1]) if any_length and x.ndim == 4 else spec.shape
    if tuple(x.shape[1:]) != shape or x.ndim != 4:
        raise ValueError(f"images must be [B, {', '.join(map(str, spec.shape))}], found {list(x.shape)}")
    if x.numel() and spec.levels < 256 and int(x.max()) >= spec.levels:
        raise ValueError(f"pixel values must be 0 to {spec.levels - 1}, found {int(x.max())}")


def check_latents(z: Tensor, latent_dim: int) -> None:
    """Refuse latents that are not [B, `latent_dim`].

    Raises:
        ValueError: with expected and found.
    """
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"latents must be [B, {latent_dim}], found {list(z.shape)}")


def check_draws(n: int, temperature: Any = 1.0) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: n below 0, or temperature not above 0 or not finite.
    """
    if isinstance(temperature, Tensor):
        raise ValueError(
            "temperature must be a number, found a tensor; what images are to have is condition="
        )
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be finite and above 0, found {temperature}")
    if n < 0:
        raise ValueError(f"n must be at least 0, found {n}")


def check_length(model: GenerativeModel, length: int | None, least: int = 1) -> None:
    """Refuse a length of what is to be drawn.

    Raises:
        ValueError: below `least`, or the model draws what it was built for alone.
    """
    if length is None:
        return
    if not model.any_length:
        width = model.spec.shape[2]
        raise ValueError(f"length: {type(model).__name__} draws {width} columns, no other number")
    if length < least:
        raise ValueError(f"length must be at least {least}, found {length}")


def renamed(condition: Tensor | None, label: Tensor | None) -> Tensor | None:
    """`condition`, or what was given by its older name."""
    if label is None:
        return condition
    if condition is not None:
        raise ValueError("condition and label are one thing, found both; give condition= alone")
    warnings.warn("label= is now condition=", DeprecationWarning, stacklevel=3)
    return label


def computed(
    model: GenerativeModel,
    name: str,
    run: Callable[..., Tensor],
    n: int,
    parts: tuple[Tensor, ...],
    measured: Callable[..., object] | None = None,
) -> Tensor:
    """`run(count, *pieces of parts)` for `n` >= 1 items, [n, ...].

    In chunks that fit memory, in eval mode, without gradients. `measured` takes the memory of `run` in less
    time, where there is such a thing.
    """
    taking = measured or run

    def first(count: int) -> object:
        return taking(count, *(part[[0] * count] for part in parts))

    with torch.no_grad(), evaluating(model):
        size = 1 if n == 1 else model.at_once(name, first)
        return in_chunks(run, n, parts, size)


def without_count(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`run(*pieces)` as `computed` calls it, (count, *pieces): the pieces say how many they are."""
    return lambda count, *pieces: run(*pieces)


def not_written(model: Any, capability: str, method: str) -> NoReturn:
    """What a private method of a capability is until a model defines it.

    Raises:
        TypeError: always; names the method.
    """
    raise TypeError(f"{type(model).__name__} declares {capability} but does not define {method}()")

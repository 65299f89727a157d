"""What a step of a program reads and writes, and reading a graph of torch.export."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Unknown(Exception):
    """An operation that a page does not compute; the message names it."""


class Value:
    """What depends on the inputs: a place in the page's memory, and an example of it."""

    def __init__(self, place: int, example: Tensor) -> None:
        self.place, self.example = place, example

    @property
    def shape(self) -> list[int]:
        """Of the example."""
        return list(self.example.shape)


def name_of(target: Any) -> str:
    """`conv2d` of aten.conv2d.default."""
    name = str(getattr(target, "__name__", target))
    packet = getattr(target, "overloadpacket", None)
    return str(packet).rpartition(".")[2] if packet is not None else name


def values_in(args: Any) -> list[Value]:
    """All that depend on the inputs, wherever in the arguments."""
    if isinstance(args, Value):
        return [args]
    if isinstance(args, dict):
        args = list(args.values())
    return [value for arg in args for value in values_in(arg)] if isinstance(args, (list, tuple)) else []


def examples_of(args: Any) -> Any:
    """The arguments, with an example in place of each value."""
    if isinstance(args, Value):
        return args.example
    if isinstance(args, dict):
        return {key: examples_of(arg) for key, arg in args.items()}
    if isinstance(args, (list, tuple)):  # torch.fx has a list of its own, which torch's operations refuse
        return [examples_of(arg) for arg in args]
    return args


def strided(places: Tensor, shape: Sequence[int]) -> tuple[int, list[int]] | None:
    """(first, steps along each dimension) that give `places` [N] of an array of `shape`; None: no such."""
    begin = int(places[0]) if len(places) else 0
    grid = places.view(list(shape))
    steps = []
    for dim, size in enumerate(shape):
        next_one = [0] * len(shape)
        next_one[dim] = 1
        steps.append(int(grid[tuple(next_one)]) - begin if size > 1 else 0)
    whole = torch.full(list(shape), begin)
    for dim, size in enumerate(shape):
        along = [1] * len(shape)
        along[dim] = size
        whole = whole + steps[dim] * torch.arange(size).view(along)
    return (begin, steps) if torch.equal(whole, grid.long()) else None


def constant(arg: Any, name: str) -> Any:
    """A tensor of weights.

    Raises:
        Unknown: it depends on the inputs.
    """
    if isinstance(arg, Value):
        raise Unknown(f"{name} with weights that depend on the latents")
    return arg


def two(number: Any) -> list[int]:
    """A setting for both dimensions."""
    found = [number, number] if isinstance(number, int) else list(number)
    return found * 2 if len(found) == 1 else found


def plain(number: Any) -> Any:
    """A setting of a function as JSON knows it."""
    return number if number is None or isinstance(number, (bool, int, float)) else float(number)


def in_base64(content: bytes) -> str:
    """As text."""
    return base64.b64encode(content).decode("ascii")

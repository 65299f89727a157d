"""Drawing images pixel by pixel in raster order, with every activation computed once.

An autoregressive network gives the logits of a pixel from the pixels before it: those of the rows above,
those to the left, and the earlier colours of the pixel itself (van den Oord et al. 2016, "Pixel
Recurrent Neural Networks", arXiv:1601.06759, sections 2.1 and 2.2). `draw_naively` runs the whole network
once per pixel and colour. `draw` gives the same images from an `Incremental` of the network, which keeps
what it has computed (Ramachandran et al. 2017, "Fast Generation for Convolutional Autoregressive
Models", arXiv:1704.06001).

Where every layer sees only so many columns to the right in the rows above, and none in its own, rows need not
wait for one another's ends: `Wave`. With the same numbers, 28 x 28 pixels then take 136 steps instead of 784.

A model joins with layers that have an `incremental` method; `incremental` wires them together. Names used
here: a *position* is (row, column); a *group* g is the features that belong to colour channel g.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gentrain.layers.activation import ACTIVATIONS
from gentrain.progress import track

#: (logits [n, P] of one pixel value, uniform noise u [n]) -> levels [n], integers.
Draw = Callable[[Tensor, Tensor], Tensor]
#: Pixel values 0 .. levels-1, uint8 -> the numbers that the network takes, same shape.
Scale = Callable[[Tensor], Tensor]


class Wave(NamedTuple):
    """The positions of one step where a row follows the one above `stagger` columns behind.

    Args:
        first: the first row that has a position; there is one in each of `length` rows.
        length: how many rows.
        column: of the position in the first row; `stagger` less in each row below.
        stagger: columns.
    """

    first: int
    length: int
    column: int
    stagger: int

    def of(self, x: Tensor) -> Tensor:
        """A view of x [H, W, ...] at these positions, [length, ...]."""
        down, right, *rest = x.stride()
        place = x.storage_offset() + self.first * down + self.column * right
        return x.as_strided((self.length, *x.shape[2:]), (down - self.stagger * right, *rest), place)

    def window(self, x: Tensor, corner: tuple[int, int], rows: int, columns: int) -> Tensor:
        """A view of what each position sees of x [..., n, H', W', F]: [..., length, n, rows, columns * F].

        It begins at (row, column) + `corner`; F lies together.
        """
        (*before, n, _, _, features), (*steps, images, down, right, _) = x.shape, x.stride()
        place = x.storage_offset() + (self.first + corner[0]) * down + (self.column + corner[1]) * right
        size = (*before, self.length, n, rows, columns * features)
        return x.as_strided(size, (*steps, down - self.stagger * right, images, down, 1), place)

    @property
    def rows(self) -> slice:
        """Those that have a position."""
        return slice(self.first, self.first + self.length)


def waves(height: int, width: int, stagger: int) -> Iterator[Wave]:
    """Of an image, in time."""
    for t in range(width + stagger * (height - 1)):
        first = max(0, -((width - 1 - t) // stagger))
        yield Wave(first, min(height - 1, t // stagger) - first + 1, t - stagger * first, stagger)


@dataclass(frozen=True)
class Canvas:
    """What is drawn: n images of `channels` colours, in the dtype and on the device of `like`.

    Args:
        n, channels, height, width: of the images.
        like: a tensor.
        stagger: positions are those of a `Wave`; None: one after the other.
    """

    n: int
    channels: int
    height: int
    width: int
    like: Tensor
    stagger: int | None = None


class Incremental(ABC):
    """A layer or network at one position after the other, in raster order, colours in turn.

    For every row: `begin_row`; for every column and group of it: `at`, then `observe` once the value
    has been drawn, where the layer `sees_image`. On a canvas with a stagger: for every wave and group, with
    the wave as the column and the images of all its positions, n of the first row and so on, in place of n;
    rows do not begin.
    """

    #: Whether this layer, or one within, sees the image itself and not only the features of another.
    sees_image: bool = False

    def begin_row(self) -> None:
        """The next row begins, the first at the first call."""
        return

    @abstractmethod
    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        """This group's features here: x [n, features of the group below] -> [n, features of the group].

        A layer that sees the image itself is given an x without features, [n, 0]: it knows what it has
        observed.
        """

    def observe(self, column: Any, group: int, pixel: Tensor) -> None:
        """The pixel [n], scaled, that was drawn for `group` at this position."""
        return


class IncrementalModule(nn.Module, ABC):
    """A layer that can be computed position by position."""

    @abstractmethod
    def incremental(self, canvas: Canvas) -> Incremental:
        """This layer before the first row, with the weights that it has now."""


class Residual(IncrementalModule):
    """x -> x + body(x), both [B, F, H, W]."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, H, W] -> [B, F, H, W]."""
        return x + self.body(x)

    def incremental(self, canvas: Canvas) -> Incremental:
        """The body position by position, its input added."""
        return _Residual(incremental(self.body, canvas))


class _Residual(Incremental):
    def __init__(self, body: Incremental) -> None:
        self.body = body
        self.sees_image = body.sees_image

    def begin_row(self) -> None:
        self.body.begin_row()

    def observe(self, column: Any, group: int, pixel: Tensor) -> None:
        self.body.observe(column, group, pixel)

    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        return x + self.body.at(column, group, x)


class SkipSum(IncrementalModule):
    """x -> x + h_1 + h_2 + ..., h_i what block i makes of h_(i-1), h_0 = x; all [B, F, H, W]."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, F, H, W] -> [B, F, H, W]."""
        total = x
        for block in self.blocks:
            x = block(x)
            total = total + x
        return total

    def incremental(self, canvas: Canvas) -> Incremental:
        """The blocks position by position, all that they make summed."""
        return _SkipSum([incremental(block, canvas) for block in self.blocks])


class _SkipSum(Incremental):
    def __init__(self, blocks: Sequence[Incremental]) -> None:
        self.blocks = blocks

    def begin_row(self) -> None:
        for block in self.blocks:
            block.begin_row()

    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        total = x
        for block in self.blocks:
            x = block.at(column, group, x)
            total = total + x
        return total


class Chain(Incremental):
    """One after the other."""

    def __init__(self, parts: Sequence[Incremental]) -> None:
        self.parts = parts
        self.eyes = [part for part in parts if part.sees_image]
        self.sees_image = bool(self.eyes)

    def begin_row(self) -> None:
        for part in self.parts:
            part.begin_row()

    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part.at(column, group, x)
        return x

    def observe(self, column: Any, group: int, pixel: Tensor) -> None:
        for part in self.eyes:
            part.observe(column, group, pixel)


class _Pointwise(Incremental):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def at(self, column: Any, group: int, x: Tensor) -> Tensor:
        return self.function(x)


def incremental(module: nn.Module, canvas: Canvas) -> Incremental:
    """`module` position by position: one with an `incremental` of its own, an activation, or a chain of them.

    Raises:
        TypeError: a module that is neither.
    """
    if isinstance(module, IncrementalModule):
        return module.incremental(canvas)
    if isinstance(module, nn.Sequential):
        return Chain([incremental(part, canvas) for part in module])
    if isinstance(module, nn.ReLU):  # its forward takes three times as long as the work
        return _Pointwise(torch.relu)
    if isinstance(module, (*ACTIVATIONS.values(), nn.Tanh)):  # torch's too, of which ours is one
        return _Pointwise(module.forward)
    raise TypeError(f"{type(module).__name__} cannot be computed position by position")


# The two samplers.


@torch.no_grad()
def draw(
    network: Callable[[Canvas], Incremental],
    noise: Tensor,
    choose: Draw,
    scale: Scale,
    given: Tensor | None = None,
    known: Tensor | None = None,
    stagger: int | None = None,
) -> Tensor:
    """Images drawn in raster order, each activation computed once.

    Args:
        network: what `incremental` makes of one, its output the logits [n, P] of one pixel value.
        noise: u [n, C, H, W], uniform on [0, 1): all the randomness there is.
        choose: the level of a pixel from its logits and its noise.
        scale: pixel values as the network takes them.
        given: uint8 [n, C, H, W], pixels that are not drawn; None: all are.
        known: bool [n, C, H, W], where `given` counts.
        stagger: how many columns a row may begin behind the one above; None: when that has ended.

    Returns:
        uint8 [n, C, H, W].
    """
    n, channels, height, width = noise.shape
    # no_grad alone would keep track of views and versions, at every one of a great many small steps.
    with torch.inference_mode(), torch.autocast(noise.device.type, enabled=False), one_thread():
        # A row begins no later than the one above ends.
        stagger = None if stagger is None else min(stagger, width)
        steps = network(Canvas(n, channels, height, width, noise, stagger))
        images = torch.zeros(height, width, channels, n, dtype=torch.uint8, device=noise.device)
        nothing = noise.new_empty(n, 0)
        u = _by_position(noise)
        old = keep = None
        if given is not None and known is not None:
            old, keep = _by_position(given), _by_position(known)
        if stagger is not None:
            for wave in track(waves(height, width, stagger), "step", width + stagger * (height - 1)):
                for g in range(channels):
                    level = choose(steps.at(wave, g, nothing), wave.of(u[:, :, g]).flatten()).to(torch.uint8)
                    level = level.view(wave.length, n)
                    if old is not None and keep is not None:
                        level = torch.where(wave.of(keep[:, :, g]), wave.of(old[:, :, g]), level)
                    wave.of(images[:, :, g]).copy_(level)
                    steps.observe(wave, g, scale(level.flatten()))
        else:
            for i in _rows(height):
                steps.begin_row()
                for j in _columns(width, height):
                    for g in range(channels):
                        level = choose(steps.at(j, g, nothing), u[i, j, g]).to(torch.uint8)
                        if old is not None and keep is not None:
                            level = torch.where(keep[i, j, g], old[i, j, g], level)
                        images[i, j, g] = level
                        steps.observe(j, g, scale(level))
    # A copy, made outside: what is made in inference mode may not be changed in place later.
    return images.permute(3, 2, 0, 1).clone(memory_format=torch.contiguous_format)


@torch.no_grad()
def draw_naively(
    network: Callable[[Tensor], Tensor],
    noise: Tensor,
    choose: Draw,
    scale: Scale,
    given: Tensor | None = None,
    known: Tensor | None = None,
    order: Sequence[int] | None = None,
) -> Tensor:
    """The images of `draw`, from the whole network run once for every pixel and colour.

    What `draw` is held against, and how images are drawn in another order.

    Args:
        network: pixels [n, C, H, W], scaled -> logits [n, P * C, H, W], P groups of C.
        noise, choose, scale, given, known: as in `draw`.
        order: positions row * W + column in the order in which they are drawn; None: reading order.
    """
    _, channels, height, width = noise.shape
    images = torch.zeros(noise.shape, dtype=torch.uint8, device=noise.device)
    if given is not None and known is not None:
        images = torch.where(known, given, images)
    with torch.autocast(noise.device.type, enabled=False):
        for position in track(order or range(height * width), "pixel", height * width):
            i, j = divmod(position, width)
            for g in range(channels):
                logits = network(scale(images))[:, g::channels, i, j]  # [n, P]
                level = choose(logits, noise[:, g, i, j]).to(torch.uint8)
                if known is not None:
                    level = torch.where(known[:, g, i, j], images[:, g, i, j], level)
                images[:, g, i, j] = level
    return images


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread on the CPU: a step is done before a second has woken, and waits where that has no core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _rows(height: int) -> Iterable[int]:
    """With a bar where there are several."""
    return track(range(height), "row", height) if height > 1 else range(height)


def _columns(width: int, height: int) -> Iterable[int]:
    """With a bar in the only row, of a sound."""
    return range(width) if height > 1 else track(range(width), "sample", width)


def _by_position(x: Tensor) -> Tensor:
    """[n, C, H, W] -> [H, W, C, n], so that what one step takes lies together."""
    return x.permute(2, 3, 1, 0).contiguous()

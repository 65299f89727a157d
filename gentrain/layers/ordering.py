"""An image as a vector, its values in the order in which a model goes through them, and drawing it so."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gentrain.layers.raster import Draw, Scale, one_thread
from gentrain.layers.settings import check_choice
from gentrain.progress import track

#: "raster" is reading order, "random" one drawn once from `seed`.
ORDERS = ("raster", "random")


class Ordering(nn.Module):
    """Image [B, C, H, W] <-> vector [B, D], D = C * H * W, colours in turn at each position.

    Args:
        shape: (C, H, W).
        order: one of `ORDERS`.
        seed: of a random order; another one is another order.
        count: how many orders there are, the random ones drawn independently.

    Raises:
        ValueError: an unknown order.
    """

    #: Positions row * W + column in each order, [count, H * W]; kept with the weights, nothing without it.
    places: Tensor

    def __init__(self, shape: tuple[int, int, int], order: str, seed: int = 0, count: int = 1) -> None:
        super().__init__()
        check_choice("order", order, ORDERS)
        self.shape, self.in_reading_order = shape, order == "raster"
        positions = shape[1] * shape[2]
        places = torch.arange(positions).repeat(count, 1)
        if not self.in_reading_order:
            generator = torch.Generator().manual_seed(seed)
            for row in places:
                row.copy_(torch.randperm(positions, generator=generator))
        self.register_buffer("places", places)

    def values(self, which: int = 0) -> Tensor:
        """[D], where each value of the vector lies in an image [C * H * W]."""
        channels, height, width = self.shape
        colours = torch.arange(channels, device=self.places.device) * (height * width)
        return (self.places[which][:, None] + colours).flatten()

    @property
    def _as_it_lies(self) -> bool:
        return self.in_reading_order and self.shape[0] == 1

    def vector(self, x: Tensor, which: int = 0) -> Tensor:
        """x [B, C, H, W] -> [B, D]."""
        flat = x.flatten(1)
        return flat if self._as_it_lies else flat[:, self.values(which)]

    def image(self, v: Tensor, which: int = 0) -> Tensor:
        """v [B, D, ...] -> [B, C, H, W, ...]; the inverse of `vector`."""
        if not self._as_it_lies:
            v = v[:, self.values(which).argsort()]
        return v.unflatten(1, self.shape)


class Steps(ABC):
    """A network at one value of the vector after the other: `at`, then `observe` once it is drawn."""

    @abstractmethod
    def at(self, i: int) -> Tensor:
        """The parameters of value i, [n, P]."""

    @abstractmethod
    def observe(self, i: int, value: Tensor) -> None:
        """Value i [n], scaled."""


@torch.no_grad()
def draw_vectors(
    steps: Steps,
    u: Tensor,
    choose: Draw,
    scale: Scale,
    given: Tensor | None = None,
    known: Tensor | None = None,
) -> Tensor:
    """Vectors drawn value by value, each activation computed once.

    Args:
        steps: the network.
        u: [n, D], uniform on [0, 1): all the randomness there is.
        choose: the level of a value from its parameters and its noise.
        scale: values as the network takes them.
        given: uint8 [n, D], values that are not drawn; None: all are.
        known: bool [n, D], where `given` counts.

    Returns:
        uint8 [n, D].
    """
    n, dims = u.shape
    with torch.inference_mode(), torch.autocast(u.device.type, enabled=False), one_thread():
        vectors = torch.zeros(dims, n, dtype=torch.uint8, device=u.device)
        noise = u.t().contiguous()
        old = keep = None
        if given is not None and known is not None:
            old, keep = given.t().contiguous(), known.t().contiguous()
        for i in track(range(dims), "pixel value", dims):
            level = choose(steps.at(i), noise[i]).to(torch.uint8)
            if old is not None and keep is not None:
                level = torch.where(keep[i], old[i], level)
            vectors[i] = level
            steps.observe(i, scale(level))
    # A copy, made outside: what is made in inference mode may not be changed in place later.
    return vectors.t().clone(memory_format=torch.contiguous_format)

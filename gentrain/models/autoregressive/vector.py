"""What autoregressive models share that take an image as a vector and do not know its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from gentrain.contracts import DataSpec
from gentrain.distributions import Pixels
from gentrain.layers.ordering import Ordering, Steps, draw_vectors
from gentrain.models.autoregressive.autoregressive import Autoregressive


class OverVectors(Autoregressive):
    """A model of v_1, ..., v_D, the pixel values in [0, 1] in an order.

    A value of two levels is Bernoulli, of more levels categorical. A member computes `outputs`, and `steps`,
    the same value by value.

    Args:
        spec: what the images are.
        order: "raster", reading order, or "random", one drawn once.
        order_seed: which random order.
        orders: how many orders there are; members but MADE have one.

    Raises:
        ValueError: an unknown order.
    """

    takes_context = False  # its order need not begin with what is given

    def __init__(self, spec: DataSpec, order: str, order_seed: int, orders: int = 1) -> None:
        super().__init__(spec, Pixels.softmax(spec.levels))
        self.ordering = Ordering(spec.shape, order, order_seed, orders)

    def outputs(self, v: Tensor) -> Tensor:
        """v [B, D] in [0, 1] -> the parameters of each value, [B, D, P], from the values before it alone."""
        raise TypeError(f"{type(self).__name__} does not define outputs()")

    def steps(self, n: int, which: int = 0) -> Steps:
        """`outputs` of `n` vectors value by value in an order, with the weights of now."""
        raise TypeError(f"{type(self).__name__} does not define steps()")

    @property
    def order(self) -> Sequence[int] | None:  # type: ignore[override]
        """As in `Autoregressive`."""
        return None if self.ordering.in_reading_order else self.ordering.places[0].tolist()

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> [B, P * C, H, W]."""
        out = self.outputs(self.ordering.vector((x + 1) / 2))
        return self.ordering.image(out).movedim(-1, 1).flatten(1, 2)

    def _drawn(
        self,
        noise: Tensor,
        temperature: float,
        *y: Tensor,
        given: Tensor | None = None,
        known: Tensor | None = None,
        naive: bool = False,
    ) -> Tensor:
        if naive:
            return super()._drawn(noise, temperature, *y, given=given, known=known, naive=True)
        return self._drawn_in(0, noise, temperature, given, known)

    def _drawn_in(
        self,
        which: int,
        noise: Tensor,
        temperature: float,
        given: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """`_drawn` in one of the orders."""
        u, old, keep = (None if x is None else self.ordering.vector(x, which) for x in (noise, given, known))
        assert u is not None
        choose = partial(self.pixels.level, temperature=temperature)
        levels = draw_vectors(self.steps(len(u), which), u, choose, self._unit, old, keep)
        return self.ordering.image(levels, which).contiguous()

    def _unit(self, levels: Tensor) -> Tensor:
        """Levels 0 .. levels-1 -> [0, 1], in the model's dtype."""
        return levels.to(self._like.dtype) / (self.spec.levels - 1)

"""What autoregressive models share: p(x) = prod_i p(x_i | x_1, ..., x_(i-1)), over pixel values in an order.

van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from gentrain.contracts import Batch, Completes, DataSpec, HasLikelihood, Samples, check_draws
from gentrain.distributions import Pixels
from gentrain.layers.raster import Canvas, Incremental, draw, draw_naively


class Autoregressive(Samples, HasLikelihood, Completes):
    """A model whose `params` gives the parameters of each pixel value from the pixel values before it.

    A member computes `params`; where its layers can be computed position by position, it gives them in
    `incremental` too, and images are drawn with every activation computed once. `y`, where a method takes
    it, is the condition of each image of a conditional member.

    Args:
        spec: what the images are.
        pixels: p(x_i | ...).
    """

    lacks: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("reconstruct", "interpolate", "arithmetic", "encode", "explore"),
        "it has no latents, each pixel is drawn given those before it",
    )

    #: Positions row * W + column in the order in which they are drawn, colours in turn in each; None: reading
    #: order, the only one that `incremental` knows.
    order: Sequence[int] | None = None
    takes_context = True
    #: How many columns a row may be drawn behind the one above; None: not before that has ended.
    stagger: int | None = None

    def __init__(self, spec: DataSpec, pixels: Pixels) -> None:
        super().__init__(spec)
        self.pixels = pixels

    def params(self, x: Tensor, *y: Tensor) -> Tensor:
        """x [B, C, H, W] in [-1, 1] -> the parameters of each pixel value, [B, P * C, H, W], P groups of C.

        Those of a pixel value may depend on the values before it alone.
        """
        raise TypeError(f"{type(self).__name__} does not define params()")

    def params_after(self, context: int, x: Tensor, *y: Tensor) -> Tensor:
        """`params` of the columns from `context` on, [B, P * C, H, W - context]."""
        params = self.params(x, *y)
        return params[..., context:] if context else params

    def incremental(self, canvas: Canvas, *y: Tensor) -> Incremental:
        """`params` position by position; without it images are drawn by `params`, once per pixel value."""
        raise TypeError(f"{type(self).__name__} does not define incremental()")

    # Learning

    def _log_prob(self, x: Tensor, *y: Tensor) -> Tensor:
        """log p(x), x uint8 [B, C, H, W] -> [B] in nats; nothing here waits for the device.

        Of a sound with a context the log p of what follows, given that.
        """
        context = self.spec.context or 0
        params = self.params_after(context, self.scaled(x), *y)
        return self.pixels.distribution(params).log_prob(x[..., context:])

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x) in nats per image, averaged over the batch; also in bits per pixel value."""
        nats = -self._log_prob(batch.x, *self.given(batch)).mean()
        return nats, {"bits_per_dim": nats.detach() / (self.spec.counted * math.log(2))}

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        return self._log_prob(x, *y)

    def likelihood_kind(self, samples: int | None) -> str:
        """Exact; of a sound with a context, given that."""
        return f"exact after {self.spec.context:,} samples" if self.spec.context else "exact"

    # Drawing

    def sample_from(
        self,
        noise: Tensor,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        naive: bool = False,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Images as a function of the noise.

        Args:
            noise: u [n, C, H, W], uniform on [0, 1), of the model's dtype.
            temperature: below 1 draws more typical values, of each pixel given those before it.
            given: uint8 [n, C, H, W], pixels that are not drawn; None: all are.
            known: bool [n, C, H, W], where `given` counts.
            naive: run the whole network for every pixel value: the same images, for comparison.
            condition: of each image, for a model that takes one.

        Returns:
            uint8 [n, C, H, W].

        Raises:
            ValueError: temperature not above 0 or not finite, noise of another shape, or a condition that the
                model does not take.
        """
        check_draws(len(noise), temperature)
        if tuple(noise.shape[1:]) != self.spec.shape or noise.ndim != 4:
            expected = ", ".join(map(str, self.spec.shape))
            raise ValueError(f"noise must be [n, {expected}], found {list(noise.shape)}")
        y = self._checked(condition, len(noise))
        return self._drawn(noise, temperature, *y, given=given, known=known, naive=naive)

    def _sample(self, n: int, temperature: float, *y: Tensor, length: int | None = None) -> Tensor:
        return self._drawn(self._noise(n, length), temperature, *y)

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        """Exact draws from p(unknown | known) where all that is known comes first in the order (`note`)."""
        return self._drawn(self._noise(len(x), x.shape[-1]), 1.0, *y, given=x, known=known)

    def note(self, known: Tensor) -> str | None:
        """That what is known after a pixel does not inform it, where there is such a thing."""
        in_turn = known.permute(0, 2, 3, 1).flatten(1, 2)  # [B, H * W, C]
        if self.order is not None:
            in_turn = in_turn[:, list(self.order)]
        in_turn = in_turn.flatten(1)
        drawn_before = (~in_turn).cumsum(1) > 0
        if not bool((in_turn & drawn_before).any()):
            return None
        how = "in reading order" if self.order is None else "in an order of its own"
        return f"the model goes pixel by pixel {how}: what is known after a pixel cannot inform it"

    def _noise(self, n: int, length: int | None = None) -> Tensor:
        """Uniform on [0, 1), one number for each pixel value of `n` images, `length` wide."""
        shape = (*self.spec.shape[:2], length or self.spec.shape[2])
        return torch.rand(n, *shape, dtype=self._like.dtype, device=self._like.device)

    def _silence(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What is given of a sound that begins from nothing: silence, for as long as its context is.

        (uint8, bool), both of the noise's shape.
        """
        given = torch.full(noise.shape, self.spec.levels // 2, dtype=torch.uint8, device=noise.device)
        before = torch.arange(noise.shape[-1], device=noise.device) < (self.spec.context or 0)
        return given, before.expand(noise.shape)

    def _drawn(
        self,
        noise: Tensor,
        temperature: float,
        *y: Tensor,
        given: Tensor | None = None,
        known: Tensor | None = None,
        naive: bool = False,
    ) -> Tensor:
        choose = partial(self.pixels.level, temperature=temperature)
        scaled = partial(self.scaled, dtype=self._like.dtype)
        if self.spec.context and given is None:
            given, known = self._silence(noise)
        if self._in_steps and not naive:
            steps = lambda canvas: self.incremental(canvas, *y)  # noqa: E731
            return draw(steps, noise, choose, scaled, given, known, self.stagger)
        network = lambda x: self.params(x, *y)  # noqa: E731
        return draw_naively(network, noise, choose, scaled, given, known, self.order)

    @property
    def _in_steps(self) -> bool:
        """Whether the model has an `incremental` of its own, which goes in its order."""
        return type(self).incremental is not Autoregressive.incremental and self.order is None

    def _measure_sample(self, n: int, *y: Tensor) -> object:
        """The first two rows, or columns of a sound: drawing the others takes the same memory again.

        What is kept of all rows is made first, and freed.
        """
        noise = self._noise(n)
        if self._in_steps:
            _, channels, height, width = noise.shape
            self.incremental(Canvas(n, channels, height, width, noise, self.stagger), *y)
            first = noise[..., :2] if self.spec.shape[1] == 1 else noise[:, :, :2]
            return noise, self._drawn(first, 1.0, *y)
        return noise, self.params(2 * noise - 1, *y)

    def _measure_complete(self, x: Tensor, known: Tensor, *y: Tensor) -> object:
        return self._measure_sample(len(x), *y)

"""What models share that draw images from latents and learn against a discriminator.

[1] Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv:1406.2661.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, Samples, StandingStatistics
from gentrain.layers.settings import check_choice, check_positive
from gentrain.models.adversarial.game import Contest, Game, spread

LATENTS = ("gaussian", "uniform")


class Adversarial(Game, Samples, StandingStatistics):
    """A generator G(z), or G(z, y) of a conditional member, against a discriminator [1].

    Args:
        spec: what the images are.
        latent_dim: D, the number of latent dimensions.
        latent: prior over z: gaussian, N(0, I), or uniform on [-1, 1]^D.
        settings: of `Game`.

    Raises:
        ValueError: a setting out of its range.
    """

    lacks: ClassVar[Mapping[str, str]] = {
        "eval": "it is an implicit model, a sampler without a density p(x)",
        "reconstruct": "it maps latents to images and has no encoder back",
        "interpolate between images": "it has no encoder; without images= latents are drawn from the prior",
        "encode": "it maps latents to images and has no encoder back",
        "arithmetic with images": "it has no encoder; without images= latents are drawn from the prior",
    }

    def __init__(self, spec: DataSpec, *, latent_dim: int, latent: str, **settings: Any) -> None:
        super().__init__(spec, **settings)
        check_choice("latent", latent, LATENTS)
        check_positive("latent_dim", latent_dim)
        self.latent_dim = latent_dim
        self.latent_prior = "gaussian" if latent == "gaussian" else "uniform"

    def contestants(self, batch: Batch) -> Contest:
        """What the discriminator is shown of `batch`, and of as many fakes."""
        y = self.given(batch)
        z = self._prior_draws(len(batch.x), *y)
        return Contest((self.scaled(batch.x), *y), (self.generator(z, *y), *y), (z,))

    # Being watched

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """`diversity`, as the generator's turn logs it, of as many samples as there are images in `batch`.

        None for a single image, or images that are all alike.
        """
        with torch.no_grad():
            real = spread(self.scaled(batch.x))
            if not real:
                return {}
            drawn = self.sample(len(batch.x), condition=self.condition_in(batch))
            return {"diversity": spread(self.scaled(drawn)) / real}

    # Capabilities

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From z = temperature * a draw from the prior."""
        return self._latents_to_images(temperature * self._prior_draws(n, *y), *y)

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level nearest to each pixel of G(z)."""
        return self.levels_of(self.generator(z, *y))

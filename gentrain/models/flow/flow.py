"""What flows share: an invertible map between dequantised images and standard normal latents.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803.
[2] Theis, van den Oord & Bethge 2016, "A note on the evaluation of generative models", arXiv:1511.01844.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, HasLikelihood, Invertible, Samples
from gentrain.layers.actnorm import initialising
from gentrain.layers.transform import Transform

#: Images whose inverse error `examine` measures.
EXAMINED = 32


class Flow(Samples, HasLikelihood, Invertible):
    """p(y) = N(f(y); 0, I) |det df/dy| ([1] equation 2) of images y = (x + u) / levels, u ~ U[0, 1)^D.

    The expected logarithm of the density bounds that of the levels: log P(x) >= E_u log p(y) - D log(levels)
    ([2] section 3.1).

    Args:
        spec: what the images are.
        transform: f, from y [B, C, H, W] in [0, 1) to z [B, C H W].
    """

    latent_prior = "gaussian"

    def __init__(self, spec: DataSpec, transform: Transform) -> None:
        super().__init__(spec)
        self.latent_dim = spec.dims
        self.transform = transform

    # Learning

    def dequantise(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> y = (x + u) / levels in [0, 1), u ~ U[0, 1)."""
        noise = torch.rand(x.shape, dtype=self._like.dtype, device=x.device)
        return (x + noise) / self.spec.levels

    def log_prob(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y [B, C, H, W] in [0, 1) -> the terms of log p(y): log N(z; 0, I) [B] and log |det dz/dy| [B]."""
        z, log_det = self._to_latent(y)
        return -0.5 * (z.square().sum(1) + self.latent_dim * math.log(2 * math.pi)), log_det

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log P(x), bounded with one draw of u, in nats per image, averaged over the batch.

        It is the sum of the terms `prior`, -log N(z; 0, I), and `volume`, D log(levels) - log |det dz/dy|.
        """
        log_prior, log_det = self.log_prob(self.dequantise(batch.x))
        prior = -log_prior.mean()
        volume = self.spec.dims * math.log(self.spec.levels) - log_det.mean()
        return prior + volume, {"prior": prior.detach(), "volume": volume.detach()}

    def data_dependent_init(self, batch: Batch) -> None:
        """Initialise each layer that starts from data on what those before it make of the batch, once."""
        with torch.no_grad(), initialising(self):
            self._to_latent(self.dequantise(batch.x))

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """The largest |from_latent(to_latent(y)) - y| over `EXAMINED` images."""
        y = self.dequantise(batch.x[:EXAMINED])
        with torch.no_grad():
            return {"inverse_error": (self._from_latent(self._to_latent(y)[0]) - y).abs().max()}

    # Capabilities

    def likelihood_kind(self, samples: int | None) -> str:
        """With one draw of u, as the literature reports it, whatever `samples` is."""
        return "dequantised bound"

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        log_prior, log_det = self.log_prob(self.dequantise(x))
        return log_prior + log_det - self.spec.dims * math.log(self.spec.levels)

    def _to_latent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        z, log_det = self.transform(y)
        return z, log_det

    def _from_latent(self, z: Tensor) -> Tensor:
        return self.transform.inverse(z)

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """The latents of the middles of the levels, (x + 1/2) / levels."""
        return self._to_latent((x.to(self._like.dtype) + 0.5) / self.spec.levels)[0]

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level whose interval y falls into, or the nearest level."""
        levels = self.spec.levels
        return (self._from_latent(z) * levels).floor().clamp(0, levels - 1).to(torch.uint8)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From z ~ N(0, temperature^2 I)."""
        return self._latents_to_images(temperature * self._prior_draws(n, *y), *y)

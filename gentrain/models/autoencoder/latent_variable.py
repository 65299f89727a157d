"""What latent variable models share: p(x) = integral of p(z) p(x|z), bounded by way of q(z|x).

[1] Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114.
[2] Rezende, Mohamed & Wierstra 2014, "Stochastic Backpropagation and Approximate Inference in Deep
    Generative Models", arXiv:1401.4082.
[3] Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders", arXiv:1509.00519.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Independent

from gentrain.contracts import Batch, DataSpec, HasLikelihood, LikelihoodKind, Samples
from gentrain.distributions import Pixels
from gentrain.layers.encoder_decoder import EncoderDecoder
from gentrain.layers.gaussian import diagonal_gaussian, kl_from_standard, standard_gaussian


class LatentVariableModel(Samples, HasLikelihood):
    """p(z) = N(0, I), p(x|z) from a decoder, q(z|x) = N(mu(x), diag sigma(x)^2) from an encoder [1, 2].

    Where a method takes `*y`, that is the condition of each image of a conditional model, which both networks
    are given besides.

    Args:
        spec: what the images are.
        latent_dim: D, the number of latent dimensions.
        networks: the encoder [B, C, H, W] in [-1, 1] -> [B, 2 D], mu and log sigma before it is bounded;
            the decoder [B, D] -> [B, P * C, H, W], the parameters of `pixels`.
        pixels: p(x|z).
        sample_pixels: whether `sample` draws x ~ p(x|z), exact draws from the model at temperature 1, or
            takes the level nearest to its mean.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: int,
        networks: EncoderDecoder,
        pixels: Pixels,
        sample_pixels: bool,
    ) -> None:
        super().__init__(spec)
        self.latent_dim = latent_dim
        self.encoder, self.decoder = networks
        self.pixels = pixels
        self.sample_pixels = sample_pixels

    def prior(self) -> Independent:
        """p(z) = N(0, I), event shape [D]."""
        return standard_gaussian(self.latent_dim, self._like)

    def _posterior(self, x: Tensor, *y: Tensor) -> Independent:
        """q(z|x), unchecked: nothing here waits for the device."""
        return diagonal_gaussian(self.encoder(self.scaled(x), *y))

    def _likelihood(self, z: Tensor, *y: Tensor) -> Independent:
        """p(x|z), unchecked."""
        return self.pixels.distribution(self.decoder(z, *y))

    # Learning

    def elbo_terms(self, x: Tensor, *y: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of -ELBO with one draw of z, [1] equation 7 and appendix B.

        x uint8 [B, C, H, W] -> -log p(x|z) [B] with z ~ q(z|x) reparametrised, and KL(q(z|x) || p(z))
        [B] in closed form; both in nats per image.
        """
        q = self._posterior(x, *y)
        reconstruction = -self._likelihood(q.rsample(), *y).log_prob(x)
        return reconstruction, kl_from_standard(q).sum(1)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-ELBO in nats per image, averaged over the batch."""
        reconstruction, kl = self.elbo_terms(batch.x, *self.given(batch))
        terms = {"reconstruction": reconstruction.detach().mean(), "kl": kl.detach().mean()}
        return (reconstruction + kl).mean(), terms

    def log_weights(self, x: Tensor, q: Independent, k: int, *y: Tensor) -> Tensor:
        """log p(x, z_i) - log q(z_i|x) for k draws z_i ~ q(z|x), [k, B]; [3] equation 8."""
        z = q.rsample(torch.Size([k]))  # [k, B, D]
        p = self._likelihood(z.flatten(0, 1), *(part.repeat(k, *[1] * (part.ndim - 1)) for part in y))
        log_p_x = p.log_prob(for_draws(x, k)).unflatten(0, (k, -1))  # [k, B]
        return log_p_x + self.prior().log_prob(z) - q.log_prob(z)

    # Capabilities

    def likelihood_kind(self, samples: int | None) -> LikelihoodKind:
        """Without `samples` the KL is in closed form, with one draw of z; else [3] equation 8."""
        return "ELBO" if samples is None else f"IWAE-{samples}"

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        if samples is None:
            reconstruction, kl = self.elbo_terms(x, *y)
            return -(reconstruction + kl)

        def draws_of_one(k: int) -> Tensor:
            one = [part[:1] for part in (x, *y)]
            with torch.inference_mode():
                return self.log_weights(one[0], self._posterior(*one), k, *one[1:])

        pairs = self.at_once("log_weights", draws_of_one, in_cache=True)  # of an image and a draw
        # On a CPU few images at a time, each with many draws.
        images = max(1, pairs // samples) if x.device.type == "cpu" else pairs
        pieces = zip(*(part.split(images) for part in (x, *y)), strict=True)
        return torch.cat([self._weighted_bound(pairs, samples, *piece) for piece in pieces])

    def _weighted_bound(self, pairs: int, samples: int, x: Tensor, *y: Tensor) -> Tensor:
        """log 1/k sum_i w_i of k = `samples` draws, [B], at most `pairs` of an image and a draw at a time."""
        q = self._posterior(x, *y)
        total = torch.full((len(x),), -math.inf, dtype=q.mean.dtype, device=x.device)
        at_once = max(1, pairs // len(x))
        for start in range(0, samples, at_once):
            with torch.inference_mode():  # layers and p(x|z) compute as is quickest without a gradient
                log_w = self.log_weights(x, q, min(at_once, samples - start), *y).logsumexp(0)
            total = torch.logaddexp(total, log_w)
        return total - math.log(samples)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From z ~ N(0, temperature^2 I)."""
        z = temperature * self.prior().sample(torch.Size([n]))
        return self._images(z, *y, sample_pixels=self.sample_pixels)

    def _images(self, z: Tensor, *y: Tensor, sample_pixels: bool = False) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], drawn from p(x|z) or the level nearest to its mean."""
        p = self._likelihood(z, *y)
        return (p.sample() if sample_pixels else p.mean.round()).to(torch.uint8)


def for_draws(x: Tensor, k: int) -> Tensor:
    """x [B, C, H, W] -> [k * B, C, H, W], all images for each draw; a single one stands for all by itself."""
    return x if len(x) == 1 else x.repeat(k, 1, 1, 1)

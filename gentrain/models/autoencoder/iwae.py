"""The importance-weighted autoencoder, with one stochastic layer or more.

[1] Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders", arXiv:1509.00519.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.distributions import Independent

from gentrain.contracts import Batch, DataSpec, ImagesToLatents, Turn
from gentrain.distributions import Pixels
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.gaussian import diagonal_gaussian, standard_gaussian
from gentrain.layers.mlp import MLP
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder.latent_variable import LatentVariableModel, for_draws


class IWAE(LatentVariableModel, ImagesToLatents):
    """Trains on L_k = E[log 1/k sum_i p(x, h_i) / q(h_i|x)] with k draws h_i ~ q(h|x), [1] equation 8.

    p(h, x) = p(h_L) p(h_(L-1)|h_L) .. p(x|h_1) and q(h|x) = q(h_1|x) q(h_2|h_1) .. q(h_L|h_(L-1)), with
    p(h_L) = N(0, I) and every other factor over h a Gaussian from a fully connected network ([1]
    equations 1 and 5). With k = 1 it is a VAE; one stochastic layer is L = 1.

    For commands, the latents z [B, D] of all layers lie beside one another, and those of layer l < L are
    (h_l - mu) / sigma with mu and sigma of p(h_l|h_(l+1)): then p(z) = N(0, I) whatever L is.

    Args:
        spec: what the images are.
        latents: latent dimensions of h_1 .. h_L; D is their sum.
        hidden: hidden units of the network of q(h_l|h_(l-1)) for each layer l (h_0 is x); that of
            p(h_(l-1)|h_l) has them in reverse.
        activation: one of `layers.activation.ACTIVATIONS`.
        k: draws of h per image in training.
        warmup_k: draws of h per image in the first `warmup_steps` steps: a step costs nearly k times that
            of a VAE, and the networks learn most of what they learn with few draws.
        warmup_steps: how many; 0 = k from the first step on, as in [1].
        one_backward: whether the gradient is that of one of the k draws, chosen by its normalised weight: k
            passes forward and one backward per image, the same gradient on average ([1] section 3).
        likelihood: p(x|h_1), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|h_1) or takes their mean.

    Raises:
        ValueError: a setting out of its range, or `hidden` of another number of layers than `latents`.
    """

    latent_prior = "gaussian"

    def __init__(
        self,
        spec: DataSpec,
        *,
        latents: Sequence[int],
        hidden: Sequence[Sequence[int]],
        activation: str,
        k: int,
        warmup_k: int,
        warmup_steps: int,
        one_backward: bool,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latents", *latents)
        check_positive("k", k)
        check_positive("warmup_k", warmup_k)
        if warmup_k > k:
            raise ValueError(f"model.warmup_k must be at most model.k={k}, found {warmup_k}")
        if warmup_steps < 0:
            raise ValueError(f"model.warmup_steps must be at least 0, found {warmup_steps}")
        if len(hidden) != len(latents):
            raise ValueError(
                f"model.hidden must be {len(latents)} lists, one for each of model.latents, found {hidden}"
            )
        for units in hidden:
            check_positive("hidden", *units)
        pixels = Pixels.of(likelihood, spec.levels, mixtures)
        networks = encoder_decoder(
            "mlp",
            spec.shape,
            codes=2 * latents[0],
            latents=latents[0],
            start=pixels.start(spec.shape[0]),
            channels=[],
            hidden=hidden[0],
            activation_name=activation,
            black_is_zero=True,
        )
        super().__init__(
            spec,
            latent_dim=sum(latents),
            networks=networks,
            pixels=pixels,
            sample_pixels=sample_pixels,
        )
        self.latents = tuple(latents)
        self.k, self.warmup_k, self.warmup_steps = k, warmup_k, warmup_steps
        self.one_backward = one_backward
        layers = list(zip(latents, latents[1:], hidden[1:], strict=False))
        #: h_l -> parameters of q(h_(l+1)|h_l), and h_(l+1) -> parameters of p(h_l|h_(l+1)).
        self.up = nn.ModuleList(MLP([low, *units, 2 * high], activation) for low, high, units in layers)
        self.down = nn.ModuleList(
            MLP([high, *reversed(units), 2 * low], activation) for low, high, units in layers
        )

    def _noise(self, k: int, x: Tensor) -> list[Tensor]:
        """epsilon ~ N(0, I) of k draws of every h_l, [k, B, D_l] each."""
        return [torch.randn(k, len(x), d, dtype=self._like.dtype, device=x.device) for d in self.latents]

    def _negative_log_weights(
        self, x: Tensor, q: Independent, noise: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """-log p(x|h_1) and log q(h|x) - log p(h) at k draws h = mu + sigma epsilon of q(h|x), [k, B] each.

        q is q(h_1|x), noise epsilon of `_noise`.
        """
        k = len(noise[0])
        h = q.mean + q.stddev * noise[0]  # [k, B, D_1]
        p = super()._likelihood(h.flatten(0, 1))
        reconstruction = -p.log_prob(for_draws(x, k)).unflatten(0, (k, -1))
        log_ratio = q.log_prob(h)
        for up, down, epsilon in zip(self.up, self.down, noise[1:], strict=True):
            q = diagonal_gaussian(up(h))
            above = q.mean + q.stddev * epsilon  # [k, B, D_(l+1)]
            log_ratio = log_ratio + q.log_prob(above) - diagonal_gaussian(down(above)).log_prob(h)
            h = above
        return reconstruction, log_ratio - standard_gaussian(h.shape[-1], h).log_prob(h)

    def log_weights(self, x: Tensor, q: Independent, k: int, *y: Tensor) -> Tensor:
        """log p(x, h_i) - log q(h_i|x) for k draws h_i ~ q(h|x), [k, B]; q is q(h_1|x)."""
        reconstruction, log_ratio = self._negative_log_weights(x, q, self._noise(k, x))
        return -(reconstruction + log_ratio)

    def elbo_terms(self, x: Tensor, *y: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of -ELBO, [B] each in nats per image, with one draw of h.

        -log p(x|h_1), and log q(h|x) - log p(h), which is KL(q(h|x) || p(h)) on average: it has no closed
        form with more than one layer.
        """
        reconstruction, log_ratio = self._negative_log_weights(x, self._posterior(x), self._noise(1, x))
        return reconstruction[0], log_ratio[0]

    def turns(self) -> list[Turn]:
        """One, whose loss takes `k` draws from step `warmup_steps` on."""
        return [Turn("main", [self], self.loss, changes=[self.warmup_steps])]

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-L_k in nats per image, averaged over the batch.

        Its gradient is that of the log weights under the normalised weights w_i / sum_j w_j ([1] equation
        14), which is what logsumexp differentiates to; with `one_backward` an unbiased estimate of it. The
        terms logged are those of -ELBO over the same draws, and 1 / sum_i of the squared normalised
        weights: of k draws, how many count.
        """
        x, q = batch.x, self._posterior(batch.x)
        noise = self._noise(self.warmup_k if step < self.warmup_steps else self.k, x)
        through_one = self.one_backward and torch.is_grad_enabled()
        with torch.no_grad() if through_one else nullcontext():
            reconstruction, kl = self._negative_log_weights(x, q, noise)
            log_w = -(reconstruction + kl)  # [k, B]
            loss = math.log(len(log_w)) - log_w.logsumexp(0).mean()
        normalised = log_w.detach().softmax(0)
        if through_one:
            loss = self._through_one(x, q, noise, normalised, loss)
        terms = {
            "reconstruction": reconstruction.detach().mean(),
            "kl": kl.detach().mean(),
            "effective_samples": normalised.square().sum(0).reciprocal().mean(),
        }
        return loss, terms

    def _through_one(
        self, x: Tensor, q: Independent, noise: Sequence[Tensor], normalised: Tensor, loss: Tensor
    ) -> Tensor:
        """`loss` with the gradient of -log w_i alone, i drawn with probability `normalised` [k, B].

        [1] section 3, after equation 14.
        """
        # The smallest of k exponentials of rates w_i is the i-th with probability w_i; nothing waits.
        i = (torch.empty_like(normalised).exponential_() / normalised).argmin(0)  # [B]
        chosen = [e.gather(0, i[None, :, None].expand(1, -1, e.shape[-1])) for e in noise]  # [1, B, D_l]
        reconstruction, kl = self._negative_log_weights(x, q, chosen)
        through = (reconstruction + kl).mean()
        return through + (loss - through).detach()

    # Capabilities

    def _likelihood(self, z: Tensor, *y: Tensor) -> Independent:
        """p(x|z): z [B, D] of all layers, down to h_1."""
        *lower, h = z.split(self.latents, dim=1)
        for noise, down in zip(reversed(lower), reversed(self.down), strict=True):
            p = diagonal_gaussian(down(h))
            h = p.mean + p.stddev * noise
        return super()._likelihood(h)

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """z of the mean of q(h_1|x), that of q(h_2|h_1) there, and so on."""
        h = self._posterior(x).mean
        z = []
        for up, down in zip(self.up, self.down, strict=True):
            above = diagonal_gaussian(up(h)).mean
            p = diagonal_gaussian(down(above))
            z.append((h - p.mean) / p.stddev)
            h = above
        return torch.cat([*z, h], dim=1)

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level nearest to the mean of p(x|z)."""
        return self._images(z)

"""The denoising autoencoder, whose Markov chain samples: a generative stochastic network.

[1] Bengio, Yao, Alain & Vincent 2013, "Generalized Denoising Auto-Encoders as Generative Models",
    arXiv:1305.6663.
[2] Bengio, Thibodeau-Laufer, Alain & Yosinski 2014, "Deep Generative Stochastic Networks Trainable by
    Backprop", arXiv:1306.1091.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Independent

from gentrain.contracts import (
    Batch,
    DataSpec,
    GenerativeModel,
    ImagesToLatents,
    Samples,
    check_draws,
    check_images,
    refuse_label,
)
from gentrain.distributions import pixel_distribution, pixel_parameters
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder import vae
from gentrain.models.autoencoder.corruption import corruption as corruption_of
from gentrain.progress import track


class DAE(GenerativeModel, Samples, ImagesToLatents):
    """Learns p(x|x~), what a corrupted image x~ ~ C(x~|x) was; by this alone it knows p(x).

    The chain x~ ~ C(x~|x), x ~ p(x|x~) has a stationary distribution, and as p(x|x~) is learnt better
    that tends to the distribution of the data ([1] theorem 1).

    Args:
        spec: what the images are.
        network: one of `layers.encoder_decoder.NETWORKS`.
        latent_dim: D, units of the code between encoder and decoder.
        channels: conv: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: mlp: units of the encoder's hidden layers, the decoder has them in reverse; conv: one
            number, the units of the linear layer between feature maps and code.
        activation: one of `layers.activation.ACTIVATIONS`.
        corruption: C(x~|x), one of `corruption.CORRUPTIONS`.
        level: of the corruption: a probability, or the standard deviation with pixels in [0, 1].
        walkback: corrupted images in a row that each image is restored from in training; the second
            and later ones come from the chain, so that it learns to walk back from where it strays.
        chain_steps: steps of the chain from noise to a sample.
        likelihood: p(x|x~), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` shows the chain's state, or the mean of the p(x|x~) that it was
            drawn from, as the papers' figures do.

    Raises:
        ValueError: a setting out of its range, or images too small for the network.
    """

    latent_prior = "none"
    lacks = {  # noqa: RUF012 - ClassVar in the base class
        "eval": "the stationary distribution of a Markov chain has no density in closed form; "
        "for a likelihood train model=vae",
    }

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        latent_dim: int,
        channels: Sequence[int],
        hidden: Sequence[int],
        activation: str,
        corruption: str,
        level: float,
        walkback: int,
        chain_steps: int,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        super().__init__(spec)
        check_positive("latent_dim", latent_dim)
        check_positive("walkback", walkback)
        check_positive("chain_steps", chain_steps)
        self._latent_dim = latent_dim
        self._corruption = corruption_of(corruption, level)
        networks = encoder_decoder(
            network,
            spec.shape,
            codes=latent_dim,
            latents=latent_dim,
            start=vae.start_of_pixels(spec, likelihood, mixtures),
            channels=channels,
            hidden=hidden,
            activation_name=activation,
        )
        self.encoder, self.decoder = networks.encoder, networks.decoder
        self.walkback = walkback
        self.chain_steps = chain_steps
        self.likelihood = likelihood
        self.mixtures = mixtures
        self.sample_pixels = sample_pixels
        parameters = pixel_parameters(likelihood, spec.levels, mixtures) * spec.dims
        self._floats_per_image = 4 * networks.widest + 8 * parameters

    @property
    def latent_dim(self) -> int:
        """D, units of the code."""
        return self._latent_dim

    # The paper.

    def corrupt(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] in 0 .. levels-1 -> x~ ~ C(x~|x), with 0 .. 1 for the range of the levels."""
        return self._corruption(x.to(self._like.dtype) / (self.spec.levels - 1))

    def restore(self, corrupted: Tensor) -> Independent:
        """x~ [B, C, H, W] as from `corrupt` -> p(x|x~), batch shape [B], event shape [C, H, W]."""
        return self._likelihood(self.encoder(2 * corrupted - 1))

    def _likelihood(self, code: Tensor) -> Independent:
        return pixel_distribution(self.decoder(code), self.likelihood, self.spec.levels, self.mixtures)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x|x~) in nats per image, averaged over the batch and over `walkback` steps of the chain.

        Walkback is [1]'s training algorithm of that name, with a fixed number of steps as in [2].
        """
        x = batch.x
        state, errors = x, []
        for _ in range(self.walkback):
            p = self.restore(self.corrupt(state))
            errors.append(-p.log_prob(x).mean())
            if len(errors) < self.walkback:
                state = p.sample()
        return torch.stack(errors).mean(), {"first": errors[0].detach(), "last": errors[-1].detach()}

    # What commands ask for.

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W], from as many chains of `chain_steps` steps that start from noise.

        Raises:
            ValueError: a label, a temperature other than 1, or n below 0.
        """
        refuse_label(self, label)
        if temperature != 1:
            raise ValueError(f"temperature must be 1, found {temperature}: the chain has no latent noise")
        check_draws(n)
        at_once = max(1, vae.CHUNK_BYTES // (self._floats_per_image * self._like.element_size()))
        images = torch.empty(n, *self.spec.shape, dtype=torch.uint8, device=self._like.device)
        for start in range(0, n, at_once):
            images[start : start + at_once] = self._chain(min(at_once, n - start))
        return images

    def _chain(self, n: int) -> Tensor:
        """The ends of `n` chains, [n, C, H, W]."""
        state = torch.randint(0, self.spec.levels, (n, *self.spec.shape), device=self._like.device)
        for _ in track(range(self.chain_steps), "step"):
            p = self.restore(self.corrupt(state))
            state = p.sample()
        return state if self.sample_pixels else p.mean.round()

    @torch.no_grad()
    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"corrupted", "restored", "clean"}: what is shown of a batch, uint8 [B, C, H, W] each.

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(batch.x, self.spec)
        corrupted = self.corrupt(batch.x)
        shown = (corrupted.clamp(0, 1) * (self.spec.levels - 1)).round().to(torch.uint8)
        restored = self.restore(corrupted).mean.round().to(torch.uint8)
        return {"corrupted": shown, "restored": restored, "clean": batch.x}

    @torch.no_grad()
    def images_to_latents(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], not corrupted -> the code, [B, D].

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(x, self.spec)
        return self.encoder(x.to(self._like.dtype) * (2 / (self.spec.levels - 1)) - 1)

    @torch.no_grad()
    def latents_to_images(self, z: Tensor) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the level nearest to the mean of p(x|x~).

        Raises:
            ValueError: z of another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [B, {self.latent_dim}], found {list(z.shape)}")
        return self._likelihood(z.to(self._like.dtype)).mean.round().to(torch.uint8)

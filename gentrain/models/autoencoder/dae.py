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

from gentrain.contracts import Batch, DataSpec, ImagesToLatents, Samples
from gentrain.distributions import Pixels
from gentrain.layers.encoder_decoder import encoder_decoder
from gentrain.layers.settings import check_positive
from gentrain.models.autoencoder.corruption import corruption as corruption_of
from gentrain.progress import track


class DAE(Samples, ImagesToLatents):
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
        hidden: Sequence[int] | int,
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
        self.latent_dim = latent_dim
        self._corruption = corruption_of(corruption, level)
        self.pixels = Pixels.of(likelihood, spec.levels, mixtures)
        networks = encoder_decoder(
            network,
            spec.shape,
            codes=latent_dim,
            latents=latent_dim,
            start=self.pixels.start(spec.shape[0]),
            channels=channels,
            hidden=hidden,
            activation_name=activation,
        )
        self.encoder, self.decoder = networks
        self.walkback = walkback
        self.chain_steps = chain_steps
        self.sample_pixels = sample_pixels

    def corrupt(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] in 0 .. levels-1 -> x~ ~ C(x~|x), with 0 .. 1 for the range of the levels."""
        return self._corruption(x.to(self._like.dtype) / (self.spec.levels - 1))

    def restore(self, corrupted: Tensor) -> Independent:
        """x~ [B, C, H, W] as from `corrupt` -> p(x|x~), batch shape [B], event shape [C, H, W]."""
        return self._likelihood(self.encoder(2 * corrupted - 1))

    def _likelihood(self, code: Tensor) -> Independent:
        return self.pixels.distribution(self.decoder(code))

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

    # Capabilities

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """The ends of as many chains of `chain_steps` steps, which start from noise.

        Raises:
            ValueError: a temperature other than 1.
        """
        if temperature != 1:
            raise ValueError(f"temperature must be 1, found {temperature}: the chain has no latent noise")
        return self._chain(n, self.chain_steps)

    def _measure_sample(self, n: int, *y: Tensor) -> object:
        return self._chain(n, 1)

    def _chain(self, n: int, steps: int) -> Tensor:
        """The ends of `n` chains, uint8 [n, C, H, W]."""
        state = torch.randint(0, self.spec.levels, (n, *self.spec.shape), device=self._like.device)
        for _ in track(range(steps), "step"):
            p = self.restore(self.corrupt(state))
            state = p.sample()
        return (state if self.sample_pixels else p.mean.round()).to(torch.uint8)

    def _reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"corrupted", "restored", "clean"}."""
        corrupted = self.corrupt(batch.x)
        shown = (corrupted.clamp(0, 1) * (self.spec.levels - 1)).round().to(torch.uint8)
        restored = self.restore(corrupted).mean.round().to(torch.uint8)
        return {"corrupted": shown, "restored": restored, "clean": batch.x}

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """The code of an image that is not corrupted."""
        return self.encoder(self.scaled(x))

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """The level nearest to the mean of p(x|x~)."""
        return self._likelihood(z).mean.round().to(torch.uint8)

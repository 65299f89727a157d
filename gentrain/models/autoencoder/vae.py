"""The variational autoencoder.

[1] Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114.
[2] Rezende, Mohamed & Wierstra 2014, "Stochastic Backpropagation and Approximate Inference in Deep
    Generative Models", arXiv:1401.4082.
[3] Burda, Grosse & Salakhutdinov 2016, "Importance Weighted Autoencoders", arXiv:1509.00519.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from gentrain.contracts import (
    Batch,
    DataSpec,
    EncodesDecodes,
    GenerativeModel,
    HasLikelihood,
    ImagesToLatents,
    LikelihoodKind,
    Samples,
    check_draws,
    check_images,
    refuse_label,
)
from gentrain.distributions import initial_pixel_parameters, pixel_distribution, pixel_parameters
from gentrain.layers.encoder_decoder import EncoderDecoder, encoder_decoder
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.settings import check_positive

#: Bytes that one chunk of `log_likelihood`, `sample` or `latents_to_images` may take.
CHUNK_BYTES = 256 * 2**20
#: The same for a chunk of importance samples on a CPU, whose temporaries then stay in its caches.
CACHE_BYTES = 24 * 2**20
#: Importance samples that are decoded at once at least, where `CHUNK_BYTES` allows it.
MIN_AT_ONCE = 64
#: |log sigma| of q(z|x) stays below this, so that no precision overflows.
LOG_SIGMA_BOUND = 7.0


def diagonal_gaussian(parameters: Tensor) -> Independent:
    """N(mu, diag sigma^2) from a network's output [..., 2 D]: mu and log sigma before it is bounded.

    Half precision is widened to float32. Arguments are not validated, since that would wait for the device.

    Returns:
        Batch shape [...], event shape [D].
    """
    mu, log_sigma = at_least_float32(parameters).chunk(2, dim=-1)  # [..., D] each
    # A smooth bound keeps q a Gaussian, hence the ELBO a bound, and has a gradient everywhere.
    log_sigma = LOG_SIGMA_BOUND * torch.tanh(log_sigma / LOG_SIGMA_BOUND)
    return Independent(Normal(mu, log_sigma.exp(), validate_args=False), 1, validate_args=False)


def standard_gaussian(dimensions: int, like: Tensor) -> Independent:
    """N(0, I), event shape [dimensions], with the dtype and on the device of `like`."""
    zeros = torch.zeros(dimensions, dtype=like.dtype, device=like.device)
    return Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False)


def start_of_pixels(spec: DataSpec, likelihood: str, mixtures: int) -> Tensor:
    """[P * C], what a decoder puts out at first: see `initial_pixel_parameters`."""
    return initial_pixel_parameters(likelihood, spec.levels, mixtures).repeat_interleave(spec.shape[0])


def kl_from_standard(q: Independent) -> Tensor:
    """KL(N(mu_j, sigma_j^2) || N(0, 1)) of each dimension of q, [B, D] in nats; [1] appendix B."""
    return 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log())


class LatentVariableModel(GenerativeModel, Samples, HasLikelihood):
    """p(x) = integral of p(z) p(x|z) with p(z) = N(0, I), and its variational bounds from q(z|x).

    p(x|z) is made by a decoder, q(z|x) = N(mu(x), diag sigma(x)^2) by an encoder [1, 2]. Where a method
    takes `*y`, y [B, Y] is what a subclass conditions both networks on; here there is none.

    Args:
        spec: what the images are.
        latent_dim: D, the number of latent dimensions.
        networks: the encoder [B, C, H, W] in [-1, 1] -> [B, 2 D], mu and log sigma before it is bounded;
            the decoder [B, D] -> [B, P * C, H, W], the parameters of `pixel_distribution`.
        likelihood: p(x|z), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws x ~ p(x|z) or takes the level nearest to its mean.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: int,
        networks: EncoderDecoder,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        super().__init__(spec)
        self._latent_dim = latent_dim
        self.encoder = networks.encoder
        self.decoder = networks.decoder
        self.likelihood = likelihood
        self.mixtures = mixtures
        self.sample_pixels = sample_pixels
        # Input and output of the widest layer, and the temporaries of p(x|z); an upper estimate.
        parameters = pixel_parameters(likelihood, spec.levels, mixtures) * spec.dims
        self._floats_per_image = 4 * networks.widest + 8 * parameters

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return self._latent_dim

    # The paper.

    def prior(self) -> Independent:
        """p(z) = N(0, I), event shape [D]."""
        return standard_gaussian(self.latent_dim, self._like)

    def _posterior(self, x: Tensor, *y: Tensor) -> Independent:
        """q(z|x), unchecked: nothing here waits for the device."""
        pixels = x.to(self._like.dtype) * (2 / (self.spec.levels - 1)) - 1  # [B, C, H, W] in [-1, 1]
        return diagonal_gaussian(self.encoder(pixels, *y))

    def _likelihood(self, z: Tensor, *y: Tensor) -> Independent:
        """p(x|z), unchecked."""
        return pixel_distribution(self.decoder(z, *y), self.likelihood, self.spec.levels, self.mixtures)

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
        reconstruction, kl = self.elbo_terms(batch.x, *self._given(batch))
        terms = {"reconstruction": reconstruction.detach().mean(), "kl": kl.detach().mean()}
        return (reconstruction + kl).mean(), terms

    def log_weights(self, x: Tensor, q: Independent, k: int, *y: Tensor) -> Tensor:
        """log p(x, z_i) - log q(z_i|x) for k draws z_i ~ q(z|x), [k, B]; [3] equation 8."""
        z = q.rsample(torch.Size([k]))  # [k, B, D]
        p = self._likelihood(z.flatten(0, 1), *(part.repeat(k, 1) for part in y))
        log_p_x = p.log_prob(for_draws(x, k)).unflatten(0, (k, -1))  # [k, B]
        return log_p_x + self.prior().log_prob(z) - q.log_prob(z)

    # What commands ask for.

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, label: Tensor | None = None, samples: int | None = None
    ) -> tuple[Tensor, LikelihoodKind]:
        """A lower bound on log p(x), without gradient and in chunks of at most about `CHUNK_BYTES`.

        Args:
            x: uint8 [B, C, H, W].
            label: ignored by a model of p(x).
            samples: None: the ELBO with one draw of z and the KL in closed form, kind "ELBO". k >= 1:
                the importance-weighted bound of k draws ([3] equation 8), kind "IWAE-k".

        Returns:
            (bound [B] in nats per image, kind).

        Raises:
            ValueError: samples below 1, or images that the model was not built for.
        """
        check_images(x, self.spec)
        if samples is not None and samples < 1:
            raise ValueError(f"samples must be at least 1, found {samples}")
        bound = self._elbo if samples is None else partial(self._iwae, samples=samples)
        at_once = self._chunk() if samples is None else self._images_at_once(samples)
        kind = "ELBO" if samples is None else f"IWAE-{samples}"
        if not len(x):  # torch.distributions.Independent takes no empty batch
            return self._like.new_zeros(0), kind
        pieces = zip(*(part.split(at_once) for part in (x, *self._given(Batch(x, label)))), strict=True)
        return torch.cat([bound(*piece) for piece in pieces]), kind

    def _given(self, batch: Batch) -> tuple[Tensor, ...]:
        """(y,) that a subclass makes of what a batch says of its images."""
        return ()

    def _elbo(self, x: Tensor, *y: Tensor) -> Tensor:
        reconstruction, kl = self.elbo_terms(x, *y)
        return -(reconstruction + kl)

    def _iwae(self, x: Tensor, *y: Tensor, samples: int) -> Tensor:
        """log 1/k sum_i w_i of k = `samples` draws, [B], some of them at a time."""
        q = self._posterior(x, *y)
        total = torch.full((len(x),), -math.inf, dtype=q.mean.dtype, device=x.device)
        at_once = max(1, self._pairs() // len(x))
        for start in range(0, samples, at_once):
            with torch.inference_mode():  # layers and p(x|z) compute as is quickest without a gradient
                log_w = self.log_weights(x, q, min(at_once, samples - start), *y).logsumexp(0)
            total = torch.logaddexp(total, log_w)
        return total - math.log(samples)

    def _images_at_once(self, samples: int) -> int:
        """How many images share a chunk of importance samples: on a CPU few, each with many draws."""
        pairs = self._pairs()
        return max(1, pairs // samples) if self._like.device.type == "cpu" else pairs

    def _pairs(self) -> int:
        """How many pairs of an image and a draw of its latents `_iwae` takes at once."""
        if self._like.device.type != "cpu":
            return self._chunk()
        in_cache = CACHE_BYTES // (self._floats_per_image * self._like.element_size())
        return min(self._chunk(), max(MIN_AT_ONCE, in_cache))

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W], from z ~ N(0, temperature^2 I).

        With `sample_pixels` each pixel is drawn from p(x|z), and at temperature 1 an image is an exact
        draw from the model; without, it is the level nearest to the mean of p(x|z).

        Raises:
            ValueError: temperature not above 0 or not finite, n below 0, or a label.
        """
        refuse_label(self, label)
        return self._sample(n, temperature)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        check_draws(n, temperature)
        z = temperature * self.prior().sample(torch.Size([n]))
        return self._images(z, *y, sample_pixels=self.sample_pixels)

    def _images(self, z: Tensor, *y: Tensor, sample_pixels: bool) -> Tensor:
        images = torch.empty(len(z), *self.spec.shape, dtype=torch.uint8, device=z.device)
        for start in range(0, len(z), self._chunk()):
            piece = slice(start, start + self._chunk())
            p = self._likelihood(z[piece], *(part[piece] for part in y))
            images[piece] = (p.sample() if sample_pixels else p.mean.round()).to(torch.uint8)
        return images

    def _typical(self, z: Tensor) -> Tensor:
        """z [B, D], checked -> uint8 [B, C, H, W], the level nearest to the mean of p(x|z)."""
        self._check_latents(z)
        return self._images(z.to(self._like.dtype), sample_pixels=False)

    def _check_latents(self, z: Tensor) -> None:
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [B, {self.latent_dim}], found {list(z.shape)}")

    def _chunk(self) -> int:
        """How many latents to decode at once."""
        return max(1, CHUNK_BYTES // (self._floats_per_image * self._like.element_size()))


def for_draws(x: Tensor, k: int) -> Tensor:
    """x [B, C, H, W] -> [k * B, C, H, W], all images for each draw; a single one stands for all by itself."""
    return x if len(x) == 1 else x.repeat(k, 1, 1, 1)


class VAE(LatentVariableModel, EncodesDecodes, ImagesToLatents):
    """The variational autoencoder: a `LatentVariableModel` that shows its latents.

    Trained on -ELBO; constructor as there.
    """

    latent_prior = "gaussian"

    def encode(self, x: Tensor) -> Independent:
        """x uint8 [B, C, H, W] -> q(z|x), batch shape [B], event shape [D]."""
        check_images(x, self.spec)
        return self._posterior(x)

    def decode(self, z: Tensor) -> Independent:
        """z [B, D] -> p(x|z), batch shape [B], event shape [C, H, W], values 0 .. levels-1.

        Raises:
            ValueError: z of another shape.
        """
        self._check_latents(z)
        return self._likelihood(z.to(self._like.dtype))

    @torch.no_grad()
    def latents_to_images(self, z: Tensor) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the level nearest to the mean of p(x|z).

        Raises:
            ValueError: z of another shape.
        """
        return self._typical(z)

    @torch.no_grad()
    def images_to_latents(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> the mean of q(z|x), [B, D]."""
        return self.encode(x).mean


class ConvVAE(VAE):
    """A VAE whose networks are strided convolutions, for images of 8x8 pixels and more.

    Args:
        spec: what the images are.
        latent_dim: D, the number of latent dimensions.
        channels: feature maps of each stage; every stage halves height and width, rounded up.
        hidden: units of the linear layer between feature maps and latents.
        activation: one of `layers.activation.ACTIVATIONS`.
        dropout: probability with which an input of the encoder's linear layers is zeroed in training.
        likelihood: p(x|z), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|z) or takes their mean.

    Raises:
        ValueError: images below 8x8, or a setting out of its range.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: int,
        channels: Sequence[int],
        hidden: int,
        activation: str,
        dropout: float,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latent_dim", latent_dim)
        networks = encoder_decoder(
            "conv",
            spec.shape,
            codes=2 * latent_dim,
            latents=latent_dim,
            start=start_of_pixels(spec, likelihood, mixtures),
            channels=channels,
            hidden=[hidden],
            activation_name=activation,
            dropout=dropout,
        )
        super().__init__(
            spec,
            latent_dim=latent_dim,
            networks=networks,
            likelihood=likelihood,
            mixtures=mixtures,
            sample_pixels=sample_pixels,
        )


class MLPVAE(VAE):
    """A VAE whose networks are fully connected, as in [1] and [3]; for images of any size.

    Args:
        spec: what the images are.
        latent_dim: D, the number of latent dimensions.
        hidden: units of each hidden layer of the encoder; the decoder has them in reverse.
        activation: one of `layers.activation.ACTIVATIONS`.
        likelihood: p(x|z), one of `distributions.LIKELIHOODS`.
        mixtures: components of a logistic mixture.
        sample_pixels: whether `sample` draws the pixels from p(x|z) or takes their mean.

    Raises:
        ValueError: a setting out of its range.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        latent_dim: int,
        hidden: Sequence[int],
        activation: str,
        likelihood: str,
        mixtures: int,
        sample_pixels: bool,
    ) -> None:
        check_positive("latent_dim", latent_dim)
        networks = encoder_decoder(
            "mlp",
            spec.shape,
            codes=2 * latent_dim,
            latents=latent_dim,
            start=start_of_pixels(spec, likelihood, mixtures),
            channels=[],
            hidden=hidden,
            activation_name=activation,
            black_is_zero=True,
        )
        super().__init__(
            spec,
            latent_dim=latent_dim,
            networks=networks,
            likelihood=likelihood,
            mixtures=mixtures,
            sample_pixels=sample_pixels,
        )

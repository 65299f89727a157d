"""The generative adversarial network.

[1] Goodfellow et al. 2014, "Generative Adversarial Networks", arXiv:1406.2661.
[2] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
[3] Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", arXiv:1704.00028.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import (
    Batch,
    DataSpec,
    GenerativeModel,
    LatentsToImages,
    Samples,
    Turn,
    check_draws,
    refuse_label,
)
from gentrain.layers.batchnorm import evaluating, running_statistics_kept
from gentrain.layers.dcgan import DCGANDiscriminator, DCGANGenerator
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.mlp import MLP
from gentrain.layers.settings import check_choice, check_positive
from gentrain.models.adversarial.objectives import gradient_penalty, objective

#: Bytes that one chunk of `sample` or `latents_to_images` may take.
CHUNK_BYTES = 256 * 2**20
#: Samples whose `diversity` had reached the first number and falls below the second have collapsed. Two
#: images in equal shares have about half of the variance of all images, hence a `diversity` of about 0.7;
#: at 0.25 it is a sixteenth. A fall alone counts: the small initial weights make any run start at 0.25 or
#: less, and a generator that stays there is one that the discriminator tells apart.
DIVERSE, COLLAPSED = 0.5, 0.25
NETWORKS = ("dcgan", "mlp")
LATENTS = ("gaussian", "uniform")
#: Choices of `norm` and `generator_norm`.
NORM_CHOICES = ("auto", "batch", "layer", "none")
GENERATOR_NORM_CHOICES = ("auto", "batch", "none")


class GAN(GenerativeModel, Samples, LatentsToImages):
    """A generator G(z) against a discriminator D(x) [1], with the networks of [2] by default.

    A step is the discriminator's turn, then in every `n_critic`-th step the generator's, each on the same
    images and with noise of its own. A turn moves no parameter, no gradient and no buffer of the other
    player: the other one's BatchNorm layers normalise with the batch at hand, as always in training, but
    their running statistics stay. So the discriminator's statistics are of its own turn (first the real
    batch, then the fake one: [2] keeps them apart), the generator's of its own.

    Args:
        spec: what the images are.
        network: dcgan: convolutions as in [2], for heights and widths that are multiples of 4 from 8 up.
            mlp: fully connected as in [1], for images of any size, with LeakyReLU in the discriminator
            where [1] has maxout and dropout, and linear layers that start as in `layers.mlp.MLP`.
        channels: dcgan: maps of the discriminator's first and before the generator's last layer; they
            double with each stage away from the image.
        dense: dcgan: units of a fully connected layer on the latents' side of the smallest maps, in both
            networks, as Chen et al. 2016 (arXiv:1606.03657, appendix C.1) have for MNIST; 0: none, as in [2].
        hidden: mlp: units of the generator's hidden layers; the discriminator has them in reverse.
        latent_dim: D, the number of latent dimensions.
        latent: prior over z: gaussian, N(0, I), or uniform on [-1, 1]^D as in [2].
        objective: one of `objectives.OBJECTIVES`.
        penalty_weight: lambda of [3] equation 3; objectives other than wgan_gp ignore it.
        n_critic: the discriminator's turns per turn of the generator.
        norm: dcgan's discriminator: batch, layer or none; auto is batch, and layer under wgan_gp, whose
            penalty wants D(x) to depend on x alone ([3] section 4).
        generator_norm: dcgan's generator: batch or none; auto is batch.

    Raises:
        ValueError: a size that the network cannot take, or a setting out of its range.
    """

    lacks: ClassVar[Mapping[str, str]] = {
        "eval": "it is an implicit model, a sampler without a density p(x)",
        "reconstruct": "it maps latents to images and has no encoder back",
        "interpolate between images": "it has no encoder; without images= latents are drawn from the prior",
        "encode": "it maps latents to images and has no encoder back",
        "arithmetic with images": "it has no encoder; without images= latents are drawn from the prior",
    }

    def __init__(
        self,
        spec: DataSpec,
        *,
        network: str,
        channels: int,
        dense: int,
        hidden: Sequence[int],
        latent_dim: int,
        latent: str,
        objective: str,
        penalty_weight: float,
        n_critic: int,
        norm: str,
        generator_norm: str,
    ) -> None:
        super().__init__(spec)
        check_choice("network", network, NETWORKS)
        check_choice("latent", latent, LATENTS)
        check_choice("norm", norm, NORM_CHOICES)
        check_choice("generator_norm", generator_norm, GENERATOR_NORM_CHOICES)
        check_positive("channels", channels)
        if dense < 0:
            raise ValueError(f"model.dense must be at least 0, found {dense}")
        check_positive("hidden", *hidden)
        check_positive("latent_dim", latent_dim)
        check_positive("n_critic", n_critic)
        if not (math.isfinite(penalty_weight) and penalty_weight >= 0):
            raise ValueError(f"model.penalty_weight must be at least 0, found {penalty_weight}")
        self.objective = _objective(objective)
        self.penalty_weight = penalty_weight
        self.n_critic = n_critic
        self._latent_dim = latent_dim
        self._most_diverse = 0.0  # the largest `diversity` that `warnings` has seen in this session
        self.latent_prior = "gaussian" if latent == "gaussian" else "uniform"
        self.generator: nn.Module
        self.discriminator: nn.Module
        if network == "dcgan":
            if norm == "auto":
                norm = "layer" if self.objective.penalised else "batch"
            generator_norm = "batch" if generator_norm == "auto" else generator_norm
            self.generator = DCGANGenerator(latent_dim, spec.shape, channels, dense, generator_norm)
            self.discriminator = DCGANDiscriminator(spec.shape, channels, dense, norm)
            widest = self.generator.widest
        else:
            for key, value in (("norm", norm), ("generator_norm", generator_norm)):
                if value not in ("auto", "none"):
                    raise ValueError(
                        f"model.{key} must be auto or none with model.network=mlp, found {value!r}"
                    )
            to_image = nn.Unflatten(1, spec.shape)
            self.generator = nn.Sequential(MLP([latent_dim, *hidden, spec.dims], "relu"), nn.Tanh(), to_image)
            self.discriminator = nn.Sequential(
                nn.Flatten(), MLP([spec.dims, *reversed(hidden), 1], "leaky_relu"), nn.Flatten(0)
            )
            widest = max(*hidden, spec.dims)
        # Input and output of the widest layer, twice over for temporaries; an upper estimate.
        self._floats_per_image = 4 * widest

    @property
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""
        return self._latent_dim

    # The paper.

    def turns(self) -> list[Turn]:
        """The discriminator's, then the generator's; [1] algorithm 1."""
        twice = self.objective.penalised
        return [
            Turn("discriminator", [self.discriminator], self.discriminator_loss, double_backward=twice),
            Turn("generator", [self.generator], self.generator_loss, every=self.n_critic),
        ]

    def discriminator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's objective on a batch of images and as many of the generator's.

        Logs `d_real` and `d_fake`, the means of D(x) and D(G(z)): probabilities where the objective has
        them, outputs else; and `penalty` where there is one, before its weight.
        """
        x = self._scaled(batch.x)
        with torch.no_grad(), running_statistics_kept(self.generator):
            fake = self.generator(self._prior_draws(len(x)))  # [B, C, H, W]
        d_real = at_least_float32(self.discriminator(x))  # [B]
        d_fake = at_least_float32(self.discriminator(fake))  # [B]
        loss = self.objective.discriminator(d_real, d_fake)
        terms = {"d_real": self.objective.logged(d_real), "d_fake": self.objective.logged(d_fake)}
        if self.objective.penalised:
            with running_statistics_kept(self.discriminator):
                penalty = gradient_penalty(self.discriminator, x, fake)
            loss = loss + self.penalty_weight * penalty
            terms["penalty"] = penalty
        return loss, terms

    def generator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The generator's objective on as many draws as there are images.

        Logs `diversity`, how much the draws vary: the mean over pixels of their standard deviation over
        the batch, relative to the images'. 0: all are the same; about 1: as different as the images.
        """
        fake = self.generator(self._prior_draws(len(batch.x)))  # [B, C, H, W]
        with running_statistics_kept(self.discriminator):
            d_fake = at_least_float32(self.discriminator(fake))  # [B]
        with torch.no_grad():
            diversity = _spread(fake) / _spread(self._scaled(batch.x))
        return self.objective.generator(d_fake), {"diversity": diversity}

    def _scaled(self, x: Tensor) -> Tensor:
        """Levels 0 .. levels-1 to the range of tanh, [-1, 1]."""
        return x.to(self._like.dtype) * (2 / (self.spec.levels - 1)) - 1

    def _prior_draws(self, n: int) -> Tensor:
        """z [n, D] ~ p(z)."""
        like, shape = self._like, (n, self.latent_dim)
        if self.latent_prior == "uniform":
            return 2 * torch.rand(shape, dtype=like.dtype, device=like.device) - 1
        return torch.randn(shape, dtype=like.dtype, device=like.device)

    # What commands ask for.

    @torch.no_grad()
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W], from z = temperature * a draw from the prior.

        Raises:
            ValueError: temperature not above 0 or not finite, n below 0, or a label.
        """
        refuse_label(self, label)
        check_draws(n, temperature)
        return self.latents_to_images(temperature * self._prior_draws(n))

    @torch.no_grad()
    def latents_to_images(self, z: Tensor) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the level nearest to each pixel of G(z).

        BatchNorm uses its running statistics, in training mode too: an image depends on its own z alone.
        In chunks of at most about `CHUNK_BYTES`.

        Raises:
            ValueError: z of another shape.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be [B, {self.latent_dim}], found {list(z.shape)}")
        images = torch.empty(len(z), *self.spec.shape, dtype=torch.uint8, device=z.device)
        at_once = max(1, CHUNK_BYTES // (self._floats_per_image * self._like.element_size()))
        with evaluating(self.generator):
            for start in range(0, len(z), at_once):
                piece = slice(start, start + at_once)
                y = self.generator(z[piece].to(self._like.dtype))  # in [-1, 1]
                images[piece] = ((y + 1) / 2 * (self.spec.levels - 1)).round().to(torch.uint8)
        return images

    @torch.no_grad()
    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """`diversity`, as the generator's turn logs it, of as many samples as there are images in `batch`.

        None for a single image, or images that are all alike.
        """
        real = _spread(self._scaled(batch.x))
        if not real:
            return {}
        return {"diversity": _spread(self._scaled(self.sample(len(batch.x)))) / real}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line where the discriminator has won, and one where the samples have become all alike."""
        found = []
        d_real = figures.get("loss/discriminator/d_real", math.nan)
        d_fake = figures.get("loss/discriminator/d_fake", math.nan)
        limits = self.objective.saturation
        if limits is not None and d_real > limits[0] and d_fake < limits[1]:
            found.append(
                f"the discriminator tells all images apart (d_real above {limits[0]}, d_fake below "
                f"{limits[1]}) and the generator learns little from it; lower optim.discriminator.lr, or "
                "set model.objective=wgan_gp model.n_critic=5"
            )
        diversity = figures.get("loss/generator/diversity", math.nan)
        if diversity > self._most_diverse:  # false for not-a-number
            self._most_diverse = diversity
        if self._most_diverse >= DIVERSE and diversity < COLLAPSED:
            found.append(
                f"the samples have become nearly all alike (diversity below {COLLAPSED} of the images'): the "
                "generator has collapsed; lower optim.generator.lr, or set model.objective=wgan_gp "
                "model.n_critic=5"
            )
        return found


def _spread(images: Tensor) -> Tensor:
    """[B, C, H, W] -> the mean over pixels of their standard deviation over the batch."""
    return images.std(0, correction=0).mean()


#: Inside the class `objective` is the setting.
_objective = objective

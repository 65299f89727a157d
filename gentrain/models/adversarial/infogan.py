"""The GAN whose latents have codes that can be found again in its images.

[1] Chen et al. 2016, "InfoGAN: Interpretable Representation Learning by Information Maximizing
    Generative Adversarial Nets", arXiv:1606.03657.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gentrain.contracts import Batch, Code, DataSpec, HasCodes
from gentrain.layers.dcgan import SLOPE, DCGANDiscriminator, DCGANGenerator, initialise, normalisation
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.settings import check_positive, check_weight
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.game import Contest

#: Units of the layer between the discriminator's trunk and what is found of the codes, [1] appendix C.1.
UNITS = 128


class InfoGAN(Adversarial, HasCodes):
    """z = (noise, codes); Q(c|x) on the discriminator's trunk finds the codes of fakes again [1].

    Both players minimise -L_I besides, [1] equations 5 and 6: for a categorical code the cross entropy of Q,
    for a uniform one half the squared distance to Q's mean, minus the logarithm of a Gaussian of width 1, as
    in the paper's code. [1] section 6 takes a smaller lambda for those; its code takes the same.

    Logs, for each code, `information_<name>`: a lower bound on its mutual information with G's images in
    nats, H(c) + E log Q(c|x), [1] equation 4. Of a uniform code Q's width is there the root mean square of
    the batch's distances, the best one.

    Args:
        spec: what the images are; heights and widths that are multiples of 4 from 8 up.
        codes: name:categories, as `digit:10`, or the name alone for a code that is uniform on [-1, 1].
        info_weight: lambda of [1] equation 3, of all codes.
        uniform_weight: of uniform codes, times lambda.
        channels, dense: of the networks, as for `GAN` with network=dcgan; 64 and 1024 in [1] for MNIST.
        settings: of `Adversarial`; latent_dim and latent are of the noise, without the codes.

    Raises:
        ValueError: codes that are not as above, a size that the networks cannot take, or a setting out of
            its range.
    """

    discriminator: DCGANDiscriminator
    formerly: ClassVar[Mapping[str, Any]] = {"uniform_weight": 1.0}
    training_only = ()  # the discriminator's trunk finds the codes of images

    def __init__(
        self,
        spec: DataSpec,
        *,
        codes: Sequence[str],
        info_weight: float,
        uniform_weight: float,
        channels: int,
        dense: int,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_positive("channels", channels)
        check_weight("dense", dense)
        check_weight("info_weight", info_weight)
        check_weight("uniform_weight", uniform_weight)
        self.info_weight, self.uniform_weight = info_weight, uniform_weight
        self.noise_dim, self._noise_prior = self.latent_dim, self.latent_prior
        self.codes = codes_named(codes, self.noise_dim)
        self.latent_dim = self.codes[-1].place.stop
        self.latent_prior = "uniform"  # between codes there is no sphere
        norm = "layer" if self.objective.penalised else "batch"
        self.generator = DCGANGenerator(self.latent_dim, spec.shape, channels, dense, "batch")
        self.discriminator = DCGANDiscriminator(spec.shape, channels, dense, norm)
        self.recogniser = nn.Sequential(
            nn.Linear(self.discriminator.units, UNITS, bias=False),
            normalisation(norm, UNITS, flat=True),
            nn.LeakyReLU(SLOPE),
            nn.Linear(UNITS, sum(code.width for code in self.codes)),
        )
        initialise(self.recogniser)

    def players(self) -> dict[str, list[nn.Module]]:
        """Q learns with the trunk that it shares."""
        return {"discriminator": [self.discriminator, self.recogniser], "generator": [self.generator]}

    def look(self, *shown: Tensor) -> tuple[Tensor, Tensor | None]:
        """D's output, and the trunk's features."""
        h = self.discriminator.features(*shown)
        return self.discriminator.output(h), h

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """-lambda L_I up to a constant, [1] equation 5, and the bound of each code."""
        (z,) = contest.drawn
        asked = at_least_float32(self.recogniser(found))
        loss, terms = z.new_zeros(()), {}
        for code, output in zip(self.codes, asked.split([code.width for code in self.codes], 1), strict=True):
            c = z[:, code.place].to(output.dtype)
            if code.categories is None:
                square = (output - c).square().mean()
                loss = loss + self.uniform_weight * square / 2
                # H of U[-1, 1] is ln 2; that of a Gaussian of this variance is the cross entropy.
                information = math.log(2) - (2 * math.pi * math.e * square.detach()).log() / 2
            else:
                cross = F.cross_entropy(output, c.argmax(1))
                loss = loss + cross
                information = math.log(code.categories) - cross.detach()
            terms[f"information_{code.name}"] = information
        return self.info_weight * loss, terms

    # Capabilities

    def _prior_draws(self, n: int, *y: Tensor) -> Tensor:
        """z [n, D]: the noise, then the codes."""
        like = self._like
        noise = torch.randn(n, self.noise_dim, dtype=like.dtype, device=like.device)
        if self._noise_prior == "uniform":
            noise = 2 * torch.rand(n, self.noise_dim, dtype=like.dtype, device=like.device) - 1
        return torch.cat([noise, *(code.drawn(n, like) for code in self.codes)], 1)

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """From noise times the temperature, and codes as they are drawn."""
        z = self._prior_draws(n, *y)
        scale = torch.ones_like(z[0])
        scale[: self.noise_dim] = temperature
        return self._latents_to_images(scale * z, *y)

    def _codes_of(self, x: Tensor) -> Tensor:
        """Probabilities of categories, means of numbers."""
        found = self.recogniser(self.discriminator.features(self.scaled(x)))
        parts = zip(self.codes, found.split([code.width for code in self.codes], 1), strict=True)
        return torch.cat([part.softmax(1) if code.categories else part for code, part in parts], 1)


def codes_named(names: Sequence[str], begin: int) -> tuple[Code, ...]:
    """The codes that `names` describe, one after the other in z from `begin`.

    Raises:
        ValueError: none, a name twice, or what is neither `name` nor `name:categories`.
    """
    codes: list[Code] = []
    for text in names:
        name, colon, count = str(text).partition(":")
        good = name.isidentifier() and (not colon or (count.isdecimal() and int(count) >= 2))
        if not good or name in [code.name for code in codes]:
            raise ValueError(
                "model.codes must be different names, of categories with their number from 2 up, as "
                f"digit:10, found {text!r}"
            )
        codes.append(Code(name, begin, int(count) if colon else None))
        begin = codes[-1].place.stop
    if not codes:
        raise ValueError("model.codes must be at least one, e.g. [category:10], found an empty list")
    return tuple(codes)

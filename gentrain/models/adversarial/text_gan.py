"""The text-conditional GAN: images of captions, p(x|words).

[1] Reed et al. 2016, "Generative Adversarial Text to Image Synthesis", arXiv:1605.05396.
[2] Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional
    Generative Adversarial Networks", arXiv:1511.06434.
[3] Mao et al. 2019, "Mode Seeking Generative Adversarial Networks for Diverse Image Synthesis",
    arXiv:1903.05628.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec, MixesConditions
from gentrain.layers.dcgan import SLOPE, DCGANDiscriminator, DCGANGenerator, initialise, normalisation
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.settings import check_positive, check_weight
from gentrain.layers.word_encoder import WordEncoder
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.game import Contest, Shown

#: Captions that a trained model remembers, to be drawn where none is given.
REMEMBERED = 64
#: Keeps the reward of images that are the same finite, as in the authors' code of [3].
_SMALL = 1e-5


def mode_distance(x: Tensor, x2: Tensor, z: Tensor, z2: Tensor) -> Tensor:
    """How far images lie apart for how far their latents do, what [3] maximises: a mean over pairs, [].

    The authors' code has the ratio of the batch's two means.

    Args:
        x, x2: two images of each condition, [B, C, H, W].
        z, z2: what they were made from, [B, D].
    """
    pictures, latents = (at_least_float32(a - b).abs().flatten(1).mean(1) for a, b in ((x, x2), (z, z2)))
    return (pictures / latents.clamp_min(_SMALL)).mean()


class Told(nn.Module):
    """A caption as a network is told it: its vector, made smaller, [1] section 4.1.

    Vectors that are given, floating [B, E], stay as they are: mixtures of several captions'.
    """

    def __init__(self, words: int, text: int, both_ways: bool, size: int) -> None:
        super().__init__()
        self.encoder = WordEncoder(words, text, both_ways)
        self.small = nn.Sequential(nn.Linear(text, size), nn.LeakyReLU(SLOPE))

    def forward(self, y: Tensor) -> Tensor:
        """y int64 [B, T], or vectors [B, E] -> [B, size]."""
        found: Tensor = self.small(y if y.is_floating_point() else self.encoder(y))
        return found


class TextGenerator(nn.Module):
    """G(z, caption): what is told of the caption stands beside the latents, [1] figure 2."""

    def __init__(self, net: nn.Module, told: Told) -> None:
        super().__init__()
        self.net, self.told = net, told

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, T] or [B, E] -> [B, C, H, W]."""
        found: Tensor = self.net(torch.cat([z, self.told(y).to(z.dtype)], 1))
        return found


class TextDiscriminator(nn.Module):
    """D(x, caption): what is told stands at every place of the smallest maps, [1] figure 2.

    Stride-2 convolutions of the image [2], a 1x1 convolution of maps and caption together, a linear output.
    """

    def __init__(self, shape: tuple[int, int, int], channels: int, norm: str, told: Told, size: int) -> None:
        super().__init__()
        plain = DCGANDiscriminator(shape, channels, 0, norm)
        self.convs, self.told = plain.net[:-2], told
        with torch.no_grad():
            _, maps, height, width = self.convs(torch.zeros(2, *shape)).shape
        both = nn.Conv2d(maps + size, maps, 1, bias=norm == "none")
        self.joined = nn.Sequential(both, normalisation(norm, maps), nn.LeakyReLU(SLOPE))
        self.output = nn.Linear(maps * height * width, 1)
        self._read: tuple[Tensor, Tensor] | None = None
        for net in (self.joined, self.output):
            initialise(net)

    @contextmanager
    def reading_once(self) -> Iterator[None]:
        """Context in which captions that are shown again, the same tensor, are not read again."""
        self._read = (torch.empty(0), torch.empty(0))
        try:
            yield
        finally:
            self._read = None

    def _told(self, y: Tensor) -> Tensor:
        if self._read is None:
            return self.told(y)
        if self._read[0] is not y:
            self._read = (y, self.told(y))
        return self._read[1]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """x [B, C, H, W], y [B, T] or [B, E] -> [B]."""
        h = self.convs(x)
        told = self._told(y).to(h.dtype)[:, :, None, None].expand(-1, -1, *h.shape[2:])
        found: Tensor = self.output(self.joined(torch.cat([h, told], 1)).flatten(1))
        return found.squeeze(1)


class TextGAN(Adversarial, MixesConditions):
    """GAN-CLS [1]: the discriminator refuses fakes, and images with the caption of another image.

    Algorithm 1: a real image with its caption is real; a real image with a wrong one and a fake with the
    caption that it was made for are fake, with half of the weight each. Either player reads captions with an
    encoder of words of its own, which learns with it.

    Args:
        spec: what the images are, with captions; heights and widths that are multiples of 4 from 8 up.
        channels: maps of both networks next to the image.
        text: E, numbers of a caption's vector.
        both_ways: whether words are read backwards too, for half of the vector.
        told: numbers that it is made into for either network; 128 in [1].
        mismatched: whether images with wrong captions are shown, GAN-CLS; false: a plain conditional GAN.
        interpolate_weight: of the generator's fakes for captions half between two of the batch, GAN-INT [1]
            section 4.3; 0: none are made. 1 is the paper's.
        mode_seeking_weight: of the generator's reward for images of one caption that differ as their latents
            do [3]; 0: none, and the latents may come to say nothing.
        settings: of `Adversarial`.

    Raises:
        ValueError: images without captions, a size that the networks cannot take, or a setting out of its
            range.
    """

    takes: ClassVar[tuple[str, ...]] = ("caption",)
    formerly: ClassVar[Mapping[str, Any]] = {"both_ways": False, "mode_seeking_weight": 0.0}
    generator: TextGenerator
    discriminator: TextDiscriminator
    examples: Tensor

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        text: int,
        both_ways: bool,
        told: int,
        mismatched: bool,
        interpolate_weight: float,
        mode_seeking_weight: float,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_positive("channels", channels)
        check_positive("text", text)
        check_positive("told", told)
        check_weight("interpolate_weight", interpolate_weight)
        check_weight("mode_seeking_weight", mode_seeking_weight)
        condition = self.condition_of(spec)
        self.mismatched, self.mixed_size = mismatched, text
        self.interpolate_weight, self.mode_seeking_weight = interpolate_weight, mode_seeking_weight
        norm = "layer" if self.objective.penalised else "batch"
        makes = DCGANGenerator(self.latent_dim + told, spec.shape, channels, 0, "batch")
        self.generator = TextGenerator(makes, Told(condition.size, text, both_ways, told))
        told_d = Told(condition.size, text, both_ways, told)
        self.discriminator = TextDiscriminator(spec.shape, channels, norm, told_d, told)
        self.register_buffer("examples", condition.in_turn(REMEMBERED, torch.device("cpu")))

    def data_dependent_init(self, batch: Batch) -> None:
        """Captions of the first batch are remembered: what is drawn where no caption is given."""
        (y,) = self.given(batch)
        self.examples.copy_(y[torch.arange(REMEMBERED, device=y.device) % len(y)])

    def in_turn(self, n: int) -> Tensor:
        """The remembered captions in turn: int64 [n, T]."""
        return self.examples[torch.arange(n, device=self.examples.device) % REMEMBERED]

    # Learning

    def discriminator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """As `Game` says; captions are read once for the three kinds of pairs."""
        with self.discriminator.reading_once():
            return super().discriminator_loss(batch, step)

    def refused(self, contest: Contest) -> Shown | None:
        """Each caption with the real image of the one before it: the mismatching pairs of [1]."""
        if not self.mismatched:
            return None
        x, y = contest.real
        return (x.roll(1, 0), y)

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Of the generator: fakes between two captions, and how far apart a caption's fakes are."""
        if turn != "generator":
            return None, {}
        _, y = contest.real
        (z,) = contest.drawn
        more, terms = [], {}
        if self.interpolate_weight:  # [1] equation 5, with beta = 1/2
            between = torch.stack([y, y.roll(1, 0)], 1)  # [B, 2, T]
            terms["between"] = self.objective.generator(self.judged((self.generator(z, between), between)))
            more.append(self.interpolate_weight * terms["between"])
        if self.mode_seeking_weight:
            other = self._prior_draws(len(z), y)
            terms["apart"] = mode_distance(contest.fake[0], self.generator(other, y), z, other)
            more.append(self.mode_seeking_weight / (terms["apart"] + _SMALL))
        return (torch.stack(more).sum() if more else None), terms

    # Capabilities

    def _vectors_of(self, y: Tensor) -> Tensor:
        """y int64 [B, T] -> the generator's vectors of captions [B, E]."""
        return self.generator.told.encoder(y)

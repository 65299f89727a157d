"""CycleGAN: two domains, there and back, without pairs.

[1] Zhu, Park, Isola & Efros 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial
    Networks", arXiv:1703.10593.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.buffers import buffers_kept
from gentrain.contracts import Batch, DataSpec, TranslatesBack, Turn
from gentrain.layers.half_precision import at_least_float32
from gentrain.layers.past_images import PastImages
from gentrain.layers.patch_discriminator import PatchDiscriminator
from gentrain.layers.residual_generator import ResidualGenerator
from gentrain.layers.settings import WrongSize, check_positive, check_weight
from gentrain.models.adversarial.objectives import least_squares, least_squares_generator


class CycleGAN(TranslatesBack):
    """G: A -> B and F: B -> A, against a discriminator of patches in each domain, least squares [1] section
    4.

    G(F(x)) is to be x and F(G(s)) to be s, [1] equation 2. A, the domain of `source`, is where translation
    begins, B where it ends. Discriminators are shown past fakes among the new ones. What keeps the loss low
    need not be what was meant: a map that swaps classes, or light and dark, goes there and back as well.
    Where B cannot say all that A does, as digits cannot of the photographs that they stood on, the way
    A -> B -> A has it hidden in what should be an image of B; without it G is held by B -> A -> B alone.

    Args:
        spec: what the images of both domains are, of one size.
        channels: maps of the generators' first layers.
        blocks: of the generators; 6 in [1] at 128 pixels, 9 at 256.
        patch_channels: maps of the discriminators' first layers.
        patch_depth: layers of a discriminator that halve the sides: 1, 2 or 3 see 16, 34 or 70 pixels.
        cycle_weight: lambda of [1] equation 3.
        forward_cycle: of the way A -> B -> A, relative to `cycle_weight`; 0: GAN and backward cycle of
            [1] section 5.1.
        identity_weight: of |G(x) - x| and |F(s) - s|, relative to `cycle_weight`, [1] section 5.2; needs as
            many channels in both domains.
        pool: past fakes that a discriminator may be shown.

    Raises:
        ValueError: a setting out of its range, images of one domain, or sides that the networks cannot take.
    """

    merit = None
    training_only: ClassVar[tuple[str, ...]] = ("of_a", "of_b", "past_a", "past_b")
    formerly: ClassVar[Mapping[str, Any]] = {"forward_cycle": 1.0}

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        blocks: int,
        patch_channels: int,
        patch_depth: int,
        cycle_weight: float,
        forward_cycle: float,
        identity_weight: float,
        pool: int,
    ) -> None:
        super().__init__(spec)
        check_positive("channels", channels)
        check_positive("blocks", blocks)
        check_weight("cycle_weight", cycle_weight)
        check_weight("forward_cycle", forward_cycle)
        check_weight("identity_weight", identity_weight)
        if pool < 0:
            raise ValueError(f"model.pool must be at least 0, found {pool}")
        if spec.source_shape is None:
            raise ValueError(
                "dataset: its images are of one domain; take dataset=domains, or make another: "
                "dataset.source=invert dataset.paired=false"
            )
        (a, h_a, w_a), (b, height, width) = spec.source_shape, spec.shape
        if (h_a, w_a) != (height, width) or height % 4 or width % 4 or min(height, width) < 8:
            raise WrongSize(
                "both domains' images have to be of one size, sides that are multiples of 4 from 8 up, found "
                f"{h_a}x{w_a} and {height}x{width}"
            )
        if identity_weight and a != b:
            raise ValueError(
                f"model.identity_weight={identity_weight:g} compares images of {a} and of {b} channels; set "
                "model.identity_weight=0"
            )
        self.to_b, self.to_a = (
            ResidualGenerator(a, b, channels, blocks),
            ResidualGenerator(b, a, channels, blocks),
        )
        self.of_b, self.of_a = (PatchDiscriminator(n, patch_channels, patch_depth) for n in (b, a))
        self.of_a.check(height, width)
        self.past_b, self.past_a = PastImages(pool, spec.shape), PastImages(pool, spec.source_shape)
        self.cycle_weight, self.identity_weight = cycle_weight, identity_weight
        self.forward_cycle = forward_cycle

    # Learning

    def turns(self) -> list[Turn]:
        """Both generators, then both discriminators, as in [1]'s code."""
        return [
            Turn("generator", [self.to_a, self.to_b], self.generator_loss),
            Turn("discriminator", [self.of_a, self.of_b], self.discriminator_loss),
        ]

    def _domains(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images of A and of B, [B, C, H, W] in [-1, 1] each."""
        if batch.source is None:
            raise ValueError("the batch has no images of the other domain (source)")
        return self.scaled(batch.source), self.scaled(batch.x)

    def generator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """[1] equation 3, and the identity term; logs each, and how alike light and dark stay.

        `alike_b`: the correlation over pixels between an image of A and its translation (their means over
        channels); below 0 where light has become dark.
        """
        a, b = self._domains(batch)
        fake_b, fake_a = self.to_b(a), self.to_a(b)
        fooled = _judge(self.of_b, fake_b, least_squares_generator) + _judge(
            self.of_a, fake_a, least_squares_generator
        )
        forward = _there_and_back(a, fake_b, self.to_a, learn=self.cycle_weight * self.forward_cycle > 0)
        backward = _there_and_back(b, fake_a, self.to_b, learn=self.cycle_weight > 0)
        loss = fooled + self.cycle_weight * (self.forward_cycle * forward + backward)
        cycle = (forward + backward).detach()
        terms = {"fooled": fooled.detach(), "cycle": cycle, "alike_b": _alike(a, fake_b)}
        if self.identity_weight:
            same = (self.to_b(b) - b).abs().mean() + (self.to_a(a) - a).abs().mean()
            loss = loss + self.cycle_weight * self.identity_weight * same
            terms["identity"] = same.detach()
        return loss, terms

    def discriminator_loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Least squares in each domain, against past fakes and new; logs the means `d_real` and `d_fake`."""
        a, b = self._domains(batch)
        with torch.no_grad(), buffers_kept(self.to_a, self.to_b):
            new_b, new_a = self.to_b(a), self.to_a(b)
        fake_b, fake_a = self.past_b(new_b), self.past_a(new_a)
        outputs = [
            at_least_float32(net(images))
            for net, images in ((self.of_a, a), (self.of_a, fake_a), (self.of_b, b), (self.of_b, fake_b))
        ]
        loss = least_squares(outputs[0], outputs[1]) + least_squares(outputs[2], outputs[3])
        means = [output.detach().mean() for output in outputs]
        return loss, {"d_real": (means[0] + means[2]) / 2, "d_fake": (means[1] + means[3]) / 2}

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """A line where light has become dark: the loss does not mind, the user may."""
        if figures.get("loss/generator/alike_b", 0.0) < -0.5:
            return [
                "what is light in one domain has become dark in the other (alike_b below -0.5): if that is "
                "not meant, start again with another seed=, or set model.identity_weight=0.5"
            ]
        return []

    # Capabilities

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        return self.levels_of(self.to_b(self.scaled(source)))

    def _translate_back(self, x: Tensor, *y: Tensor) -> Tensor:
        return self.levels_of(self.to_a(self.scaled(x)))


def _judge(net: nn.Module, images: Tensor, objective: object) -> Tensor:
    """What a generator minimises of its images, every patch counting alike."""
    assert callable(objective)
    found: Tensor = objective(at_least_float32(net(images)))
    return found


def _there_and_back(x: Tensor, translated: Tensor, back: nn.Module, learn: bool) -> Tensor:
    """The L1 distance between images and what comes back of their translations: scalar.

    Without gradients where nothing is to be learnt from it and it is only shown.
    """
    with nullcontext() if learn else torch.no_grad():
        distance: Tensor = (back(translated) - x).abs().mean()
    return distance


@torch.no_grad()
def _alike(a: Tensor, b: Tensor) -> Tensor:
    """The correlation between the pixels of two batches of images, [B, C, H, W] and [B, C', H, W]: scalar."""
    one, other = (at_least_float32(x.detach()).mean(1).flatten() for x in (a, b))
    one, other = one - one.mean(), other - other.mean()
    return (one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-12)

"""Pix2Pix: from one picture to its partner.

[1] Isola, Zhu, Zhou & Efros 2017, "Image-to-Image Translation with Conditional Adversarial Networks",
    arXiv:1611.07004.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec, Translates, Turn
from gentrain.layers.patch_discriminator import PatchDiscriminator
from gentrain.layers.settings import check_positive, check_weight
from gentrain.layers.unet import UNet
from gentrain.models.adversarial.game import Contest, Game, Shown


class OfPairs(nn.Module):
    """D(x, s): the mean output over patches of an image beside what it was made from."""

    def __init__(self, net: PatchDiscriminator) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """x [B, C, H, W], source [B, C', H, W] -> [B, h, w]: an output for each patch."""
        found: Tensor = self.net(torch.cat([x, source.to(x.dtype)], 1))
        return found.squeeze(1)


class Pix2Pix(Game, Translates):
    """A U-Net G(s) against a discriminator of patches of pairs, with an L1 distance to the truth [1]
    equation 4.

    Its only noise is dropout, in translating too, so that the same source gives little else each time ([1]
    section 3.1). Each image is normalised by itself, as [1] does with batches of one.

    Args:
        spec: what the images and their partners are, of one size.
        channels: maps of G's first layer.
        dropout: of G's three innermost layers.
        noise: whether features are dropped in translating too.
        patch_channels: maps of D's first layer.
        patch_depth: layers of D that halve the sides: 1, 2 or 3 see patches of 16, 34 or 70 pixels.
        l1_weight: lambda of [1] equation 4.
        adversarial: false: the L1 distance alone, without a discriminator; to compare with.
        settings: of `Game`.

    Raises:
        ValueError: a setting out of its range, images without partners or partners of another size, or sides
            below 8 pixels or below a patch.
    """

    one_pass = True
    lacks = Translates.lacks

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        dropout: float,
        noise: bool,
        patch_channels: int,
        patch_depth: int,
        l1_weight: float,
        adversarial: bool,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_positive("channels", channels)
        check_weight("l1_weight", l1_weight)
        if not 0 <= dropout < 1:
            raise ValueError(f"model.dropout must be at least 0 and below 1, found {dropout}")
        if spec.source_shape is not None and not spec.paired:
            raise ValueError(
                "dataset: its two domains are not paired; take dataset=pairs (of images with dataset.source= "
                "dataset.paired=true), or model=cyclegan"
            )
        if spec.source_shape is None:
            raise ValueError(
                "dataset: its images have no partners to be made from; take dataset=pairs, or make them: "
                "dataset.source=grey"
            )
        if spec.source_shape[1:] != spec.shape[1:]:
            size, other = ("x".join(map(str, shape[1:])) for shape in (spec.shape, spec.source_shape))
            raise ValueError(
                f"partners of {size} pixels have to be of that size too, found {other}; take another "
                "dataset.source"
            )
        if self.objective.penalised:
            raise ValueError("model.objective=wgan_gp has a penalty, which patches of pairs do not take")
        source, (image, height, width) = spec.source_shape[0], spec.shape
        self.generator = UNet(source, image, (height, width), channels, dropout)
        self.generator.always = noise
        self.l1_weight = l1_weight
        self.discriminator: nn.Module = nn.Identity()
        if adversarial:
            patches = PatchDiscriminator(source + image, patch_channels, patch_depth)
            patches.check(height, width)
            self.discriminator = OfPairs(patches)

    @property
    def merit(self) -> Any:  # type: ignore[override]
        """The L1 distance where there is nothing else."""
        return None if isinstance(self.discriminator, OfPairs) else "loss"

    @property
    def idle_turns(self) -> tuple[str, ...]:
        """The discriminator's, where there is none."""
        return () if isinstance(self.discriminator, OfPairs) else ("discriminator",)

    def turns(self) -> list[Turn]:
        """Those of the game, or the L1 distance alone."""
        if isinstance(self.discriminator, OfPairs):
            return super().turns()
        return [Turn("generator", [self.generator], self._distance_alone)]

    def _distance_alone(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """|x - G(s)| of a batch."""
        distance = (self.scaled(batch.x) - self.generator(self._source(batch))).abs().mean()
        return distance, {"l1": distance.detach()}

    def _source(self, batch: Batch) -> Tensor:
        """s [B, C', H, W] in [-1, 1]."""
        if batch.source is None:
            raise ValueError("the batch has no partners (source)")
        return self.scaled(batch.source)

    def contestants(self, batch: Batch) -> Contest:
        """(x, s) and (G(s), s)."""
        source = self._source(batch)
        return Contest((self.scaled(batch.x), source), (self.generator(source), source), (source,))

    def _augmented(self, shown: Shown) -> Shown:
        """An image and what it was made from are augmented alike."""
        image, source = shown
        both = self.augment(torch.cat([image, source.to(image.dtype)], 1))
        return both[:, : image.shape[1]], both[:, image.shape[1] :]

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """lambda |x - G(s)|, [1] equation 3; logs `l1`."""
        if turn == "discriminator":
            return None, {}
        distance = (contest.real[0] - contest.fake[0]).abs().mean()
        return self.l1_weight * distance, {"l1": distance.detach()}

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        return self.levels_of(self.generator(self.scaled(source)))

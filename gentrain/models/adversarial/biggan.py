"""BigGAN: a large conditional GAN whose latents reach every block.

[1] Brock, Donahue & Simonyan 2019, "Large Scale GAN Training for High Fidelity Natural Image Synthesis",
    arXiv:1809.11096.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import Batch, DataSpec, MixesConditions
from gentrain.layers.condition import ConditionVector
from gentrain.layers.conditional_norm import ConditionalBatchNorm
from gentrain.layers.dcgan import INITIAL_STD
from gentrain.layers.residual_gan import ResidualDiscriminator, ResidualGenerator, Start
from gentrain.layers.settings import check_choice, check_positive, check_weight
from gentrain.models.adversarial.adversarial import Adversarial
from gentrain.models.adversarial.cgan import ByProjection
from gentrain.models.adversarial.game import Contest

#: How weights start.
STARTS: dict[str, Start] = {
    "orthogonal": nn.init.orthogonal_,
    "normal": partial(nn.init.normal_, std=INITIAL_STD),
}


class SplitLatents(nn.Module):
    """G(z, y): z in equal parts, the first projected, the others beside the embedding of y [1].

    Args:
        latent_dim: D.
        vector: what is known as numbers.
        shared: numbers of the embedding that all blocks share.
        net: (latents of the projection, normalisation of maps) -> the network.
        blocks: of the network.

    Raises:
        ValueError: a `latent_dim` that cannot be split.
    """

    def __init__(
        self,
        latent_dim: int,
        vector: ConditionVector,
        shared: int,
        net: Callable[[int, Callable[[int], nn.Module]], ResidualGenerator],
        blocks: int,
    ) -> None:
        super().__init__()
        parts = blocks + 1
        if latent_dim % parts:
            near = sorted({max(1, latent_dim // parts) * parts, (latent_dim // parts + 1) * parts})
            raise ValueError(
                f"model.latent_dim must be a multiple of {parts}, one part for the start and one for each of "
                f"{blocks} blocks, e.g. {' or '.join(map(str, near))}; found {latent_dim}"
            )
        self.part = latent_dim // parts
        self.vector, self.shared = vector, nn.Linear(vector.size, shared, bias=False)
        norm = partial(ConditionalBatchNorm, known=shared + self.part, spectral=True)
        self.net = net(self.part, norm)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z [B, D], y [B, ...] -> [B, C, H, W]."""
        shared = self.shared(self.vector(y, z.dtype))
        first, *others = z.split(self.part, 1)
        found: Tensor = self.net(first, [torch.cat([shared, part.to(shared.dtype)], 1) for part in others])
        return found


class BigGAN(Adversarial, MixesConditions):
    """SNGAN's networks told the class, with the parts of [1]; p(x|y) of labels, attributes or captions.

    A shared embedding of y and a part of z decide gains 1 + W c and shifts of each block's batch
    normalisation; spectral norm in both networks; D by projection; attention; orthogonal regularisation of G,
    equation 3. Truncation and standing statistics are asked for when images are drawn.

    Args:
        spec: what the images are; heights and widths that are multiples of 4 from 8 up.
        channels: maps of the generator next to the image; 256 to 384 for 32x32 pixels in common code.
        discriminator_channels: maps of the discriminator next to the image.
        growth: both have so many times as many with each stage away from the image; 1 for 32x32.
        shared: numbers of the shared embedding.
        attention: side of the maps that have attention in both networks; 0: none.
        orthogonal_weight: beta of equation 3, for every weight of G but the shared embedding's; 0: none.
        start: orthogonal as in [1], or normal, N(0, 0.02^2).
        settings: of `Adversarial`.

    Raises:
        ValueError: images without anything known of them, latents that cannot be split, a size that the
            networks cannot take, or a setting out of its range.
    """

    takes: ClassVar[tuple[str, ...]] = ("label", "attributes", "caption")
    one_pass = True
    generator: SplitLatents

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        discriminator_channels: int,
        growth: int,
        shared: int,
        attention: int,
        orthogonal_weight: float,
        start: str,
        **settings: Any,
    ) -> None:
        super().__init__(spec, **settings)
        check_positive("channels", channels)
        check_positive("discriminator_channels", discriminator_channels)
        check_positive("growth", growth)
        check_positive("shared", shared)
        check_weight("orthogonal_weight", orthogonal_weight)
        check_choice("start", start, tuple(STARTS))
        self.orthogonal_weight = orthogonal_weight
        condition = self.condition_of(spec)
        vector = ConditionVector(condition.size, tokens=condition.name == "caption")
        how: dict[str, Any] = {"spectral": True, "attention": attention, "start": STARTS[start]}
        self.discriminator = ByProjection(
            ResidualDiscriminator(spec.shape, discriminator_channels, growth, known=vector.size, **how),
            vector,
        )

        def network(part: int, norm: Callable[[int], nn.Module]) -> ResidualGenerator:
            return ResidualGenerator(part, spec.shape, channels, growth, norm, **how)

        blocks = ResidualGenerator.doublings(spec.shape)
        self.generator = SplitLatents(self.latent_dim, vector, shared, network, blocks)
        STARTS[start](self.generator.shared.weight)

    def extra(
        self, turn: str, batch: Batch, contest: Contest, found: Tensor | None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Orthogonal regularisation in the generator's turn; logs `orthogonality` before its weight."""
        if turn == "discriminator" or not self.orthogonal_weight:
            return None, {}
        skewed = orthogonality(self.generator, skip=self.generator.shared)
        return self.orthogonal_weight * skewed, {"orthogonality": skewed.detach()}


def orthogonality(net: nn.Module, skip: nn.Module) -> Tensor:
    """The sum over weights W of |W W^T o (1 - I)|_F^2, [1] equation 3: 0 where all rows are orthogonal.

    Of weights as they are before spectral norm; a convolution's is [O, I * 9].
    """
    left_out = {id(p) for p in skip.parameters()}
    total = torch.zeros((), device=next(net.parameters()).device)
    for weight in net.parameters():
        if weight.ndim >= 2 and id(weight) not in left_out:
            rows = weight.flatten(1)
            products = rows @ rows.T
            total = total + products.square().sum() - products.diagonal().square().sum()
    return total

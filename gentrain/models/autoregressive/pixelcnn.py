"""The PixelCNN.

[1] van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", arXiv:1601.06759.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from gentrain.contracts import (
    Batch,
    Completes,
    DataSpec,
    GenerativeModel,
    HasLikelihood,
    LikelihoodKind,
    Samples,
    check_draws,
    check_images,
    refuse_label,
)
from gentrain.distributions import pixel_distribution, pixel_parameters
from gentrain.layers.masked_conv import MaskedConv2d, colour_groups
from gentrain.layers.raster import (
    Residual,
    bernoulli_level,
    categorical_level,
    draw,
    draw_naively,
    incremental,
)

#: Bytes that one chunk of `log_likelihood`, `sample` or `complete` may take.
CHUNK_BYTES = 256 * 2**20


class PixelCNN(GenerativeModel, Samples, HasLikelihood, Completes):
    """p(x) = prod_i p(x_i | x_1, ..., x_(i-1)), pixels in raster order, R, G, B in each ([1] equations 1, 2).

    A convolution with mask A, `depth` residual blocks of convolutions with mask B ([1] figure 5, left, and
    table 1), and two 1x1 convolutions before the logits. A pixel value of two levels is Bernoulli, of more
    levels categorical ([1] section 3.3 and 5.1). For images of any size.

    Args:
        spec: what the images are.
        channels: 2h, feature maps between the residual blocks; inside a block there are half of them.
        depth: residual blocks.
        first_kernel: size of the kernel with mask A, odd.
        kernel: size of the kernel in the middle of a block, odd.
        head_channels: feature maps of the two 1x1 layers before the logits.

    Raises:
        ValueError: a setting out of its range.
    """

    lacks: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("reconstruct", "interpolate", "arithmetic", "encode"),
        "it has no latents, each pixel is drawn given those before it",
    )

    def __init__(
        self,
        spec: DataSpec,
        *,
        channels: int,
        depth: int,
        first_kernel: int,
        kernel: int,
        head_channels: int,
    ) -> None:
        super().__init__(spec)
        colours = spec.shape[0]
        if channels < 2 * colours or channels % 2:
            raise ValueError(
                f"model.channels must be even and at least {2 * colours}, two for each colour channel, "
                f"found {channels}"
            )
        if head_channels < colours:
            raise ValueError(
                f"model.head_channels must be at least {colours}, one for each colour channel, "
                f"found {head_channels}"
            )
        if depth < 0:
            raise ValueError(f"model.depth must be at least 0, found {depth}")
        for setting, size in (("first_kernel", first_kernel), ("kernel", kernel)):
            if size < 1 or size % 2 == 0:
                raise ValueError(f"model.{setting} must be odd and at least 1, found {size}")
        self.likelihood = "bernoulli" if spec.levels == 2 else "categorical"
        per_value = pixel_parameters(self.likelihood, spec.levels, mixtures=0)
        image = colour_groups(colours, colours)
        wide = colour_groups(channels, colours)
        inside = colour_groups(channels // 2, colours)
        head = colour_groups(head_channels, colours)
        # Together the blocks about double the variance, whatever their number; near uniform at the end.
        block_gain, logits_gain = math.sqrt(2 / max(depth, 1)), 0.1
        blocks = [
            Residual(
                nn.Sequential(
                    nn.ReLU(),
                    MaskedConv2d(wide, inside, 1, "B"),
                    nn.ReLU(),
                    MaskedConv2d(inside, inside, kernel, "B"),
                    nn.ReLU(),
                    MaskedConv2d(inside, wide, 1, "B", block_gain),
                )
            )
            for _ in range(depth)
        ]
        # Output p * C + c belongs to colour c.
        logits = MaskedConv2d(head, image * per_value, 1, "B", logits_gain)
        self.network = nn.Sequential(
            MaskedConv2d(image, wide, first_kernel, "A"),
            *blocks,
            nn.ReLU(),
            MaskedConv2d(wide, head, 1, "B"),
            nn.ReLU(),
            MaskedConv2d(head, head, 1, "B"),
            nn.ReLU(),
            logits,
        )
        # Upper estimates. The widest layers' input, output and temporaries, as nothing else is kept without
        # gradients; and, of all layers, the rows that drawing keeps.
        _, height, width = spec.shape
        logits_width = 6 * per_value * colours
        self._floats_per_image = height * width * (4 * max(channels, head_channels) + logits_width)
        rows = depth * channels // 2 * (kernel // 2 + 3) + colours * (first_kernel // 2 + 3) + channels
        self._floats_to_draw = (width + first_kernel) * rows + 3 * spec.dims + logits_width

    # The paper.

    def _scale(self, x: Tensor) -> Tensor:
        """uint8 in 0 .. levels-1 -> [-1, 1], same shape."""
        return x.to(self._like.dtype) * (2 / (self.spec.levels - 1)) - 1

    def _log_prob(self, x: Tensor) -> Tensor:
        """log p(x), x uint8 [B, C, H, W] -> [B] in nats; unchecked, so that nothing waits for the device."""
        # Few feature maps at many positions: twice as quick with the maps of a position together. Not
        # contiguous(), which leaves images of one channel as they are.
        pixels = self._scale(x).to(memory_format=torch.channels_last)
        params = self.network(pixels)  # [B, P * C, H, W]
        return pixel_distribution(params, self.likelihood, self.spec.levels, mixtures=0).log_prob(x)

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x) in nats per image, averaged over the batch; also in bits per pixel value."""
        nats = -self._log_prob(batch.x).mean()
        return nats, {"bits_per_dim": nats.detach() / (self.spec.dims * math.log(2))}

    # What commands ask for.

    @torch.no_grad()
    def log_likelihood(
        self, x: Tensor, label: Tensor | None = None, samples: int | None = None
    ) -> tuple[Tensor, LikelihoodKind]:
        """log p(x), exact, without gradient and in chunks of at most about `CHUNK_BYTES`.

        Args:
            x: uint8 [B, C, H, W].
            label: ignored, since the model is one of p(x).
            samples: ignored, since nothing is estimated.

        Returns:
            (log p [B] in nats per image, "exact").

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(x, self.spec)
        if not len(x):  # torch.distributions.Independent takes no empty batch
            return self._like.new_zeros(0), "exact"
        return torch.cat(
            [self._log_prob(piece) for piece in x.split(self._chunk(self._floats_per_image))]
        ), "exact"

    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W]; at temperature 1 exact draws from the model.

        Logits are divided by the temperature, for each pixel value given those before it.

        Raises:
            ValueError: temperature not above 0 or not finite, n below 0, or a label.
        """
        refuse_label(self, label)
        check_draws(n, temperature)
        return self.sample_from(self._noise(n), temperature)

    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """x with what is not `known` drawn from p(x_i | x_1, ..., x_(i-1)), pixel after pixel.

        x uint8 [B, C, H, W], known bool [B, C, H, W] -> uint8 [B, C, H, W]; known pixels are kept, the
        others of x do not count. Exact draws from p(unknown | known) where all that is known comes first
        in raster order; what is known after a pixel does not inform it (`note` says so).

        Raises:
            ValueError: images that the model was not built for, or `known` of another shape or dtype.
        """
        check_images(x, self.spec)
        _check_known(known, x)
        return self.sample_from(self._noise(len(x)), given=x, known=known)

    def note(self, known: Tensor) -> str | None:
        """What the user should know of completing with `known`, bool [B, C, H, W]."""
        order = known.permute(0, 2, 3, 1).flatten(1)  # [B, H * W * C], in the order of drawing
        drawn_before = (~order).cumsum(1) > 0
        if not bool((order & drawn_before).any()):
            return None
        return "the model goes pixel by pixel in reading order: what is known after a pixel cannot inform it"

    def sample_from(
        self,
        noise: Tensor,
        temperature: float = 1.0,
        given: Tensor | None = None,
        known: Tensor | None = None,
        naive: bool = False,
    ) -> Tensor:
        """Images as a function of the noise.

        Args:
            noise: u [n, C, H, W], uniform on [0, 1), of the model's dtype.
            temperature: divides the logits.
            given: uint8 [n, C, H, W], pixels that are not drawn; None: all are.
            known: bool [n, C, H, W], where `given` counts.
            naive: run the whole network for every pixel and colour: the same images, for comparison.

        Returns:
            uint8 [n, C, H, W].

        Raises:
            ValueError: temperature not above 0 or not finite, or noise of another shape.
        """
        check_draws(len(noise), temperature)
        if tuple(noise.shape[1:]) != self.spec.shape or noise.ndim != 4:
            expected = ", ".join(map(str, self.spec.shape))
            raise ValueError(f"noise must be [n, {expected}], found {list(noise.shape)}")
        level = bernoulli_level if self.likelihood == "bernoulli" else categorical_level

        def choose(logits: Tensor, u: Tensor) -> Tensor:
            return level(logits / temperature, u)

        images = torch.empty(noise.shape, dtype=torch.uint8, device=noise.device)
        chunk = self._chunk(self._floats_per_image if naive else self._floats_to_draw)
        for start in range(0, len(noise), chunk):
            piece = slice(start, start + chunk)
            u = noise[piece]
            old, keep = (None, None) if given is None or known is None else (given[piece], known[piece])
            if naive:
                images[piece] = draw_naively(self.network, u, choose, self._scale, old, keep)
            else:
                images[piece] = draw(partial(incremental, self.network), u, choose, self._scale, old, keep)
        return images

    def _noise(self, n: int) -> Tensor:
        """Uniform on [0, 1), one number for each pixel value of `n` images."""
        return torch.rand(n, *self.spec.shape, dtype=self._like.dtype, device=self._like.device)

    def _chunk(self, floats: int) -> int:
        """How many images to compute at once, each of so many floats."""
        return max(1, CHUNK_BYTES // (floats * self._like.element_size()))


def _check_known(known: Tensor, x: Tensor) -> None:
    """Refuse a mask that is not bool or not of the images' shape."""
    if known.dtype != torch.bool:
        raise ValueError(f"known must be bool, found {known.dtype}")
    if known.shape != x.shape:
        raise ValueError(f"known must be {list(x.shape)}, like the images, found {list(known.shape)}")

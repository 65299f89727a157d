"""A flow of several scales, from each of which a part of the values leaves as latents.

[1] Dinh, Sohl-Dickstein & Bengio 2017, "Density Estimation using Real NVP", arXiv:1605.08803, section 3.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from gentrain.layers.gaussian_prior import GaussianPrior
from gentrain.layers.settings import WrongSize
from gentrain.layers.transform import Transform

Shape = tuple[int, int, int]


class MultiScale(Transform):
    """x [B, C, H, W] -> z [B, C H W], the whitened values that leave, first scale first.

    After each scale half of the channels leave, with a Gaussian prior given the others, which go on; at the
    last scale all leave.

    Args:
        shape: (C, H, W) of x.
        scales: how many.
        make_scale: (index of the scale, its input's (C, H, W)) -> its map, and its output's (C, H, W).
        make_prior: (channels that go on, channels that leave) -> the prior of what leaves a scale.
        make_top: channels -> the prior of what is left at the last scale.
    """

    def __init__(
        self,
        shape: Shape,
        scales: int,
        make_scale: Callable[[int, Shape], tuple[Transform, Shape]],
        make_prior: Callable[[int, int], GaussianPrior],
        make_top: Callable[[int], GaussianPrior],
    ) -> None:
        super().__init__()
        self.scales, self.priors = nn.ModuleList(), nn.ModuleList()
        #: (C, H, W) of the latents that leave at each scale.
        self.latent_shapes: list[Shape] = []
        for index in range(scales):
            scale, (channels, height, width) = make_scale(index, shape)
            self.scales.append(scale)
            kept = channels // 2 if index < scales - 1 else 0
            self.priors.append(make_prior(kept, channels - kept) if kept else make_top(channels))
            self.latent_shapes.append((channels - kept, height, width))
            shape = (kept, height, width)

    def forward(self, x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, H, W] -> (z [B, C H W], log |det dz/dx| [B])."""
        latents, log_det = [], x.new_zeros(len(x))
        for scale, prior, (leaving, _, _) in zip(self.scales, self.priors, self.latent_shapes, strict=True):
            x, of_scale = scale(x, *given)
            value, x = x.split([leaving, x.shape[1] - leaving], dim=1)
            assert isinstance(prior, GaussianPrior)
            eps, of_prior = prior.whiten(value, x)
            latents.append(eps.flatten(1))
            log_det = log_det + of_scale + of_prior
        return torch.cat(latents, dim=1), log_det

    def inverse(self, y: Tensor, *given: Tensor) -> Tensor:
        """z [B, C H W] -> x [B, C, H, W]."""
        parts = y.split([math.prod(shape) for shape in self.latent_shapes], dim=1)
        x = y.new_empty(len(y), 0, *self.latent_shapes[-1][1:])  # nothing goes on from the last scale
        for i in reversed(range(len(parts))):
            prior, scale = self.priors[i], self.scales[i]
            assert isinstance(prior, GaussianPrior)
            assert isinstance(scale, Transform)
            value = prior.colour(parts[i].unflatten(1, self.latent_shapes[i]), x)
            x = scale.inverse(torch.cat([value, x], dim=1), *given)
        return x


def check_halvable(height: int, width: int, scales: int, whole: int = 0) -> None:
    """Refuse images that cannot be halved by all scales but `whole` of them, and say what would do.

    Raises:
        ValueError: 2^(scales - whole) does not divide height and width; names `model.scales`.
    """
    unit = 2 ** (scales - whole)
    if height % unit == 0 and width % unit == 0:
        return
    common = math.gcd(height, width)
    most = (common & -common).bit_length() - 1  # how often 2 divides both
    sides = [side for side in (max(height, width) // unit * unit,) if side]
    raise WrongSize(
        f"images are {height}x{width}, but model.scales={scales} needs sides that {unit} divides",
        " or ".join(map(str, [*sides, (sides or [0])[-1] + unit])),
        f"model.scales={most + whole}" if most + whole else "",
    )

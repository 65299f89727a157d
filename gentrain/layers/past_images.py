"""A pool of past images that a discriminator is shown among the new ones.

Shrivastava et al. 2017, "Learning from Simulated and Unsupervised Images through Adversarial Training",
arXiv:1612.07828, section 2.3; as in Zhu et al. 2017, arXiv:1703.10593, section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PastImages(nn.Module):
    """The last `size` images and more: each new one is shown, or kept while an older is shown in its place.

    Its images and how many they are lie in buffers, so that a resumed run has them.

    Args:
        size: how many are kept; 0: none, the new ones are shown.
        shape: (C, H, W).
    """

    images: Tensor
    count: Tensor

    def __init__(self, size: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, new: Tensor) -> Tensor:
        """new [B, C, H, W] -> [B, C, H, W], without a gradient; in eval mode `new` itself.

        Until the pool is full an image joins it and is shown; then with probability 1/2 it takes the place of
        one that is drawn, which is shown instead.
        """
        if not self.size or not self.training:
            return new.detach()
        shown = []
        drawn = torch.randint(self.size, (len(new),), device=new.device)
        swapped = torch.rand(len(new), device=new.device) < 0.5
        for image, place, swap in zip(new, drawn, swapped, strict=True):
            full = self.count >= self.size
            at = torch.where(full, place, self.count)[None]
            old = self.images.index_select(0, at)[0].to(new.dtype)
            shown.append(torch.where(full & swap, old, image))
            kept = torch.where(full & ~swap, old, image).to(self.images.dtype)
            self.images.index_copy_(0, at, kept[None])
            self.count.copy_(torch.clamp(self.count + 1, max=self.size))
        return torch.stack(shown)

"""What a model with latents can do; public methods check and call private ones, as in `capabilities`."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gentrain.contracts.calling import (
    check_draws,
    check_images,
    check_latents,
    computed,
    not_written,
    renamed,
    without_count,
)
from gentrain.contracts.capabilities import Reconstructs
from gentrain.contracts.data import Batch
from gentrain.contracts.model import GenerativeModel


class LatentsToImages(GenerativeModel, ABC):
    """Makes pictures from latents.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> model.latents_to_images(model.prior_draws(5)).shape
    torch.Size([5, 1, 4, 4])
    """

    #: Prior over latents: "gaussian" is interpolated on the sphere, anything else on the line. Of the
    #: class, or of an object where a setting decides.
    latent_prior: Literal["gaussian", "uniform", "none"] = "gaussian"
    #: D, the number of latent dimensions.
    latent_dim: int

    def latents_to_images(
        self, z: Tensor, *, condition: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the most typical image of each latent.

        Args:
            z: latents; an image depends on its own alone.
            condition: of each image, [B, ...]; None: all in turn, for a model that takes one.
            label: the older name of `condition`.

        Raises:
            ValueError: z of another shape, or a condition that the model does not take.
        """
        check_latents(z, self.latent_dim)
        y = self._checked(renamed(condition, label), len(z))
        if not len(z):
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=self._like.device)
        run = without_count(self._latents_to_images)
        return computed(self, "latents_to_images", run, len(z), (z.to(self._like.dtype), *y))

    def prior_draws(self, n: int, *, condition: Tensor | None = None) -> Tensor:
        """z [n, D] ~ p(z), or p(z|y) where the model has such a prior.

        Raises:
            ValueError: n below 0, no prior over the latents, or a condition that the model does not take.
        """
        check_draws(n)
        if self.latent_prior == "none":
            raise ValueError(f"{type(self).__name__} has no prior over its latents")
        with torch.no_grad():
            return self._prior_draws(n, *self._checked(condition, n))

    def _latents_to_images(self, z: Tensor, *y: Tensor) -> Tensor:
        """z [B, D] in the model's dtype, B >= 1 -> uint8 [B, C, H, W]."""
        not_written(self, "LatentsToImages", "_latents_to_images")

    def _prior_draws(self, n: int, *y: Tensor) -> Tensor:
        """z [n, D]: N(0, I), or uniform on [-1, 1]."""
        like, shape = self._like, (n, self.latent_dim)
        if self.latent_prior == "uniform":
            return 2 * torch.rand(shape, dtype=like.dtype, device=like.device) - 1
        return torch.randn(shape, dtype=like.dtype, device=like.device)


class ImagesToLatents(LatentsToImages, Reconstructs):
    """Finds the latents of images too: has an inverse or an encoder.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> model.images_to_latents(model.sample(5)).shape
    torch.Size([5, 3])
    """

    def images_to_latents(
        self, x: Tensor, *, condition: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        """x uint8 [B, C, H, W] -> z [B, D].

        Raises:
            ValueError: images that the model was not built for, a condition that the model does not take, or
                none where it needs one.
        """
        check_images(x, self.spec)
        y = self._checked(renamed(condition, label), len(x), needed=True)
        if not len(x):
            return self._like.new_zeros(0, self.latent_dim)
        run = without_count(self._images_to_latents)
        return computed(self, "images_to_latents", run, len(x), (x, *y))

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> z [B, D]."""
        not_written(self, "ImagesToLatents", "_images_to_latents")

    def _reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"image", "reconstruction"}: the images, and the images of their latents."""
        y = self.given(batch)
        images = self._latents_to_images(self._images_to_latents(batch.x, *y), *y)
        return {"image": batch.x, "reconstruction": images}


@dataclass(frozen=True)
class Code:
    """A part of the latents with a meaning of its own.

    Args:
        name: what it is called.
        begin: of its numbers in z.
        categories: how many there are, one-hot; None: a single number, uniform on [-1, 1].
    """

    name: str
    begin: int
    categories: int | None

    @property
    def width(self) -> int:
        """How many numbers of z it takes."""
        return self.categories or 1

    @property
    def place(self) -> slice:
        """Its numbers in z."""
        return slice(self.begin, self.begin + self.width)

    def swept(self, steps: int) -> Tensor:
        """All categories, or `steps` values from -1 to 1: [K, width]."""
        return torch.eye(self.width) if self.categories else torch.linspace(-1, 1, steps)[:, None]

    def drawn(self, n: int, like: Tensor) -> Tensor:
        """[n, width] from its prior, of the dtype and on the device of `like`."""
        if self.categories is None:
            return 2 * torch.rand(n, 1, dtype=like.dtype, device=like.device) - 1
        which = torch.randint(self.categories, (n,), device=like.device)
        return (which[:, None] == torch.arange(self.categories, device=like.device)).to(like.dtype)


class HasCodes(LatentsToImages):
    """Some of its latents are codes, which it finds again in images.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 8, 8), levels=2)
    >>> model = gentrain.build(["model=infogan", "model.channels=2", "model.codes=[kind:3,slant]"], spec)
    >>> {name: found.shape for name, found in model.codes_of(model.sample(5)).items()}
    {'kind': torch.Size([5, 3]), 'slant': torch.Size([5, 1])}
    """

    codes: tuple[Code, ...]

    def codes_of(self, x: Tensor) -> dict[str, Tensor]:
        """x uint8 [B, C, H, W] -> {name: probabilities [B, categories], or the mean [B, 1]}.

        Raises:
            ValueError: images that the model was not built for.
        """
        check_images(x, self.spec)
        widths = [code.width for code in self.codes]
        found = self._like.new_zeros(0, sum(widths))
        if len(x):
            found = computed(self, "codes_of", without_count(self._codes_of), len(x), (x,))
        return {code.name: part for code, part in zip(self.codes, found.split(widths, 1), strict=True)}

    def _codes_of(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> what is found of all codes, one after the other: [B, widths]."""
        not_written(self, "HasCodes", "_codes_of")


class Invertible(ImagesToLatents):
    """Is an invertible map between dequantised images and standard normal latents; gradients are kept.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=glow", "model.scales=1", "model.depth=1", "model.hidden=8"], spec)
    >>> z, log_det = model.to_latent(torch.rand(5, 1, 4, 4))
    >>> z.shape, log_det.shape, model.from_latent(z).shape
    (torch.Size([5, 16]), torch.Size([5]), torch.Size([5, 1, 4, 4]))
    """

    def to_latent(self, y: Tensor, *, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y float [B, C, H, W] in [0, 1) -> (z [B, D], log |det dz/dy| [B]); D = C * H * W.

        Raises:
            ValueError: y of another shape; a condition as in `HasLikelihood.log_likelihood`.
        """
        if y.ndim != 4 or tuple(y.shape[1:]) != self.spec.shape:
            raise ValueError(f"y must be [B, {', '.join(map(str, self.spec.shape))}], found {list(y.shape)}")
        return self._to_latent(y, *self._checked(condition, len(y), needed=True))

    def from_latent(self, z: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """z [B, D] -> y float [B, C, H, W], inverse of `to_latent`; outside [0, 1) where the model is off.

        Raises:
            ValueError: z of another shape; a condition as in `HasLikelihood.log_likelihood`.
        """
        check_latents(z, self.latent_dim)
        return self._from_latent(z.to(self._like.dtype), *self._checked(condition, len(z), needed=True))

    def _to_latent(self, y: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (z, log |det dz/dy|), unchecked: nothing here waits for the device."""
        not_written(self, "Invertible", "_to_latent")

    def _from_latent(self, z: Tensor, *given: Tensor) -> Tensor:
        """z in the model's dtype -> y."""
        not_written(self, "Invertible", "_from_latent")

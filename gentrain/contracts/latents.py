"""What a model with latents can do; public methods check and call private ones, as in `capabilities`."""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gentrain.buffers import batch_norms, evaluating, momentum
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
from gentrain.contracts.condition import Conditional
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

    def truncated(self, z: Tensor, truncation: float) -> Tensor:
        """Draws z [..., D] of N(0, 1) -> as many of a normal that is cut off at +- `truncation`.

        Each number goes to the same quantile, so that z near 0 moves little. Brock et al. 2019,
        arXiv:1809.11096, section 3.1 (the truncation trick).

        Raises:
            ValueError: a truncation that is not above 0, or latents that are not normal.
        """
        if self.latent_prior != "gaussian":
            raise ValueError(
                "truncation cuts off the tails of a normal prior, and that of these latents "
                f"({type(self).__name__}) is not normal"
            )
        if not (math.isfinite(truncation) and truncation > 0):
            raise ValueError(f"truncation must be finite and above 0, found {truncation}")
        below = torch.special.ndtr(torch.tensor(-truncation, dtype=torch.float64, device=z.device))
        quantile = below + torch.special.ndtr(z.double()) * (1 - 2 * below)
        return torch.special.ndtri(quantile).clamp(-truncation, truncation).to(z.dtype)

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

    >>> from gentrain.contracts import Code
    >>> Code("slant", begin=72, categories=None).swept(3).flatten()
    tensor([-1.,  0.,  1.])

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


class StandingStatistics(LatentsToImages):
    """Normalises with statistics that can be taken anew, of draws as they are to be shown.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 8, 8), levels=2)
    >>> model = gentrain.build(["model=gan", "model.channels=2"], spec)
    >>> model.stand(batches=2, size=8, truncation=0.5)
    """

    def stand(self, batches: int, size: int, truncation: float | None = None) -> None:
        """Running means and variances of BatchNorm become those over `batches` batches of draws.

        Brock et al. 2019, arXiv:1809.11096, section 4 (standing statistics). All conditions in turn.

        Args:
            batches: how many, at least 1.
            size: draws in each, at least 2.
            truncation: of the draws, as `truncated`; None: the prior.

        Raises:
            ValueError: a number below these, or a truncation that the prior does not have.
        """
        if batches < 1 or size < 2:
            raise ValueError(f"batches must be at least 1 and size at least 2, found {batches} and {size}")
        norms = batch_norms(self)
        # A mean over batches, not a moving one.
        with torch.no_grad(), evaluating(self), momentum(norms, lambda _: None):
            for norm in norms:
                norm.reset_running_stats()
                norm.training = True
            try:
                all_in_turn = self._checked(None, batches * size)
                for i in range(batches):
                    y = tuple(part[i * size : (i + 1) * size] for part in all_in_turn)
                    z = self._prior_draws(size, *y)
                    self._latents_to_images(z if truncation is None else self.truncated(z, truncation), *y)
            finally:
                for norm in norms:
                    norm.training = False


class MixesConditions(LatentsToImages, Conditional):
    """Makes pictures of something between several conditions.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 8, 8), levels=2, classes=3)
    >>> model = gentrain.build(["model=cgan", "model.channels=2"], spec)
    >>> model.mixed_to_images(model.prior_draws(2), torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.0, 0.8]])).shape
    torch.Size([2, 1, 8, 8])
    """

    #: Y, numbers of a mixture; None: one of each label, attribute or word.
    mixed_size: int | None = None

    def conditions_to_mixtures(self, condition: Tensor) -> Tensor:
        """Conditions [B, ...] -> the numbers that mixtures are sums of, float [B, Y].

        How often each label, attribute or word is in them, or what the model makes of a caption.

        Raises:
            ValueError: a condition that the model does not take.
        """
        assert self.condition is not None
        self.condition.check(condition, len(condition))
        with torch.no_grad(), evaluating(self):
            return self._vectors_of(condition.to(self._like.device)).to(self._like.dtype)

    def _vectors_of(self, y: Tensor) -> Tensor:
        """y [B, ...] -> [B, Y]."""
        assert self.condition is not None
        if y.dtype == torch.bool:
            return y.to(self._like.dtype)
        first = int(y.ndim == 2)  # a caption's words begin at 1
        hits = y[..., None] == torch.arange(first, first + self.condition.size, device=y.device)
        return (hits.sum(1) if y.ndim == 2 else hits).to(self._like.dtype)

    def mixed_to_images(self, z: Tensor, weights: Tensor) -> Tensor:
        """z [B, D], weights float [B, Y], sums of `conditions_to_mixtures` -> uint8 [B, C, H, W].

        Raises:
            ValueError: z or weights of another shape or dtype.
        """
        check_latents(z, self.latent_dim)
        assert self.condition is not None
        wanted = [len(z), self.mixed_size or self.condition.size]
        if not weights.is_floating_point() or list(weights.shape) != wanted:
            raise ValueError(
                f"weights must be floating {wanted}, found {weights.dtype} {list(weights.shape)}"
            )
        if not len(z):
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=self._like.device)
        run, like = without_count(self._latents_to_images), self._like
        parts = (z.to(like.dtype), weights.to(like.device, like.dtype))
        return computed(self, "mixed_to_images", run, len(z), parts)


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

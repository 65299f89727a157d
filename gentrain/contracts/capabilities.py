"""What a model can do: a model declares it by deriving from these, a command asks with `isinstance`.

A public method is written here, once: it checks what it is given, takes as many images at once as fit
memory, switches gradients off and the model to eval mode, and calls the private method of the same name with
`_` before it, which is all that a model writes. That is given `*y`: the condition of each image for a model
that has one (`Conditional`), nothing for a model of p(x).

`condition` is a label int64 [B], attributes bool [B, A] or a caption int64 [B, T]; `label` is its older name.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor
from torch.distributions import Distribution

from gentrain.contracts.chunks import evaluating, in_chunks
from gentrain.contracts.condition import Conditional
from gentrain.contracts.data import Batch, DataSpec
from gentrain.contracts.model import GenerativeModel

LikelihoodKind = str  # "exact", "ELBO", "IWAE-<k>" or "dequantised bound"; of p(x|y): "... given labels"


class Samples(GenerativeModel, ABC):
    """Draws images.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> model.sample(5).shape
    torch.Size([5, 1, 4, 4])
    """

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        *,
        condition: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """`n` images, uint8 [n, C, H, W] in 0 .. levels-1.

        Args:
            n: how many.
            temperature: above 0; below 1 the images are more alike and more typical.
            condition: of each image, [n, ...]; None: all in turn, for a model that takes one.
            label: the older name of `condition`.

        Raises:
            ValueError: n below 0, temperature not above 0, or a condition that the model does not take.
        """
        check_draws(n, temperature)
        y = self._checked(_renamed(condition, label), n)
        if n == 0:
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=self._like.device)
        return _computed(
            self,
            "sample",
            lambda count, *y: self._sample(count, temperature, *y),
            n,
            y,
            lambda count, *y: self._measure_sample(count, *y),
        )

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """`n` >= 1 images, uint8 [n, C, H, W]."""
        _not_written(self, "Samples", "_sample")

    def _measure_sample(self, n: int, *y: Tensor) -> object:
        """What takes the memory of `_sample(n)`; for a sampler of many equal steps, one of them."""
        return self._sample(n, 1.0, *y)


class HasLikelihood(GenerativeModel, ABC):
    """Knows log p(x), or a lower bound on it.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> log_p, kind = model.log_likelihood(model.sample(5), samples=10)
    >>> log_p.shape, kind
    (torch.Size([5]), 'IWAE-10')
    """

    merit = "likelihood"

    def log_likelihood(
        self,
        x: Tensor,
        samples: int | None = None,
        *,
        condition: Tensor | None = None,
        label: Tensor | None = None,
    ) -> tuple[Tensor, LikelihoodKind]:
        """x uint8 [B, C, H, W] -> (log p [B] in nats per image, kind).

        Args:
            x: the images.
            samples: the number of importance samples, where the kind takes one; others ignore it.
            condition: of each image, [B, ...], for a model of p(x|y). The kind then says what is given:
                such a likelihood is not to be compared with that of a model which has to find it out.
            label: the older name of `condition`.

        Raises:
            ValueError: images that the model was not built for, samples below 1, a condition that the model
                does not take, or none where it needs one.
        """
        check_images(x, self.spec)
        if samples is not None and (not isinstance(samples, int) or samples < 1):
            raise ValueError(f"samples must be a whole number of at least 1, found {samples}")
        y = self._checked(_renamed(condition, label), len(x), needed=True)
        kind = self.likelihood_kind(samples)
        if isinstance(self, Conditional):
            kind = f"{kind} given {self.condition.plural}"
        if not len(x):
            return self._like.new_zeros(0), kind
        log_p = _computed(
            self,
            "log_likelihood",
            lambda count, x, *y: self._log_likelihood(x, samples, *y),
            len(x),
            (x, *y),
            # More samples of an image do not take more memory: a model draws some of them at a time.
            lambda count, x, *y: self._log_likelihood(x, None if samples is None else 1, *y),
        )
        return log_p, kind

    def likelihood_kind(self, samples: int | None) -> LikelihoodKind:
        """What `log_likelihood` computes with so many `samples`."""
        return "exact"

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> log p [B] in nats."""
        _not_written(self, "HasLikelihood", "_log_likelihood")


class EncodesDecodes(GenerativeModel, ABC):
    """Has q(z|x) and p(x|z). Both keep gradients, and compute in the mode that the model is in.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> q = model.encode(model.sample(5))
    >>> q.event_shape, model.decode(q.rsample()).event_shape
    (torch.Size([3]), torch.Size([1, 4, 4]))
    """

    latent_dim: int

    def encode(self, x: Tensor, *, condition: Tensor | None = None) -> Distribution:
        """x uint8 [B, C, H, W] -> q(z|x), batch shape [B], event shape [D].

        Raises:
            ValueError: images that the model was not built for; a condition as in `log_likelihood`.
        """
        check_images(x, self.spec)
        return self._encode(x, *self._checked(condition, len(x), needed=True))

    def decode(self, z: Tensor, *, condition: Tensor | None = None) -> Distribution:
        """z [B, D] -> p(x|z), batch shape [B], event shape [C, H, W], values 0 .. levels-1.

        Raises:
            ValueError: z of another shape; a condition as in `log_likelihood`.
        """
        check_latents(z, self.latent_dim)
        return self._decode(z.to(self._like.dtype), *self._checked(condition, len(z), needed=True))

    def _encode(self, x: Tensor, *y: Tensor) -> Distribution:
        """q(z|x), unchecked: nothing here waits for the device."""
        _not_written(self, "EncodesDecodes", "_encode")

    def _decode(self, z: Tensor, *y: Tensor) -> Distribution:
        """p(x|z), unchecked; z in the model's dtype."""
        _not_written(self, "EncodesDecodes", "_decode")


class Reconstructs(GenerativeModel, ABC):
    """Shows what it makes of a batch.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=vae_mlp", "model.hidden=[8]", "model.latent_dim=3"], spec)
    >>> list(model.reconstructions(gentrain.Batch(model.sample(5))))
    ['image', 'reconstruction']
    """

    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{row name: uint8 [B, C, H, W]}, in the order from top to bottom; the images' own row is `batch.x`.

        Raises:
            ValueError: images that the model was not built for, or not the condition that it needs.
        """
        check_images(batch.x, self.spec)
        n = len(batch.x)
        self._checked(self.condition_in(batch), n)
        if not n:
            return {"image": batch.x}

        def first(count: int) -> Batch:
            return batch.map(lambda part: part[[0] * count])

        with torch.no_grad(), evaluating(self):
            size = 1 if n == 1 else self.at_once("reconstructions", lambda n: self._reconstructions(first(n)))
            if size >= n:
                return self._reconstructions(batch)
            pieces = [batch.map(itemgetter(slice(i, i + size))) for i in range(0, n, size)]
            made = [self._reconstructions(piece) for piece in pieces]
        return {
            name: batch.x if row is pieces[0].x else torch.cat([rows[name] for rows in made])
            for name, row in made[0].items()
        }

    def _reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{row name: uint8 [B, C, H, W]} for B >= 1 images; the images' own row is `batch.x` itself."""
        _not_written(self, "Reconstructs", "_reconstructions")


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
        y = self._checked(_renamed(condition, label), len(z))
        if not len(z):
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=self._like.device)
        run = _without_count(self._latents_to_images)
        return _computed(self, "latents_to_images", run, len(z), (z.to(self._like.dtype), *y))

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
        _not_written(self, "LatentsToImages", "_latents_to_images")

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
        y = self._checked(_renamed(condition, label), len(x), needed=True)
        if not len(x):
            return self._like.new_zeros(0, self.latent_dim)
        run = _without_count(self._images_to_latents)
        return _computed(self, "images_to_latents", run, len(x), (x, *y))

    def _images_to_latents(self, x: Tensor, *y: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> z [B, D]."""
        _not_written(self, "ImagesToLatents", "_images_to_latents")

    def _reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"image", "reconstruction"}: the images, and the images of their latents."""
        y = self.given(batch)
        images = self._latents_to_images(self._images_to_latents(batch.x, *y), *y)
        return {"image": batch.x, "reconstruction": images}


class Invertible(ImagesToLatents):
    """Is an invertible map between dequantised images and standard normal latents; gradients are kept.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=glow", "model.scales=1", "model.depth=1", "model.hidden=8"], spec)
    >>> z, log_det = model.to_latent(torch.rand(5, 1, 4, 4))
    >>> z.shape, log_det.shape, model.from_latent(z).shape
    (torch.Size([5, 16]), torch.Size([5]), torch.Size([5, 1, 4, 4]))
    """

    def to_latent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float [B, C, H, W] in [0, 1) -> (z [B, D], log |det dz/dy| [B]); D = C * H * W.

        Raises:
            ValueError: y of another shape.
        """
        if y.ndim != 4 or tuple(y.shape[1:]) != self.spec.shape:
            raise ValueError(f"y must be [B, {', '.join(map(str, self.spec.shape))}], found {list(y.shape)}")
        return self._to_latent(y)

    def from_latent(self, z: Tensor) -> Tensor:
        """z [B, D] -> y float [B, C, H, W], inverse of `to_latent`; outside [0, 1) where the model is off.

        Raises:
            ValueError: z of another shape.
        """
        check_latents(z, self.latent_dim)
        return self._from_latent(z.to(self._like.dtype))

    def _to_latent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (z, log |det dz/dy|), unchecked: nothing here waits for the device."""
        _not_written(self, "Invertible", "_to_latent")

    def _from_latent(self, z: Tensor) -> Tensor:
        """z in the model's dtype -> y."""
        _not_written(self, "Invertible", "_from_latent")


class Completes(GenerativeModel, ABC):
    """Fills in the unknown part of images.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 4, 4), levels=2)
    >>> model = gentrain.build(["model=pixelcnn", "model.depth=1", "model.channels=8"], spec)
    >>> x = model.sample(5)
    >>> known = torch.zeros_like(x, dtype=torch.bool)
    >>> known[:, :, :2] = True  # the upper half
    >>> bool((model.complete(x, known)[known] == x[known]).all())
    True
    """

    def complete(self, x: Tensor, known: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """x uint8 [B, C, H, W], known bool [B, C, H, W] -> uint8 [B, C, H, W], known pixels kept.

        What x has where it is not `known` does not count. `condition` as in `Samples.sample`.

        Raises:
            ValueError: images that the model was not built for, `known` of another shape or dtype, or a
                condition that the model does not take.
        """
        check_images(x, self.spec)
        if known.dtype != torch.bool:
            raise ValueError(f"known must be bool, found {known.dtype}")
        if known.shape != x.shape:
            raise ValueError(f"known must be {list(x.shape)}, like the images, found {list(known.shape)}")
        y = self._checked(condition, len(x))
        if not len(x):
            return x
        return _computed(
            self,
            "complete",
            _without_count(self._complete),
            len(x),
            (x, known, *y),
            lambda count, x, known, *y: self._measure_complete(x, known, *y),
        )

    def note(self, known: Tensor) -> str | None:
        """What the user should know of completing with `known`, bool [B, C, H, W], in one line."""
        return None

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        """B >= 1 images with what is not known filled in, uint8 [B, C, H, W]."""
        _not_written(self, "Completes", "_complete")

    def _measure_complete(self, x: Tensor, known: Tensor, *y: Tensor) -> object:
        """What takes the memory of `_complete`; for a sampler of many equal steps, one of them."""
        return self._complete(x, known, *y)


class Translates(GenerativeModel, ABC):
    """Maps images of one domain to the other.

    >>> import gentrain
    >>> class Negative(Translates):
    ...     def _translate(self, source, *y):
    ...         return self.spec.levels - 1 - source
    >>> model = Negative(gentrain.DataSpec((1, 4, 4), levels=2, source_shape=(1, 4, 4), paired=True))
    >>> int(model.translate(torch.zeros(5, 1, 4, 4, dtype=torch.uint8)).sum())
    80
    """

    def translate(self, source: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """source uint8 [B, *source_shape] -> uint8 [B, C, H, W]. `condition` as in `Samples.sample`.

        Raises:
            ValueError: images that the model was not built for, or a condition that it does not take.
        """
        shape = self.spec.source_shape or self.spec.shape
        check_images(source, DataSpec(shape, levels=self.spec.levels))
        y = self._checked(condition, len(source))
        if not len(source):
            return torch.empty(0, *self.spec.shape, dtype=torch.uint8, device=source.device)
        return _computed(self, "translate", _without_count(self._translate), len(source), (source, *y))

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        """source uint8 [B, *source_shape], B >= 1 -> uint8 [B, C, H, W]."""
        _not_written(self, "Translates", "_translate")


# What is checked


def check_images(x: Tensor, spec: DataSpec) -> None:
    """Refuse images that are not what a model was built for.

    Raises:
        ValueError: dtype, shape or a value outside 0 .. levels-1, with expected and found.
    """
    if x.dtype != torch.uint8:
        raise ValueError(f"images must be uint8, found {x.dtype}")
    if tuple(x.shape[1:]) != spec.shape or x.ndim != 4:
        raise ValueError(f"images must be [B, {', '.join(map(str, spec.shape))}], found {list(x.shape)}")
    if x.numel() and spec.levels < 256 and int(x.max()) >= spec.levels:
        raise ValueError(f"pixel values must be 0 to {spec.levels - 1}, found {int(x.max())}")


def check_latents(z: Tensor, latent_dim: int) -> None:
    """Refuse latents that are not [B, `latent_dim`].

    Raises:
        ValueError: with expected and found.
    """
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"latents must be [B, {latent_dim}], found {list(z.shape)}")


def check_draws(n: int, temperature: Any = 1.0) -> None:
    """Refuse what cannot be drawn.

    Raises:
        ValueError: n below 0, or temperature not above 0 or not finite.
    """
    if isinstance(temperature, Tensor):
        raise ValueError(
            "temperature must be a number, found a tensor; what images are to have is condition="
        )
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be finite and above 0, found {temperature}")
    if n < 0:
        raise ValueError(f"n must be at least 0, found {n}")


def _renamed(condition: Tensor | None, label: Tensor | None) -> Tensor | None:
    """`condition`, or what was given by its older name."""
    if label is None:
        return condition
    if condition is not None:
        raise ValueError("condition and label are one thing, found both; give condition= alone")
    warnings.warn("label= is now condition=", DeprecationWarning, stacklevel=3)
    return label


# What is computed


def _computed(
    model: GenerativeModel,
    name: str,
    run: Callable[..., Tensor],
    n: int,
    parts: tuple[Tensor, ...],
    measured: Callable[..., object] | None = None,
) -> Tensor:
    """`run(count, *pieces of parts)` for `n` >= 1 items, [n, ...].

    In chunks that fit memory, in eval mode, without gradients. `measured` takes the memory of `run` in less
    time, where there is such a thing.
    """
    taking = measured or run

    def first(count: int) -> object:
        return taking(count, *(part[[0] * count] for part in parts))

    with torch.no_grad(), evaluating(model):
        size = 1 if n == 1 else model.at_once(name, first)
        return in_chunks(run, n, parts, size)


def _without_count(run: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda count, *pieces: run(*pieces)


def _not_written(model: Any, capability: str, method: str) -> NoReturn:
    raise TypeError(f"{type(model).__name__} declares {capability} but does not define {method}()")

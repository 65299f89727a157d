"""What a model can do: a model declares it by deriving from these, a command asks with `isinstance`.

A public method is written here, once: it checks what it is given, takes as many images at once as fit
memory, switches gradients off and the model to eval mode, and calls the private method of the same name with
`_` before it, which is all that a model writes. That is given `*y`: the condition of each image for a model
that has one (`Conditional`), nothing for a model of p(x).

`condition` is a label int64 [B], attributes bool [B, A] or a caption int64 [B, T]; `label` is its older name.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from operator import itemgetter
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution

from gentrain.buffers import evaluating
from gentrain.contracts.calling import (
    check_draws,
    check_images,
    check_latents,
    check_length,
    computed,
    not_written,
    renamed,
    without_count,
)
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
        length: int | None = None,
    ) -> Tensor:
        """`n` images, uint8 [n, C, H, W] in 0 .. levels-1.

        Args:
            n: how many.
            temperature: above 0; below 1 the images are more alike and more typical.
            condition: of each image, [n, ...]; None: all in turn, for a model that takes one.
            label: the older name of `condition`.
            length: W, of a model that draws `any_length`; None: the spec's.

        Raises:
            ValueError: n below 0, temperature not above 0, a condition that the model does not take, or a
                length that it does not draw.
        """
        check_draws(n, temperature)
        check_length(self, length)
        y = self._checked(renamed(condition, label), n)
        if n == 0:
            shape = (*self.spec.shape[:2], length or self.spec.shape[2])
            return torch.empty(0, *shape, dtype=torch.uint8, device=self._like.device)
        long = {} if length is None else {"length": length}
        return computed(
            self,
            "sample",
            lambda count, *y: self._sample(count, temperature, *y, **long),
            n,
            y,
            lambda count, *y: self._measure_sample(count, *y),
        )

    def _sample(self, n: int, temperature: float, *y: Tensor) -> Tensor:
        """`n` >= 1 images, uint8 [n, C, H, W]."""
        not_written(self, "Samples", "_sample")

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
        y = self._checked(renamed(condition, label), len(x), needed=True)
        kind = self.likelihood_kind(samples)
        if self.condition is not None:
            kind = f"{kind} given {self.condition.plural}"
        if not len(x):
            return self._like.new_zeros(0), kind
        log_p = computed(
            self,
            "log_likelihood",
            lambda count, x, *y: self._log_likelihood(x, samples, *y),
            len(x),
            (x, *y),
            # More samples of an image do not take more memory: a model draws some of them at a time.
            lambda count, x, *y: self._log_likelihood(x, None if samples is None else 1, *y),
        )
        normaliser = self._log_normaliser(samples)
        return (log_p if normaliser is None else log_p - normaliser), kind

    def other_estimates(self, samples: int | None) -> dict[str, tuple[float, float]]:
        """{name: (nats, standard error)}: what the estimate of that name adds to -log p of every image.

        For a likelihood that is estimated, so that the one which flatters is not shown alone.
        """
        return {}

    def _log_normaliser(self, samples: int | None) -> float | None:
        """log Z, where `_log_likelihood` is that of an unnormalised density; None: it is normalised."""
        return None

    def likelihood_kind(self, samples: int | None) -> LikelihoodKind:
        """What `log_likelihood` computes with so many `samples`."""
        return "exact"

    def _log_likelihood(self, x: Tensor, samples: int | None, *y: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> log p [B] in nats."""
        not_written(self, "HasLikelihood", "_log_likelihood")


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
        not_written(self, "EncodesDecodes", "_encode")

    def _decode(self, z: Tensor, *y: Tensor) -> Distribution:
        """p(x|z), unchecked; z in the model's dtype."""
        not_written(self, "EncodesDecodes", "_decode")


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
        not_written(self, "Reconstructs", "_reconstructions")


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

    def complete(
        self, x: Tensor, known: Tensor, *, condition: Tensor | None = None, length: int | None = None
    ) -> Tensor:
        """x uint8 [B, C, H, W], known bool [B, C, H, W] -> uint8 [B, C, H, W], known pixels kept.

        What x has where it is not `known` does not count. `condition` as in `Samples.sample`. With a
        `length`, for a model that draws `any_length`, x is of any W up to it, and is gone on with:
        [B, C, H, length].

        Raises:
            ValueError: images that the model was not built for, `known` of another shape or dtype, a
                condition that the model does not take, or a length that it does not draw.
        """
        check_length(self, length, least=x.shape[-1])
        check_images(x, self.spec, any_length=length is not None)
        if known.dtype != torch.bool:
            raise ValueError(f"known must be bool, found {known.dtype}")
        if known.shape != x.shape:
            raise ValueError(f"known must be {list(x.shape)}, like the images, found {list(known.shape)}")
        y = self._checked(condition, len(x))
        if length is not None:
            more = (0, length - x.shape[-1])
            x, known = F.pad(x, more), F.pad(known, more)
        if not len(x):
            return x
        return computed(
            self,
            "complete",
            without_count(self._complete),
            len(x),
            (x, known, *y),
            lambda count, x, known, *y: self._measure_complete(x, known, *y),
        )

    def note(self, known: Tensor) -> str | None:
        """What the user should know of completing with `known`, bool [B, C, H, W], in one line."""
        return None

    def _complete(self, x: Tensor, known: Tensor, *y: Tensor) -> Tensor:
        """B >= 1 images with what is not known filled in, uint8 [B, C, H, W]."""
        not_written(self, "Completes", "_complete")

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

    lacks: ClassVar[Mapping[str, str]] = {
        "sample": "it translates images: gentrain translate",
        "eval": "it has no density p(x); gentrain eval metrics=[translation]",
    }

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
        return computed(self, "translate", without_count(self._translate), len(source), (source, *y))

    def _translate(self, source: Tensor, *y: Tensor) -> Tensor:
        """source uint8 [B, *source_shape], B >= 1 -> uint8 [B, C, H, W]."""
        not_written(self, "Translates", "_translate")


class TranslatesBack(Translates, ABC):
    """Maps images of either domain to the other.

    >>> import gentrain
    >>> spec = gentrain.DataSpec((1, 8, 8), source_shape=(1, 8, 8), paired=False)
    >>> model = gentrain.build(["model=cyclegan", "model.channels=2", "model.patch_depth=1"], spec)
    >>> back = model.translate_back(model.translate(torch.zeros(5, 1, 8, 8, dtype=torch.uint8)))
    >>> back.shape
    torch.Size([5, 1, 8, 8])
    """

    def translate_back(self, x: Tensor, *, condition: Tensor | None = None) -> Tensor:
        """x uint8 [B, C, H, W] -> uint8 [B, *source_shape]. `condition` as in `Samples.sample`.

        Raises:
            ValueError: images that the model was not built for, or a condition that it does not take.
        """
        check_images(x, self.spec)
        y = self._checked(condition, len(x))
        if not len(x):
            shape = self.spec.source_shape or self.spec.shape
            return torch.empty(0, *shape, dtype=torch.uint8, device=x.device)
        return computed(self, "translate_back", without_count(self._translate_back), len(x), (x, *y))

    def _translate_back(self, x: Tensor, *y: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], B >= 1 -> uint8 [B, *source_shape]."""
        not_written(self, "TranslatesBack", "_translate_back")

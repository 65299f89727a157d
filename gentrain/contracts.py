"""The contracts between data, models, the trainer and the commands.

Shape letters used everywhere: B images in a batch, C channels, H height, W width, D latent
dimensions, A attributes. Pixels are integers 0 .. levels-1, stored as uint8, on both sides of a model.
"""

from __future__ import annotations

import dataclasses
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution


@dataclass(frozen=True)
class DataSpec:
    """What a data set's images are; flows from the data set into the model's constructor.

    Args:
        shape: (C, H, W) of one image.
        levels: grey levels of a pixel, 2 to 256; pixel values are 0 .. levels-1.
        classes: number of labels, or None where images have no label.
        label_names: one name per class, or None.
        attributes: names of the boolean attributes (length A), or None.
        source_shape: (C, H, W) of the paired or other-domain image, or None.

    Raises:
        ValueError: a size below 1, levels outside 2..256, or label_names not one per class.
    """

    shape: tuple[int, int, int]
    levels: int = 256
    classes: int | None = None
    label_names: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    source_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for field in ("shape", "label_names", "attributes", "source_shape"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, tuple(value))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W) of at least 1 each, found {self.shape}")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must be 2 to 256, found {self.levels}")
        if self.label_names is not None and len(self.label_names) != self.classes:
            raise ValueError(f"{len(self.label_names)} label_names for {self.classes} classes")

    @property
    def dims(self) -> int:
        """C * H * W, the number of pixel values of one image."""
        channels, height, width = self.shape
        return channels * height * width

    @property
    def label_words(self) -> tuple[str, ...] | None:
        """One name per label, its number where there are no names; None without labels."""
        return self.label_names or (tuple(map(str, range(self.classes))) if self.classes else None)

    def to_dict(self) -> dict[str, Any]:
        """Plain ints, strings and lists, as a checkpoint stores it."""
        plain = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> DataSpec:
        """Inverse of `to_dict`."""
        return cls(**plain)


class Batch(NamedTuple):
    """One batch of images; the DataSpec says which of the optional parts exist.

    x: uint8 [B, C, H, W]; label: int64 [B]; attributes: bool [B, A];
    source: uint8 [B, *source_shape], the paired or other-domain image.
    """

    x: Tensor
    label: Tensor | None = None
    attributes: Tensor | None = None
    source: Tensor | None = None

    @property
    def given(self) -> Tensor | None:
        """What the capabilities call `label`: the label, or the attributes where there is none."""
        return self.attributes if self.label is None else self.label

    def map(self, f: Callable[[Tensor], Tensor]) -> Batch:
        """`f` of every part that exists."""
        rest = [None if part is None else f(part) for part in self[1:]]
        return Batch(f(self.x), *rest)

    def split(self, parts: int) -> list[Batch]:
        """`parts` micro-batches of equal size, in order.

        Raises:
            ValueError: `parts` does not divide B.
        """
        if parts == 1:
            return [self]
        size, rest = divmod(len(self.x), parts)
        if rest:
            raise ValueError(f"a batch of {len(self.x)} cannot be split into {parts} equal parts")
        slices = [slice(i * size, (i + 1) * size) for i in range(parts)]
        return [self.map(operator.itemgetter(part)) for part in slices]


Loss = Callable[[Batch, int], tuple[Tensor, dict[str, Tensor]]]


@dataclass
class Turn:
    """One player's move in a training step.

    Args:
        name: key of this turn's optimiser and schedule in the config (`optim.<name>.lr`).
        nets: the modules whose parameters this turn moves.
        loss: (batch, step) -> (scalar to minimise, {name: scalar} to log).
        every: the turn is due when `(step + 1) % every == 0`.
        double_backward: the loss differentiates through a gradient (it is then not compiled).
        changes: None: the loss does not read `step`. Else the steps (0-based) at which what it makes of
            `step` changes: from one of them to the next it is the same function of the batch. A step that
            is captured (`train.cuda_graph`) keeps the loss that it was captured with, so it is captured
            again at these steps, and there a loss that reads `step` under None is refused.
    """

    name: str
    nets: Sequence[nn.Module]
    loss: Loss
    every: int = 1
    double_backward: bool = False
    changes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"turn {self.name}: every must be at least 1, found {self.every}")

    def due(self, step: int) -> bool:
        """Whether this turn moves in step `step` (0-based)."""
        return (step + 1) % self.every == 0

    def form(self, step: int) -> int:
        """How many of `changes` lie at or before step `step`: equal where the loss is the same function."""
        return sum(change <= step for change in self.changes or ())

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that this turn moves, each once, in order; frozen ones are left out."""
        seen: dict[int, nn.Parameter] = {}
        for net in self.nets:
            for parameter in net.parameters():
                if parameter.requires_grad:
                    seen.setdefault(id(parameter), parameter)
        return list(seen.values())


class GenerativeModel(nn.Module, ABC):
    """What the trainer and the commands know of a model.

    A subclass takes the DataSpec first and its own settings as keywords (its YAML holds their
    defaults), and either defines `loss` (one turn over all parameters) or overrides `turns`. What a
    loss keeps from step to step lies in buffers, which it writes in place.
    What else it can do it declares by deriving from the capabilities below.
    """

    #: Why a capability is missing, where the reason is worth a line: {capability: reason}.
    lacks: ClassVar[Mapping[str, str]] = {}

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def _like(self) -> Tensor:
        """A parameter, for its dtype and device."""
        return next(self.parameters())

    def loss(self, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the default turn: (scalar, {name: scalar to log})."""
        raise TypeError(f"{type(self).__name__} defines neither loss() nor turns()")

    def turns(self) -> list[Turn]:
        """The turns of one step, in order; by default one, `main`, over all parameters."""
        return [Turn("main", [self], self.loss)]

    def data_dependent_init(self, batch: Batch) -> None:
        """Initialise from data (ActNorm, weight norm); run once, before the EMA exists."""

    def healthy(self) -> str | None:
        """None, or one line that says which part went bad; asked with every log line, and stops the run."""
        return None

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What the user should know of, one line each with a remedy; the run goes on.

        Asked with every log line; `figures` are those of the line (`loss/<turn>/<term>`,
        `grad_norm/<turn>`, ...). A warning is shown once per session.
        """
        return []

    def examine(self, batch: Batch) -> dict[str, Tensor]:
        """{name: scalar} too dear for every step; asked with every evaluation, in eval mode, and logged.

        `batch` is held out where there are validation images. What it draws or writes in buffers is undone.
        """
        return {}


# Capabilities: a model declares them by deriving from them, a command asks with `isinstance`. Where they
# take `label`, that is int64 [B] for data with labels, bool [B, A] for data with attributes alone.


class Samples(ABC):
    """Draws images."""

    @abstractmethod
    def sample(self, n: int, label: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """`n` images, uint8 [n, C, H, W] in 0 .. levels-1.

        label: int64 [n], or bool [n, A] for data with attributes, or None.

        Raises:
            ValueError: temperature not above 0, or a label for a model without labels.
        """


LikelihoodKind = str  # "exact", "ELBO", "IWAE-<k>" or "dequantised bound"; of p(x|label): "... given labels"


class HasLikelihood(ABC):
    """Knows log p(x), or a lower bound on it."""

    @abstractmethod
    def log_likelihood(
        self, x: Tensor, label: Tensor | None = None, samples: int | None = None
    ) -> tuple[Tensor, LikelihoodKind]:
        """x uint8 [B, C, H, W] -> (log p [B] in nats per image, kind).

        label: int64 [B], or bool [B, A] for data with attributes, or None; ignored by a model of p(x).
        samples: the number of importance samples, where the kind takes one.
        """


class EncodesDecodes(ABC):
    """Has q(z|x) and p(x|z)."""

    @abstractmethod
    def encode(self, x: Tensor) -> Distribution:
        """x uint8 [B, C, H, W] -> q(z|x), batch shape [B], event shape [D]."""

    @abstractmethod
    def decode(self, z: Tensor) -> Distribution:
        """z [B, D] -> p(x|z), batch shape [B], event shape [C, H, W], values 0 .. levels-1."""


class Reconstructs(ABC):
    """Shows what it makes of a batch."""

    @abstractmethod
    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{row name: uint8 [B, C, H, W]}, in the order from top to bottom; the images' own row is `batch.x`.

        Raises:
            ValueError: images that the model was not built for, or not the labels that it needs.
        """


class LatentsToImages(ABC):
    """Makes pictures from latents."""

    #: Prior over latents: "gaussian" is interpolated on the sphere, anything else on the line. Of the
    #: class, or of an object where a setting decides.
    latent_prior: Literal["gaussian", "uniform", "none"] = "gaussian"

    @property
    @abstractmethod
    def latent_dim(self) -> int:
        """D, the number of latent dimensions."""

    @abstractmethod
    def latents_to_images(self, z: Tensor) -> Tensor:
        """z [B, D] -> uint8 [B, C, H, W], the most typical image of each latent."""


class ImagesToLatents(LatentsToImages, Reconstructs):
    """Finds the latents of images too: has an inverse or an encoder."""

    @abstractmethod
    def images_to_latents(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> z [B, D]."""

    def reconstructions(self, batch: Batch) -> dict[str, Tensor]:
        """{"image", "reconstruction"}: the images, and the images of their latents."""
        return {"image": batch.x, "reconstruction": self.latents_to_images(self.images_to_latents(batch.x))}


class Invertible(ImagesToLatents):
    """Is an invertible map between dequantised images and standard normal latents."""

    @abstractmethod
    def to_latent(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y float [B, C, H, W] in [0, 1) -> (z [B, D], log |det dz/dy| [B]); D = C * H * W."""

    @abstractmethod
    def from_latent(self, z: Tensor) -> Tensor:
        """z [B, D] -> y float [B, C, H, W], inverse of `to_latent`."""


class Completes(ABC):
    """Fills in the unknown part of images."""

    @abstractmethod
    def complete(self, x: Tensor, known: Tensor) -> Tensor:
        """x uint8 [B, C, H, W], known bool [B, C, H, W] -> uint8 [B, C, H, W], known pixels kept.

        Raises:
            ValueError: images that the model was not built for, or `known` of another shape or dtype.
        """

    def note(self, known: Tensor) -> str | None:
        """What the user should know of completing with `known`, bool [B, C, H, W], in one line."""
        return None


class Translates(ABC):
    """Maps images of one domain to the other."""

    @abstractmethod
    def translate(self, x: Tensor) -> Tensor:
        """x uint8 [B, *source_shape] -> uint8 [B, C, H, W]."""


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


def check_draws(n: int, temperature: float = 1.0) -> None:
    """Refuse what `Samples.sample` cannot draw.

    Raises:
        ValueError: n below 0, or temperature not above 0 or not finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature must be finite and above 0, found {temperature}")
    if n < 0:
        raise ValueError(f"n must be at least 0, found {n}")


def refuse_label(model: GenerativeModel, label: Tensor | None) -> None:
    """Refuse a label given to a model of p(x).

    Raises:
        ValueError: there is one.
    """
    if label is not None:
        raise ValueError(f"label: {type(model).__name__} has no labels to sample from")

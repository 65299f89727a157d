"""What is given of each image, and the models that are conditioned on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gentrain.contracts.data import Batch, DataSpec
from gentrain.contracts.model import GenerativeModel


@dataclass(frozen=True)
class Condition(ABC):
    """One kind of what may be given of each image.

    Args:
        size: how many different labels, attributes or words there are.
        length: T, tokens of a caption; 1 of the others.
    """

    size: int
    length: int = 1
    #: Its name in a `Batch` and on the command line, and the plural in messages.
    name: ClassVar[str]
    plural: ClassVar[str]
    dtype: ClassVar[torch.dtype] = torch.int64

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Of one image's."""

    @abstractmethod
    def in_turn(self, n: int, device: torch.device) -> Tensor:
        """`n` of them, going through all in turn."""

    def check(self, y: Tensor, n: int) -> None:
        """Refuse what is not given for `n` images.

        Raises:
            ValueError: another dtype or shape, or a number that is too large.
        """
        wanted = (n, *self.shape)
        if tuple(y.shape) != wanted or y.dtype != self.dtype:
            kind = str(self.dtype).removeprefix("torch.")
            found = f"{str(y.dtype).removeprefix('torch.')} {list(y.shape)}"
            raise ValueError(f"{self.name} must be {kind} {list(wanted)}, found {found}")
        if self.dtype == torch.int64 and y.numel() and not 0 <= int(y.min()) <= int(y.max()) < self.most:
            found = f"{int(y.min())} to {int(y.max())}"
            raise ValueError(f"{self.name} must be 0 to {self.most - 1}, found {found}")

    @property
    def most(self) -> int:
        """Numbers are below this."""
        return self.size


class Label(Condition):
    """A label, int64 [B], of `size` classes."""

    name, plural = "label", "labels"

    @property
    def shape(self) -> tuple[int, ...]:
        """A number."""
        return ()

    def in_turn(self, n: int, device: torch.device) -> Tensor:
        """0, 1, ..., size - 1, 0, ...: int64 [n]."""
        return torch.arange(n, device=device) % self.size


class Attributes(Condition):
    """Attributes, bool [B, A], A = `size` of them."""

    name, plural, dtype = "attributes", "attributes", torch.bool

    @property
    def shape(self) -> tuple[int, ...]:
        """One for each attribute."""
        return (self.size,)

    def in_turn(self, n: int, device: torch.device) -> Tensor:
        """Each attribute alone: bool [n, A]."""
        return torch.arange(n, device=device)[:, None] % self.size == torch.arange(self.size, device=device)


class Caption(Condition):
    """A caption, token ids int64 [B, T] of a vocabulary of `size` words; 0 pads."""

    name, plural = "caption", "captions"

    @property
    def shape(self) -> tuple[int, ...]:
        """T tokens."""
        return (self.length,)

    @property
    def most(self) -> int:
        """The padding, and the words from 1."""
        return self.size + 1

    def in_turn(self, n: int, device: torch.device) -> Tensor:
        """Each word alone: int64 [n, T]."""
        tokens = torch.zeros(n, self.length, dtype=torch.int64, device=device)
        tokens[:, 0] = torch.arange(n, device=device) % self.size + 1
        return tokens


def conditions_of(spec: DataSpec) -> dict[str, Condition]:
    """{name: condition} of all that a data set gives of its images."""
    found: list[Condition] = []
    if spec.classes:
        found.append(Label(spec.classes))
    if spec.attributes:
        found.append(Attributes(len(spec.attributes)))
    if spec.vocabulary and spec.caption_length:
        found.append(Caption(len(spec.vocabulary), spec.caption_length))
    return {condition.name: condition for condition in found}


class Conditional(GenerativeModel):
    """A model of p(x|y), y the first of `takes` that the data give; or of p(x), where a setting says so.

    Derive from it after the family's base, which calls its constructor with the DataSpec.

    Raises:
        ValueError: the data give none of them.
    """

    #: Names of conditions, the best first.
    takes: ClassVar[tuple[str, ...]] = ("label", "attributes")
    #: Whether a setting decides: the constructor then sets `condition` to `condition_of(spec)`, or leaves it.
    optional: ClassVar[bool] = False
    #: Of p(x), what to type to have a model that takes a condition, and of p(x|y) one that takes none.
    told_by: ClassVar[str] = "model=cvae"
    untold_by: ClassVar[str] = "take a model of p(x), e.g. model=vae"

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.condition = None if self.optional else self.condition_of(spec)

    @classmethod
    def condition_of(cls, spec: DataSpec) -> Condition:
        """Which condition the model takes of images of `spec`.

        Raises:
            ValueError: the data give none that it could take.
        """
        there = conditions_of(spec)
        for name in cls.takes:
            if name in there:
                return there[name]
        plurals = {kind.name: kind.plural for kind in (Label, Attributes, Caption)}
        wanted = [plurals[name] for name in cls.takes]
        lacking = f"neither {' nor '.join(wanted)}" if len(wanted) > 1 else f"no {wanted[0]}"
        own = "images" if spec.sample_rate is None else "recordings"
        hows = {
            "label": f" (for your own {own}: one folder per class)",
            "caption": " (dataset=captions, or of images with labels dataset.stacked=true)",
        }
        how = next((hows[name] for name in cls.takes if name in hows), "")
        raise ValueError(
            f"dataset: its {own} have {lacking} to condition on; take a data set that has{how}, or "
            f"{cls.untold_by}"
        )

    def in_turn(self, n: int) -> Tensor:
        """What the model takes where nothing is given, of `n` images: all in turn, [n, ...].

        Raises:
            ValueError: it takes none.
        """
        if self.condition is None:
            raise ValueError(f"{type(self).__name__} is a model of p(x), which takes no condition")
        return self.condition.in_turn(n, self._like.device)

    def given(self, batch: Batch) -> tuple[Tensor, ...]:
        """(y,), unchecked: nothing here waits for the device; () of p(x).

        Raises:
            ValueError: the batch has none.
        """
        if self.condition is None:
            return super().given(batch)
        y = getattr(batch, self.condition.name)
        if y is None:
            raise ValueError(self._lacking(self.condition.name))
        return (y,)

    @staticmethod
    def _lacking(name: str) -> str:
        return f"{name}: the model is one of p(x|{name}) and needs the {name} of every image"

    def _checked(self, condition: Tensor | None, n: int, needed: bool = False) -> tuple[Tensor, ...]:
        """(y,): what was given for `n` images, one for each or one for all; None: all in turn.

        Raises:
            ValueError: not one that the data have, or none where it is `needed`.
        """
        if self.condition is None:
            return super()._checked(condition, n, needed)
        device = self._like.device
        if condition is None:
            if needed:
                raise ValueError(self._lacking(self.condition.name))
            return (self.in_turn(n).to(device),)
        if tuple(condition.shape) == self.condition.shape:
            condition = condition.expand(n, *condition.shape)
        self.condition.check(condition, n)
        return (condition.to(device),)

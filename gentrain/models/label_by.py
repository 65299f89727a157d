"""Models that are told what is known of an image by a bias inside their networks, where a setting says so."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gentrain.contracts import Conditional, DataSpec
from gentrain.layers.condition import ConditionVector
from gentrain.layers.settings import check_choice

LABEL_BY = ("none", "bias")


class LabelByBias(Conditional):
    """A model of p(x), or with `label_by="bias"` of p(x|y): its networks take y as numbers.

    Derive from it after the family's base; networks are built for `known_of` numbers, `tell` is called once.
    """

    takes: ClassVar[tuple[str, ...]] = ("label", "attributes", "caption")
    optional: ClassVar[bool] = True
    told_by: ClassVar[str] = "model.label_by=bias"
    untold_by: ClassVar[str] = "set model.label_by=none"

    @classmethod
    def known_of(cls, spec: DataSpec, label_by: str) -> int:
        """Y, how many numbers are known of an image; 0 of p(x).

        Raises:
            ValueError: an unknown `label_by`, or images without labels that are to be given.
        """
        check_choice("label_by", label_by, LABEL_BY)
        return cls.condition_of(spec).size if label_by == "bias" else 0

    def tell(self, known: int) -> None:
        """Be a model of p(x|y) where `known` is not 0."""
        if known:
            self.condition = self.condition_of(self.spec)
            self.vector = ConditionVector(known, tokens=self.condition.name == "caption")

    def as_numbers(self, *y: Tensor) -> tuple[Tensor, ...]:
        """(c,), the condition as numbers [B, Y] in the model's dtype; () of p(x)."""
        return tuple(self.vector(part, self._like.dtype) for part in y)

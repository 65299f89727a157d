"""What a data set's images are, and a batch of them."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """What a data set's images are; flows from the data set into the model's constructor.

    Args:
        shape: (C, H, W) of one image.
        levels: grey levels of a pixel, 2 to 256; pixel values are 0 .. levels-1.
        classes: number of labels, or None where images have no label.
        label_names: one name per class, or None.
        attributes: names of the boolean attributes (length A), or None.
        vocabulary: the words of captions, or None where images have none. Token i + 1 is word i, 0 pads.
        caption_length: T, tokens of every caption, padding counted; None without a vocabulary.
        source_shape: (C, H, W) of the partner or other-domain image, or None.
        paired: whether `source` is the partner of `x`, or an image of another domain in an order of its own;
            None without a source.
        sample_rate: of sound, in Hz: an image [1, 1, T] is then a waveform of T samples; None for pictures.
        context: of sound, how many of the first samples of each are given: likelihoods are of the rest. None
            for pictures.

    Raises:
        ValueError: a size below 1, levels outside 2..256, label_names not one per class, a vocabulary without
            a caption_length or a source_shape without `paired`, or the other way round, a context without a
            sample_rate or as long as the sound.
    """

    shape: tuple[int, int, int]
    levels: int = 256
    classes: int | None = None
    label_names: tuple[str, ...] | None = None
    attributes: tuple[str, ...] | None = None
    source_shape: tuple[int, int, int] | None = None
    paired: bool | None = None
    vocabulary: tuple[str, ...] | None = None
    caption_length: int | None = None
    sample_rate: int | None = None
    context: int | None = None

    def __post_init__(self) -> None:
        for field in ("shape", "label_names", "attributes", "source_shape", "vocabulary"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, tuple(value))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W) of at least 1 each, found {self.shape}")
        if not 2 <= self.levels <= 256:
            raise ValueError(f"levels must be 2 to 256, found {self.levels}")
        if self.label_names is not None and len(self.label_names) != self.classes:
            raise ValueError(f"{len(self.label_names)} label_names for {self.classes} classes")
        for one, other in (("vocabulary", "caption_length"), ("source_shape", "paired")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other} go together, found only one of them")
        for name in ("caption_length", "sample_rate"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, found {value}")
        if self.context is not None and (self.sample_rate is None or not 0 <= self.context < self.shape[2]):
            raise ValueError(
                f"context must be 0 to {self.shape[2] - 1} samples of sound, found {self.context}"
            )

    @property
    def counted(self) -> int:
        """Pixel values of one image that its likelihood is of: all but the context of a sound."""
        return self.dims - (self.context or 0)

    @property
    def words(self) -> tuple[str, str]:
        """What one is called, and one of its values: ("image", "dim") or ("crop", "sample")."""
        return ("image", "dim") if self.sample_rate is None else ("crop", "sample")

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
        """Inverse of `to_dict`; of an older checkpoint too, which lacks what came later."""
        return cls(**plain)


class Batch(NamedTuple):
    """One batch of images; the DataSpec says which of the optional parts exist.

    x: uint8 [B, C, H, W]; label: int64 [B]; attributes: bool [B, A]; source: uint8 [B, *source_shape], the
    partner or other-domain image; caption: int64 [B, T], token ids, 0 pads.
    """

    x: Tensor
    label: Tensor | None = None
    attributes: Tensor | None = None
    source: Tensor | None = None
    caption: Tensor | None = None

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

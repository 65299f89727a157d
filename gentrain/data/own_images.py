"""What data sets of the user's own images share: one root, one size, files that fit or are counted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gentrain.contracts import DataSpec
from gentrain.data.archive import Archive, File, fingerprint, open_archive
from gentrain.data.decoding import MAX_SIDE, decode_image
from gentrain.data.draws import drawn_part, draws_by_name
from gentrain.data.image_source import ImageSource
from gentrain.data.stream import decoded
from gentrain.data.writer import Writer
from gentrain.errors import UserError

_NAMED = 3
Decode = Callable[[bytes], np.ndarray]


class OwnImages(ImageSource):
    """Base of data sets of one root, whose images are brought to one size and number of channels.

    Args:
        root: a folder or zip.
        image_size: S or [H, W] in pixels: resize the shorter side and crop the centre; None where all images
            are of one size.
        channels: 1 or 3, and of a data set that finds out for itself None.
        on_error: raise at what does not match or cannot be decoded, or skip and count it.
        test_fraction: part of the images, in (0, 1), that is the test set where there is none.

    Raises:
        ValueError: a setting out of range.
        UserError: no root.
    """

    #: What a root may hold, for messages.
    layouts: ClassVar[str]
    #: Whether `channels` may be None.
    finds_channels: ClassVar[bool] = False
    #: Settings that decide the arrays, besides those of here.
    decisive: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] | None,
        channels: int | None,
        on_error: str,
        test_fraction: float,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if self.root is None:
            raise UserError(
                f"dataset={self.name} needs dataset.root=PATH, a folder or a .zip with {self.layouts}"
            )
        sides = [image_size] * 2 if isinstance(image_size, int) else image_size
        if sides is not None and (len(sides) != 2 or min(sides) < 1 or max(sides) > MAX_SIDE):
            raise ValueError(
                f"dataset.image_size must be a side or [height, width] of 1 to {MAX_SIDE} pixels, or null, "
                f"found {image_size}"
            )
        if channels not in (1, 3) and not (channels is None and self.finds_channels):
            choices = "1, 3 or null" if self.finds_channels else "1 or 3"
            raise ValueError(f"dataset.channels must be {choices}, found {channels}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f"dataset.on_error must be raise or skip, found {on_error}")
        if not 0 < test_fraction < 1:
            raise ValueError(f"dataset.test_fraction must lie between 0 and 1, found {test_fraction}")
        self.image_size = None if sides is None else (int(sides[0]), int(sides[1]))
        self.channels, self.on_error, self.test_fraction = channels, on_error, test_fraction
        self._skipped: list[str] = []
        self._first: tuple[str, tuple[int, ...]] | None = None

    @property
    def _folder(self) -> Path:
        assert self.root is not None
        return self.root

    def key(self) -> Mapping[str, Any]:
        settings = (*self.decisive, "image_size", "channels", "on_error", "test_fraction")
        return {"files": fingerprint(self._folder), **{key: getattr(self, key) for key in settings}}

    def decode(self, writer: Writer) -> DataSpec:
        self._skipped, self._first = [], None
        with open_archive(self._folder) as archive:
            spec = self._decode(archive, writer)
        if self._skipped:
            more = ", ..." if len(self._skipped) > _NAMED else ""
            writer.notes.append(f"skipped {len(self._skipped):,}: {', '.join(self._skipped[:_NAMED])}{more}")
        return spec

    @abstractmethod
    def _decode(self, archive: Archive, writer: Writer) -> DataSpec:
        """The images into `writer`."""

    def _bad(self, what: str, remedy: str) -> None:
        """Refuse what does not fit, or count it."""
        if self.on_error == "raise":
            raise UserError(f"{what}; {remedy}, or leave such files out with dataset.on_error=skip")
        self._skipped.append(what)

    def _images(
        self, archive: Archive, files: list[File], decode: Decode
    ) -> Iterator[tuple[File, np.ndarray]]:
        """Each file that can be decoded with its image, all of one height and width."""
        with decoded(archive, files, decode) as images:
            for file, image in images:
                path = archive.path(file.name)
                if not isinstance(image, np.ndarray):
                    self._bad(f"{path} cannot be decoded: {image}", "mend or remove it")
                    continue
                if self._first is None:
                    self._first = (path, image.shape)
                if image.shape[1:] != self._first[1][1:]:
                    (other, (_, height, width)), (_, h, w) = self._first, image.shape
                    raise UserError(
                        f"{path} has {h}x{w} pixels (HxW), {other} has {height}x{width}; bring all to one "
                        "size with dataset.image_size=PIXELS"
                    )
                yield file, image

    def _one(self, content: bytes) -> np.ndarray:
        return decode_image(content, self.image_size, self.channels)

    def _drawn(self, names: list[str], what: str) -> np.ndarray:
        """Which of `names` are the test set, bool [N]."""
        if len(names) < 2:
            raise UserError(f"dataset.root={self.root} holds {len(names)} {what}; at least 2 are needed")
        return drawn_part(draws_by_name(names, "test", self.split_seed), self.test_fraction)

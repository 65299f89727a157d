"""The file that a command writes, and the line that says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from gentrain import sounds
from gentrain.api import Loaded
from gentrain.contracts import DataSpec
from gentrain.files import check_folder, numbered, write_text, writing
from gentrain.images import as_image, check_out, draw_png, save_animation, save_png
from gentrain.titles import Labels, titled

#: What to type to have the file in another place.
ELSEWHERE = "out=FILE"


def subject(loaded: Loaded | None) -> str:
    """What a picture is of, in words."""
    if loaded is None:
        return ""
    names = loaded.config.names
    return f"{names.model} on {names.dataset}, step {loaded.step:,}"


class Output:
    """`out` as it was typed, or a default name in the run folder (in the current folder without a run).

    A file that was typed is replaced. A default name that is taken gives way to the next that is free,
    samples-2.png, unless one of them holds the same already.

    Args:
        config: of the command, with `out`.
        loaded: the model; None where there is none, or several.
        default: the name.
        suffixes: how the name may end.

    Raises:
        UserError: another ending, or a place that cannot be written.
        Fault: the disk is full.
    """

    def __init__(
        self, config: DictConfig, loaded: Loaded | None, default: str, suffixes: tuple[str, ...]
    ) -> None:
        self._titles = Labels(subject(loaded)) if config.get("titles") else None
        self._typed = config.out is not None
        self._how = ""
        if self._typed:
            self.path = Path(config.out).expanduser()
            check_out(self.path, suffixes)
        else:
            self.path = (loaded.run.folder if loaded and loaded.run else Path()) / default
            check_folder(self.path.absolute().parent, str(self.path), ELSEWHERE)

    def name(
        self,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        what: str = "",
        under: Sequence[str] = (),
        across: int = 1,
    ) -> None:
        """What the rows and columns of the picture are, and what it shows: written with `titles=true`.

        `under` is of each picture of a grid of `across` in a row.
        """
        if self._titles is not None:
            title = ": ".join(part for part in (self._titles.title, what) if part)
            self._titles = Labels(title, list(rows), list(columns), list(under), across)

    def png(self, picture: Tensor) -> None:
        """Write uint8 [1 or 3, height, width].

        Raises:
            UserError, Fault: as `files.unwritable` says.
        """
        picture = picture if self._titles is None else titled(picture, self._titles)
        self._write(lambda file: draw_png(picture, file))

    def sounds(self, x: Tensor, spec: DataSpec) -> None:
        """Write sounds uint8 [B, 1, 1, T]: a WAV file, and a sheet of them as a PNG of the same name.

        Raises:
            UserError, Fault: as `files.unwritable` says.
        """
        content = sounds.wav(x, spec)

        def fill(path: Path) -> None:
            path.write_bytes(content)

        self._write(fill)
        save_png(sounds.sheet(x, spec), self.path.with_suffix(".png"))

    def animation(self, pictures: Sequence[Tensor]) -> None:
        """Write pictures, uint8 [1 or 3, height, width] each, one after the other and back: .gif or .webp.

        Raises:
            UserError, Fault: as `files.unwritable` says.
        """
        frames = [as_image(picture) for picture in pictures]
        frames += frames[-2:0:-1]
        kind = self.path.suffix.removeprefix(".").upper()
        self._write(lambda file: save_animation(frames, file, kind, last=150))

    def npz(self, **arrays: Any) -> None:
        """Write arrays, compressed.

        Raises:
            UserError, Fault: as `files.unwritable` says.
        """

        def fill(path: Path) -> None:
            with path.open("wb") as file:  # by its name numpy would add an ending
                np.savez_compressed(file, **arrays)

        self._write(fill)

    def text(self, content: str) -> None:
        """Write text in UTF-8.

        Raises:
            UserError, Fault: as `files.unwritable` says.
        """
        self._write(lambda file: write_text(file, content))

    def _write(self, fill: Callable[[Path], None]) -> None:
        if self._typed:
            self._how = ", replaced" if self.path.exists() else ""
            with writing(self.path, ELSEWHERE) as temporary:
                fill(temporary)
            return
        self.path, new = numbered(self.path, fill, ELSEWHERE)
        self._how = "" if new else ", unchanged"

    def wrote(self, what: str) -> str:
        """The line that says where `what` is."""
        return f"wrote   {self.path} ({what}){self._how}"

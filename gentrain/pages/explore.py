"""The explorer: a page in which a network computes, with sliders over what it is given."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from gentrain.pages.page import data_uri, rendered, sheet
from gentrain.pages.program import Program


@dataclass(frozen=True)
class Directions:
    """Directions of the latents that have sliders.

    vectors: float32 [K, D], each as long as one standard deviation. shares: of what changes in the pictures.
    """

    vectors: Tensor
    shares: Sequence[float]


@dataclass(frozen=True)
class Condition:
    """What the model is given of each picture.

    name: label, attributes or caption. names: of all. typed: how each is typed on a command line.
    mixes: whether it takes what lies between several. length: tokens of a caption. captions: to begin with.
    """

    name: str
    names: Sequence[str]
    typed: Sequence[str]
    mixes: bool
    length: int
    captions: Sequence[str]


@dataclass(frozen=True)
class Grid:
    """Pictures that were drawn beforehand.

    tiles: uint8 [labels * points * points, 1 or 3, H, W]; of captions the first ones that there are to begin
    with. base: latents in the middle, float32 [D].
    """

    tiles: Tensor
    base: Tensor
    points: int
    labels: int


@dataclass(frozen=True)
class Explorer:
    """What the page shows.

    Args:
        title: of what it is.
        command: that draws latents again, up to `latents=`.
        shape: (C, H, W) of a picture.
        levels: of a pixel.
        latent_dim: D.
        prior: gaussian, uniform or none.
        codes: name, begin in the latents, categories or None of each.
        directions: with sliders.
        condition: what the model is given; None: nothing.
        known: latents [N, D] to begin with, where there is no prior; None: they are drawn in the page.
        program: the network; None: a grid.
        told: of captions that are mixed, what makes of one the numbers that the network is given.
        grid: instead of the network.
        why: there is a grid.
        check: latents, condition and pixels that the page's are held against.
    """

    title: str
    command: str
    shape: tuple[int, int, int]
    levels: int
    latent_dim: int
    prior: str
    codes: Sequence[dict[str, Any]]
    directions: Directions
    condition: Condition | None
    known: Tensor | None
    program: Program | None
    told: Program | None
    grid: Grid | None
    why: str
    check: dict[str, Any] | None


def explorer_page(explorer: Explorer, half: bool) -> str:
    """The page; the weights have 16 bits each if `half`, else 32."""
    about: dict[str, Any] = {
        "command": explorer.command,
        "shape": list(explorer.shape),
        "levels": explorer.levels,
        "dim": explorer.latent_dim,
        "prior": explorer.prior,
        "codes": list(explorer.codes),
        "directions": [numbers(vector) for vector in explorer.directions.vectors],
        "condition": None if explorer.condition is None else asdict(explorer.condition),
        "known": None if explorer.known is None else [numbers(z) for z in explorer.known],
        "check": explorer.check,
        "half": half,
        "grid": None,
    }
    address = ""
    if explorer.grid is not None:
        png, columns = sheet(list(explorer.grid.tiles))
        address = data_uri(png)
        about["grid"] = {
            "base": numbers(explorer.grid.base),
            "points": explorer.grid.points,
            "labels": explorer.grid.labels,
            "columns": columns,
        }
    return rendered(
        "explore",
        title=explorer.title,
        about=about,
        network=None if explorer.program is None else explorer.program.packed(half),
        told=None if explorer.told is None else explorer.told.packed(half),
        shares=[round(100 * share) for share in explorer.directions.shares],
        codes=explorer.codes,
        condition=explorer.condition,
        prior=explorer.prior,
        why=explorer.why,
        sheet=address,
        cost="" if explorer.program is None else millions(explorer.program.cost),
    )


def millions(cost: float) -> str:
    """In words, two digits of it at least: 0.018, 1.2, 1,234."""
    return f"{cost / 1e6:,.0f}" if cost >= 1e7 else f"{cost / 1e6:.2g}"


def numbers(z: Tensor) -> str:
    """float32 [D] in base64, as addresses and command lines take it."""
    return base64.urlsafe_b64encode(z.numpy().astype("<f4").tobytes()).decode("ascii").rstrip("=")

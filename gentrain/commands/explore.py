"""`gentrain explore`: a page in which the model itself runs, to walk through its latents.

1. Härkönen et al. 2020, "GANSpace: Discovering Interpretable GAN Controls", arXiv:2004.02546: directions of
   latents from principal components of what the network makes of them.
2. Simon 2018, GANBreeder, github.com/joel-simon/ganbreeder: parents and children.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.chosen import names_given
from gentrain.commands.given import tokens_in
from gentrain.commands.labels import label_of
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output, subject
from gentrain.commands.to_onnx import Pixels, examples, first_cause, quiet, unrounded
from gentrain.commands.trained import device_of, open_data, open_model
from gentrain.commands.typed import item_of_a_list
from gentrain.config import conform
from gentrain.contracts import (
    Conditional,
    GenerativeModel,
    HasCodes,
    ImagesToLatents,
    LatentsToImages,
    MixesConditions,
)
from gentrain.data.batches import images_at
from gentrain.data.words import text_of, words_of
from gentrain.errors import UserError
from gentrain.images import to_display
from gentrain.pages.explore import Condition, Directions, Explorer, Grid, explorer_page, millions
from gentrain.pages.page import check_size
from gentrain.pages.program import Program, Unknown
from gentrain.schemas import ExploreConfig

#: Draws that principal directions are of, and images whose latents stand for draws where there is no prior.
DRAWS, KNOWN = 1000, 24
#: Labels, attributes or captions of which a grid is drawn, and captions to begin with, at most.
MOST_LABELS = 10


def run(asked: Asked) -> None:
    """Write the page.

    Raises:
        UserError: a model without latents, or a page that would be too large.
    """
    config = conform(ExploreConfig, asked.config)
    loaded = open_model(config)
    model = capable(loaded, LatentsToImages, "explore")
    if model.spec.sample_rate is not None:
        raise UserError(f"explore: {loaded.config.names.model} makes sound, and the page shows pictures")
    out = Output(config, loaded, "explore.html", (".html",))
    with torch.no_grad():
        program, told, why = in_the_page(model, config.most)
        known = latents_of_images(loaded, config) if model.latent_prior == "none" else None
        directions = directions_of(model, known, config.directions)
        condition = condition_of(loaded)
        grid = None if program else drawn_before(model, known, directions, condition, config.points)
    explorer = Explorer(
        title=subject(loaded),
        command=f"gentrain sample {ckpt_argument(loaded)}",
        shape=model.spec.shape,
        levels=model.spec.levels,
        latent_dim=model.latent_dim,
        prior=model.latent_prior,
        codes=[
            {"name": code.name, "begin": code.begin, "categories": code.categories}
            for code in (model.codes if isinstance(model, HasCodes) else ())
        ],
        directions=directions,
        condition=condition,
        known=None if known is None else known[:KNOWN],
        program=program,
        told=told,
        grid=grid,
        why=why,
        check=None if program is None else checked(model, known),
    )
    page = explorer_page(explorer, half=config.dtype == "float16")
    check_size(page, lambda part: smaller(part, config, program is None))
    out.text(page)
    how = f"{millions(program.cost)} million multiplications a picture" if program else f"a grid: {why}"
    print(out.wrote(f"{how}, {len(page) / 1e6:.1f} MB"))
    print(
        "open    it in a browser; what you see there is in its address, and `Copy the command` draws it again"
    )
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'interpolate', config=config)}")


def smaller(part: float, config: DictConfig, grid: bool) -> str:
    """What to type for a page of so many times its size."""
    if grid:
        return f"points={max(2, int(config.points * (0.9 * part) ** 0.5))} draws fewer pictures"
    if config.dtype == "float32" and part > 0.55:
        return "dtype=float16 gives one of half the size"
    return "most=0 draws a grid now, instead of the network"


# The network


def in_the_page(model: LatentsToImages, most: float) -> tuple[Program | None, Program | None, str]:
    """The network for a page, that of its captions where it mixes them, and else why a grid has to do."""
    try:
        program, told = program_of(model), told_of(model)
    except Unknown as error:
        return None, None, f"its network has what a page cannot compute ({error})"
    if program.cost > most * 1e6:
        why = f"{millions(program.cost)} million multiplications a picture are more than most={most:g}"
        return None, None, why
    return program, told, ""


def program_of(model: LatentsToImages) -> Program:
    """The way from the latents of one picture to its pixels in [0, 1], before they are rounded.

    Raises:
        Unknown: torch cannot export it, or a page cannot compute it.
    """
    z, y = inputs_of(model, 1)
    inputs = (z,) if y is None else (z, y)
    with unrounded(model):
        return Program(graph_of(Pixels(model), inputs), inputs)


def graph_of(network: nn.Module, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """What a network computes, in torch's simple operations.

    Raises:
        Unknown: torch cannot export it.
    """
    try:
        with quiet():
            return torch.export.export(network.eval(), inputs, strict=False).run_decompositions({})
    except Exception as error:  # torch's exporter has many, and long ones
        raise Unknown(first_cause(error)) from error


def inputs_of(model: LatentsToImages, n: int) -> tuple[Tensor, Tensor | None]:
    """`n` latents, and of a model that takes one a condition, or weights of all where it mixes them."""
    (z, *given), _ = examples(model, n)
    if not given:
        return z, None
    return z, model.conditions_to_mixtures(given[0]) if mixes(model) else given[0]


def mixes(model: GenerativeModel) -> TypeGuard[MixesConditions]:
    """Whether the page gives the model what lies between several labels, attributes or captions."""
    return isinstance(model, MixesConditions) and model.condition is not None


def mixes_captions(model: GenerativeModel) -> TypeGuard[MixesConditions]:
    """Whether that is between captions, of which a network of its own makes the numbers that are mixed."""
    return mixes(model) and model.condition is not None and model.condition.name == "caption"


class Told(nn.Module):
    """A caption int64 [1, T] -> the numbers that mixtures are sums of, float32 [1, Y]."""

    def __init__(self, model: MixesConditions) -> None:
        super().__init__()
        self.model = model

    def forward(self, y: Tensor) -> Tensor:
        """As the class says."""
        return self.model._vectors_of(y).float()


def told_of(model: LatentsToImages) -> Program | None:
    """The way from a caption to what is mixed; None of a model that mixes none.

    Raises:
        Unknown: torch cannot export it, or a page cannot compute it.
    """
    if not mixes_captions(model):
        return None
    tokens = model.in_turn(1)
    return Program(graph_of(Told(model), (tokens,)), (tokens,))


def checked(model: LatentsToImages, known: Tensor | None) -> dict[str, Any]:
    """A picture by torch, which the page holds its own against: latents, condition, pixels.

    Of captions that are mixed the condition is words, as the page reads them.
    """
    z, y = inputs_of(model, 1)
    words = y
    if mixes_captions(model):
        words = model.in_turn(1)
        y = model.conditions_to_mixtures(words)
    z = z if known is None else known[:1].to(z)
    with unrounded(model):
        pixels = Pixels(model).eval()(z, *(() if y is None else (y,)))
    return {
        "z": z.flatten().tolist(),
        "y": None if words is None else words.flatten().tolist(),
        "pixels": [round(number, 6) for number in pixels.flatten().tolist()],
    }


# Latents


def latents_of_images(loaded: Loaded, config: DictConfig) -> Tensor:
    """z float32 [N, D] of the first images of the test part, for a model that has no prior to draw from.

    Raises:
        UserError: no data, or no way from images to latents.
    """
    model = capable(loaded, ImagesToLatents, "explore without a prior")
    data = open_data(loaded, config)
    batch = images_at(data, data.test, range(min(DRAWS, len(data.test))), int(config.seed))
    batch = batch.map(lambda part: part.to(device_of(loaded)))
    return model.images_to_latents(batch.x, condition=loaded.model.condition_in(batch)).float().cpu()


def directions_of(model: LatentsToImages, known: Tensor | None, count: int) -> Directions:
    """Along which latents the pictures change most [1].

    Principal components of the pictures of draws, less the mean of those that are given the same; each
    direction is the one in which the latents go with a component, at a right angle to those before it.
    """
    device = model._like.device
    z = model.prior_draws(DRAWS) if known is None else known.to(device)
    y = in_turn(model, len(z))
    images = model.latents_to_images(z, condition=y)
    x = images.flatten(1).double().cpu() / (model.spec.levels - 1)  # [N, pixels]
    z = z.double().cpu()
    if y is None:
        x -= x.mean(0)
    else:
        _, groups = y.cpu().unique(return_inverse=True, dim=0)
        for part in groups.unique():
            x[groups == part] -= x[groups == part].mean(0)
    codes = [code.place for code in model.codes] if isinstance(model, HasCodes) else []
    free = z - z.mean(0)
    for place in codes:
        free[:, place] = 0
    count = min(count, len(x) - 1, x.shape[1], z.shape[1] - sum(place.stop - place.start for place in codes))
    components, sizes, _ = torch.linalg.svd(x, full_matrices=False)
    along = free.T @ components[:, :count]  # [D, count]
    vectors = torch.linalg.qr(along).Q.T * along.T.mul(torch.linalg.qr(along).Q.T).sum(1, keepdim=True).sign()
    spread = (free @ vectors.T).std(0)  # [count]
    shares = sizes.square() / sizes.square().sum().clamp_min(1e-12)
    return Directions((vectors * spread[:, None]).float(), shares[:count].tolist())


# What is given


def in_turn(model: GenerativeModel, n: int) -> Tensor | None:
    """What `n` pictures are given: all labels in turn, each attribute alone, captions; None of p(x)."""
    return model.in_turn(n) if isinstance(model, Conditional) and model.condition is not None else None


def captions_of(model: GenerativeModel, most: int) -> list[str]:
    """Captions to begin with, each once: those that the model remembers, or single words.

    None has a word that stands for unknown ones, which nobody can type.
    """
    y, words = in_turn(model, 10 * most), model.spec.vocabulary
    assert y is not None
    assert words is not None
    found = dict.fromkeys([*(text_of(row, words) for row in y.tolist()), *words])
    return [text for text in found if words_of(text) == text.split()][:most]


def condition_of(loaded: Loaded) -> Condition | None:
    """What the model takes, and how each is typed."""
    model, condition = loaded.model, loaded.model.condition
    if condition is None:
        return None
    names = names_given(condition.name, model.spec)
    numbers = [str(i) if label_of(str(i), names, "") == i else name for i, name in enumerate(names)]
    captions = captions_of(model, MOST_LABELS) if condition.name == "caption" else []
    return Condition(
        condition.name,
        names,
        numbers
        if (mixes(model) and condition.name != "caption") or condition.name == "label"
        else [item_of_a_list(name) for name in names],
        mixes(model),
        condition.length,
        captions,
    )


def drawn_before(
    model: LatentsToImages,
    known: Tensor | None,
    directions: Directions,
    condition: Condition | None,
    points: int,
) -> Grid:
    """Pictures over the plane of the first two directions, for each of the first labels."""
    device = model._like.device
    base = (model.prior_draws(1) if known is None else known[:1]).float().cpu()  # [1, D]
    along = torch.linspace(-2, 2, points)
    first, second = torch.meshgrid(along, along, indexing="ij")
    plane = torch.stack([first.flatten(), second.flatten()], 1)  # [points^2, 2]
    z = base + plane @ directions.vectors[:2]
    labels = 1 if condition is None else min(MOST_LABELS, len(condition.captions or condition.names))
    tiles = []
    for label in range(labels):
        y = None
        if condition is not None and condition.captions:
            y = tokens_in("caption", condition.captions[label], model.spec).to(device).expand(len(z), -1)
        elif model.condition is not None:
            y = model.condition.in_turn(labels, device)[label].expand(len(z), *model.condition.shape)
        tiles.append(to_display(model.latents_to_images(z.to(device), condition=y), model.spec.levels))
    return Grid(torch.cat(tiles), base[0], points, labels)

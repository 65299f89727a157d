"""`gentrain translate`: images of one domain, and what the model makes of them in the other."""

from __future__ import annotations

import math

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import FIRST, device_of, images_in, index_list, open_data, open_model
from gentrain.config import conform
from gentrain.contracts import DataSpec, Translates, TranslatesBack
from gentrain.data.batches import images_at
from gentrain.errors import UserError
from gentrain.schemas import TranslateConfig
from gentrain.showing import rows_beside, sheet


def run(asked: Asked) -> None:
    """Translate images; write the translations alone, or in rows: the source, its translation, the truth.

    Raises:
        UserError: a model that does not translate, or not in that direction, or images that cannot be read.
    """
    config = conform(TranslateConfig, asked.config)
    loaded = open_model(config)
    model = capable(loaded, Translates, "translate")
    forwards = direction(loaded, config)
    out = Output(config, loaded, "translations.png", (".png",))
    spec = loaded.model.spec
    domain = source_spec(spec) if forwards else spec
    x, truth = named(loaded, config, domain, forwards)
    with torch.no_grad():
        if forwards:
            made = model.translate(x)
        else:
            assert isinstance(model, TranslatesBack)
            made = model.translate_back(x)
    other = spec if forwards else source_spec(spec)
    if len(x) == 1 and truth is None:
        out.name(what="translation")
        out.png(sheet(made, other))  # a picture for a picture
        print(out.wrote("1 translation"))
    else:
        rows = {"source": (x, domain), "translation": (made, other)}
        if isinstance(model, TranslatesBack):
            with torch.no_grad():
                back = model.translate_back(made) if forwards else model.translate(made)
            rows["back"] = (back, domain)
        if truth is not None:
            rows["truth"] = (truth, other)
        out.name(list(rows) * math.ceil(len(x) / 8), what="translations")
        out.png(rows_beside(rows.values()))
        print(out.wrote(f"{len(x)} images, from top to bottom: {', '.join(rows)}"))
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'export', config=config)}")


def source_spec(spec: DataSpec) -> DataSpec:
    """What the images are that translation begins with."""
    return DataSpec(spec.source_shape or spec.shape, spec.levels)


def direction(loaded: Loaded, config: DictConfig) -> bool:
    """Whether translation goes the way that the model was trained for, from source to image.

    Raises:
        UserError: the other way, of a model that knows one.
    """
    trained = loaded.config.dataset.get("direction") or "AtoB"
    if config.direction in (None, trained):
        return True
    if not isinstance(loaded.model, TranslatesBack):
        raise UserError(
            f"direction={config.direction}: {loaded.config.names.model} was trained {trained} and goes one "
            f"way; train it the other way: dataset.direction={config.direction}, or take model=cyclegan"
        )
    return False


def named(
    loaded: Loaded, config: DictConfig, domain: DataSpec, forwards: bool
) -> tuple[Tensor, Tensor | None]:
    """The images that `images=` names, and of test images that have one the partner: uint8 [B, C, H, W].

    Raises:
        UserError: no such index, file or folder, or not an image.
    """
    device = device_of(loaded)
    indices = index_list(config.images)
    if indices is None and config.images is not None:
        return images_in(config.images, domain).to(device), None
    data = open_data(loaded, config)
    first = range(min(FIRST, len(data.test)))
    batch = images_at(data, data.test, first if indices is None else indices, int(config.seed))
    if batch.source is None:
        raise UserError("the data have no images of the other domain; name some: images=FILE")
    x, truth = (batch.source, batch.x) if forwards else (batch.x, batch.source)
    return x.to(device), truth.to(device) if data.test_pairs else None

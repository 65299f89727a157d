"""`gentrain arithmetic`: sums and differences of latents, with the same arithmetic on pixels below.

1. Radford, Metz & Chintala 2016, Unsupervised representation learning with deep convolutional
   generative adversarial networks, arXiv:1511.06434, section 6.3.2 and figure 7.
2. Kingma & Dhariwal 2018, Glow, arXiv:1807.03039, section 6 (semantic manipulation).
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.between_captions import captions_meant, summed
from gentrain.commands.given import for_each, given, with_given
from gentrain.commands.labels import label_of
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import label_names, named_batch, open_data, open_model
from gentrain.commands.typed import listed
from gentrain.config import conform
from gentrain.contracts import DataSpec, ImagesToLatents, LatentsToImages
from gentrain.data.batches import images_at
from gentrain.data.source import Data
from gentrain.errors import UserError
from gentrain.schemas import ArithmeticConfig
from gentrain.showing import sheet

#: Pixels between a tile's corner and its number.
_INSET = 4

#: What a model without a prior over its latents can do.
INSTEAD = "move images along a label: images=0 plus=[0]"


def run(asked: Asked) -> None:
    """Show numbered latents to choose from, add and subtract those chosen, or move images along labels.

    Raises:
        UserError: a model without latents, a number or a label that does not exist, missing data.
    """
    config, typed = asked.config, asked.typed
    config = conform(ArithmeticConfig, config)
    loaded = open_model(config)
    model = capable(loaded, LatentsToImages, "arithmetic")
    named = config.plus is not None or config.minus is not None
    default = "arithmetic.png" if named or config.images is not None else "arithmetic_latents.png"
    out = Output(config, loaded, default, (".png",))
    one = given(config, loaded, typed)
    with torch.no_grad():
        if captions_meant(loaded, config.plus, config.minus):
            said = summed(loaded, config, out)
        elif config.images is not None:
            said = along_labels(loaded, config, out, one)
        elif named:
            said = between_latents(model, loaded, config, out, one)
        else:
            said = numbered_latents(model, loaded, config, out, one)
    print("\n".join(said))


def numbered_latents(
    model: LatentsToImages, loaded: Loaded, config: DictConfig, out: Output, one: Tensor | None
) -> list[str]:
    """Write the images of `n` latents drawn from the prior, each with its number; returns what to say."""
    z = numbered_draws(model, config.n)
    images = model.latents_to_images(z, condition=same_for_all(loaded, len(z), one))
    columns = min(config.columns, config.n)
    out.png(with_numbers(sheet(images, loaded.model.spec, columns), config.n, columns))
    # What decides which latents have these numbers.
    keys = ("n", "seed", "device", "ema")
    given = [(key, config[key]) for key in keys if config[key] != getattr(ArithmeticConfig, key)]
    again = [f"{key}={value}".lower() for key, value in given]
    plus, minus = ([0, 1], [2]) if config.n > 2 else ([0], [])
    numbers = [f"plus={plus}".replace(" ", "")] + ([f"minus={minus}"] if minus else [])
    command = " ".join([ckpt_argument(loaded), *again, *map(shlex.quote, numbers)])
    return [
        out.wrote(f"{config.n} latents drawn from the prior, numbered 0 to {config.n - 1}"),
        "choose  plus=[...] minus=[...] by these numbers; [[...],[...]] adds the means of several groups",
        f"next    gentrain arithmetic {command}",
    ]


def between_latents(
    model: LatentsToImages, loaded: Loaded, config: DictConfig, out: Output, one: Tensor | None
) -> list[str]:
    """Write plus, minus, each group's mean, the decoded mean(plus) - mean(minus) with its surroundings, and
    the pixels' [1].

    Of each group the decoded mean of its latents stands above the mean of its images.

    Raises:
        UserError: a number that no latent has.
    """
    plus, minus = (groups(key, config[key], config.n) for key in ("plus", "minus"))
    if not plus:
        raise UserError("plus is empty: give the number of at least one latent, e.g. plus=[0]")
    z = numbered_draws(model, config.n)  # [n, D]
    levels = loaded.model.spec.levels
    target = combined(z, plus, minus)  # [D]
    noise = torch.empty(config.columns - 1, len(target), device=z.device).uniform_(-1, 1) * config.noise
    around = torch.cat([target[None], target + noise])  # [columns, D], the result itself first
    images = model.latents_to_images(z, condition=same_for_all(loaded, len(z), one))
    rows = [images[group] for group in (*plus, *minus)]
    pixels = combined(images.float(), plus, minus)[None]
    result = model.latents_to_images(around, condition=same_for_all(loaded, len(around), one))
    together = [*plus, *minus]
    z_means = torch.stack([z[group].mean(0) for group in together])  # [groups, D]
    x_means = torch.stack([images[group].float().mean(0) for group in together])  # [groups, C, H, W]
    rows += [model.latents_to_images(z_means, condition=same_for_all(loaded, len(z_means), one))]
    rows += [to_pixels(x_means, levels), result, to_pixels(pixels, levels)]
    named = [f"{side} {shown(group)}" for side, all_ in (("plus", plus), ("minus", minus)) for group in all_]
    out.name([*named, "mean latents", "mean pixels", "result, around it", "by pixels"], what="arithmetic")
    out.png(stacked(rows, loaded.model.spec))
    above = f"{len(plus)} of plus, {len(minus)} of minus" if minus else f"{len(plus)} of plus"
    return [
        out.wrote(
            f"rows: {above}, the mean latent of each, the mean of its pixels, the result and "
            f"{len(noise)} around it, the same with pixels"
        ),
        f"next    {next_command(loaded.model, ckpt_argument(loaded), 'interpolate', config=config)}",
    ]


def same_for_all(loaded: Loaded, n: int, one: Tensor | None) -> Tensor | None:
    """What the model takes, the same for `n` images: `one`, or the first that there is."""
    first = for_each(loaded, 1, one)
    return None if first is None else first.expand(n, *first.shape[1:])


def along_labels(loaded: Loaded, config: DictConfig, out: Output, one: Tensor | None) -> list[str]:
    """Write two rows per image: moved along z_plus - z_minus [2], and along the same of pixels.

    Raises:
        UserError: a model without an encoder, data without labels, a label that does not exist.
    """
    model = capable(loaded, ImagesToLatents, "arithmetic with images")
    data = open_data(loaded, config)
    names = label_names(data)
    present = {label for label in range(len(names)) if np.any(data.train.labels == label)}
    plus, minus = sides(config, names, present)
    batch = with_given(named_batch(config.images, loaded, config), loaded, one)
    x, y = batch.x, loaded.model.condition_in(batch)  # [B, C, H, W]
    z = model.images_to_latents(x, condition=y)  # [B, D]
    z_plus, x_plus = means(model, data, plus, config, x.device)
    z_minus, x_minus = means(model, data, minus, config, x.device)
    levels = loaded.model.spec.levels
    strengths = torch.linspace(0, config.strength, config.columns, device=x.device)
    rows: list[Tensor] = []
    for i, (image, latent) in enumerate(zip(x, z, strict=True)):
        moved = walk(latent, z_plus - z_minus, strengths)
        rows.append(model.latents_to_images(moved, condition=None if y is None else y[i]))
        rows.append(to_pixels(walk(image.float(), x_plus - x_minus, strengths), levels))
    out.name(["latents", "pixels"] * len(x), [f"{float(s):.2g}" for s in strengths], "along the label")
    out.png(sheet(torch.cat(rows), loaded.model.spec, columns=config.columns))
    return [
        out.wrote(f"{len(x)} images by 0 to {config.strength:g} along the label, latents above pixels"),
        f"next    {next_command(loaded.model, ckpt_argument(loaded), 'interpolate', config=config)}",
    ]


# What was typed


def shown(value: Any) -> str:
    """A list as it is typed: `[3,8]`."""
    plain = OmegaConf.to_container(value) if isinstance(value, ListConfig) else value
    return str(plain).replace(" ", "").replace("'", "")


def numbered_draws(model: LatentsToImages, n: int) -> Tensor:
    """z [n, D] from the prior, the latents that have numbers.

    Raises:
        UserError: the model has no prior over its latents.
    """
    if model.latent_prior == "none":
        raise UserError(f"this model has no prior over its latents; {INSTEAD}")
    return model.prior_draws(n)


def groups(key: str, value: Any, count: int) -> list[list[int]]:
    """`[3,8]` -> [[3, 8]], `[[3,8],[1]]` as it is: numbers of latents, each group to be averaged.

    Raises:
        UserError: an empty group, or what is no number from 0 to count-1.
    """
    items = listed(key, value, "numbers")
    if not items:
        return []
    found = items if any(isinstance(item, list) for item in items) else [items]
    for group in found:
        good = isinstance(group, list) and len(group)
        if not good or not all(type(i) is int and 0 <= i < count for i in group):
            raise UserError(
                f"{key}={shown(value)}: expected numbers 0 to {count - 1}, in one list or in a list of lists"
            )
    return found


def labels(key: str, value: Any, names: Sequence[str], present: set[int]) -> list[int]:
    """Labels by name or by number.

    Raises:
        UserError: no such label, or none of the training images has it.
    """
    found = []
    for item in listed(key, value, "labels"):
        label = label_of(item, names, f"{key}={shown(value)}")
        if label not in present:
            raise UserError(f"{key}={shown(value)}: no training image has the label {names[label]}")
        found.append(label)
    return list(dict.fromkeys(found))


def sides(config: DictConfig, names: Sequence[str], present: set[int]) -> tuple[list[int], list[int]]:
    """The labels of plus and of minus; without minus, all that are present but those of plus.

    Raises:
        UserError: no label in plus, one on both sides, or none left for minus.
    """
    plus = labels("plus", config.plus, names, present)
    minus = labels("minus", config.minus, names, present)
    if not plus:
        raise UserError(f"images={config.images} move along labels: give plus=[{names[0]}], say")
    both = [names[label] for label in plus if label in minus]
    if both:
        raise UserError(f"plus={shown(config.plus)} and minus={shown(config.minus)} share {', '.join(both)}")
    minus = minus or sorted(present - set(plus))
    if not minus:
        raise UserError(f"plus={shown(config.plus)} are all labels; leave some for minus")
    return plus, minus


# What is computed


def combined(values: Tensor, plus: Sequence[Sequence[int]], minus: Sequence[Sequence[int]]) -> Tensor:
    """values [n, ...] -> sum of the means of plus's groups - sum of the means of minus's, [...]."""
    total = torch.zeros_like(values[0])
    for sign, side in ((1, plus), (-1, minus)):
        for group in side:
            total = total + sign * values[list(group)].mean(0)
    return total


def means(
    model: ImagesToLatents, data: Data, chosen: Sequence[int], config: DictConfig, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean latent [D] and mean image [C, H, W] of training images with the labels `chosen`.

    Over the first `per_label` of each label.
    """
    assert data.train.labels is not None
    having = [np.flatnonzero(data.train.labels == label)[: config.per_label] for label in chosen]
    batch = images_at(data, data.train, np.concatenate(having).tolist(), int(config.seed))
    count, size = len(batch.x), config.batch_size
    latents, pixels = [], []
    for start in range(0, count, size):
        part = batch.map(lambda whole, start=start: whole[start : start + size].to(device))  # type: ignore[misc]
        found = model.images_to_latents(part.x, condition=model.condition_in(part))
        latents.append(found.sum(0))
        pixels.append(part.x.float().sum(0))
    return torch.stack(latents).sum(0) / count, torch.stack(pixels).sum(0) / count


def walk(start: Tensor, direction: Tensor, strengths: Tensor) -> Tensor:
    """start, direction [...], strengths [K] -> start + s * direction, [K, ...]."""
    s = strengths.to(start.dtype).view(-1, *[1] * start.ndim)
    return start + s * direction


def to_pixels(y: Tensor, levels: int) -> Tensor:
    """float [...] -> the nearest of 0 .. levels-1, uint8 [...]."""
    return y.round().clamp(0, levels - 1).to(torch.uint8)


# How it is drawn


def stacked(rows: Sequence[Tensor], spec: DataSpec) -> Tensor:
    """Rows of different lengths, uint8 [B_i, C, H, W] each, as one picture: uint8 [1 or 3, height, width]."""
    pictures = [sheet(row, spec, columns=len(row)) for row in rows]
    width = max(picture.shape[-1] for picture in pictures)
    padded = [functional.pad(picture, (0, width - picture.shape[-1]), value=128) for picture in pictures]
    return torch.cat(padded, dim=1)


def with_numbers(picture: Tensor, count: int, columns: int) -> Tensor:
    """The numbers 0 .. count-1 in the upper left corners of a grid's tiles: uint8 [1 or 3, height, width]."""
    array = picture.permute(1, 2, 0).numpy()  # [height, width, 1 or 3]
    image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).convert("RGB")
    draw = ImageDraw.Draw(image)
    rows = math.ceil(count / columns)
    for number in range(count):
        row, column = divmod(number, columns)
        place = (column * image.width // columns + _INSET, row * image.height // rows + _INSET)
        draw.rectangle(draw.textbbox(place, str(number)), fill="black")
        draw.text(place, str(number), fill="yellow")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)

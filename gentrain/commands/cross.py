"""`gentrain cross`: children of two pictures, and of theirs, each drawn again from its line.

1. Simon 2018, GANBreeder, github.com/joel-simon/ganbreeder: latents and classes mixed, then changed.
2. White 2016, Sampling generative networks, arXiv:1609.04468, section 3: mixtures on the sphere.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.arithmetic import numbered_draws, with_numbers
from gentrain.commands.asked import Asked
from gentrain.commands.given import for_each
from gentrain.commands.interpolate import spherical, straight
from gentrain.commands.labels import label_of
from gentrain.commands.next import ckpt_argument
from gentrain.commands.output import Output
from gentrain.commands.trained import device_of, open_model
from gentrain.commands.typed import listed
from gentrain.config import conform
from gentrain.contracts import GenerativeModel, LatentsToImages, MixesConditions
from gentrain.errors import UserError
from gentrain.files import write_text
from gentrain.images import grid
from gentrain.schemas import CrossConfig

#: Of a lineage file's layout.
VERSION = 1
#: No latent of a prior is larger.
LARGEST = 100.0


@dataclass(frozen=True)
class Individual:
    """A picture by what it is drawn from.

    Args:
        latents: z, D numbers, float32 exactly.
        weights: of the labels, attributes or words, adding up to what a single one has; None: of p(x).
        parents: their latents and weights, with shares; empty: drawn from the prior.
        how: seed and settings that it came about by.
    """

    latents: list[float]
    weights: list[float] | None
    parents: list[dict[str, Any]]
    how: dict[str, Any]


def run(asked: Asked) -> None:
    """Show numbered pictures to choose from, or cross those chosen and write their children and lineage.

    Raises:
        UserError: a model without latents, a parent that does not exist, a lineage of another model.
    """
    config = conform(CrossConfig, asked.config)
    loaded = open_model(config)
    model = capable(loaded, LatentsToImages, "cross")
    chosen = listed("parents", config.parents, "numbers")
    if len(chosen) > 2:
        raise UserError(f"parents: expected one or two, found {len(chosen)}")
    out = Output(config, loaded, "lineage.png" if chosen else "parents.png", (".png",))
    with torch.no_grad():
        crowd = read_lineage(config.lineage, loaded) if config.lineage else drawn(model, loaded, config)
        if not chosen:
            show(crowd, model, loaded, config, out)
            return
        parents = [parent(item, crowd, loaded) for item in chosen]
        children = [
            child(parents, model, config, seed)
            for seed in range(int(config.seed), int(config.seed) + config.children)
        ]
        levels = model.spec.levels
        groups = (parents, children)
        rows = [torch.cat([picture(one, model, device_of(loaded)) for one in group]) for group in groups]
    columns = min(config.columns, len(children))
    tiles = with_numbers(grid(rows[1], levels, columns), len(children), columns)
    above = grid(rows[0], levels, len(parents)).expand(3, -1, -1)
    out.png(beneath(above, tiles))
    print(out.wrote(f"{len(parents)} parents above, their {len(children)} children numbered"))
    place = out.path.with_suffix(".json")
    write_text(place, lineage_text(children, loaded))
    print(f"wrote   {place} (their lineage)")
    again = f"{ckpt_argument(loaded)} {shlex.quote(f'lineage={place}')}"
    numbers = "parents=[0,1]" if len(children) > 1 else "parents=[0]"
    print(f"next    gentrain cross {again} {numbers}")


# Who there is


def drawn(model: LatentsToImages, loaded: Loaded, config: DictConfig) -> list[Individual]:
    """`n` numbered draws from the prior, with all labels in turn for a model that takes them."""
    z = numbered_draws(model, config.n).cpu().float()
    weights: list[list[float]] | None = None
    y = for_each(loaded, config.n, None)
    if y is not None:
        weights = as_weights(loaded, y).tolist()
    how = {"seed": int(config.seed), "n": config.n}
    return [
        Individual(latents, weights[i] if weights else None, [], {**how, "number": i})
        for i, latents in enumerate(z.tolist())
    ]


def as_weights(loaded: Loaded, y: Tensor) -> Tensor:
    """Labels, attributes or captions [B, ...] -> what mixtures are sums of, float32 [B, Y]."""
    if isinstance(loaded.model, MixesConditions):
        return loaded.model.conditions_to_mixtures(y).cpu().float()
    condition = loaded.model.condition
    assert condition is not None
    if y.dtype == torch.bool:
        return y.float()
    return (y[..., None].cpu() == torch.arange(condition.size)).float()


def read_lineage(place: str, loaded: Loaded) -> list[Individual]:
    """The children in a lineage file.

    Raises:
        UserError: it cannot be read, is no lineage, or is of other weights.
    """
    try:
        plain = json.loads(Path(place).expanduser().read_text())
    except OSError as error:
        raise UserError(f"lineage={place}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"lineage={place}: expected a file that gentrain cross wrote, found no JSON"
        ) from error
    if not isinstance(plain, dict) or plain.get("version") != VERSION:
        raise UserError(
            f"lineage={place}: expected a file that gentrain cross wrote, version {VERSION}, found another"
        )
    if plain.get("weights") != weights_hash(loaded.model):
        raise UserError(
            f"lineage={place}: it is of another checkpoint ({plain.get('checkpoint')}); give that, ckpt=..."
        )
    children = plain.get("children")
    if not isinstance(children, list) or not children:
        raise UserError(
            f"lineage={place}: expected children, one or more, found none; cross two pictures anew"
        )
    return [
        _checked(entry, f"lineage={place}: child {i}", capable(loaded, LatentsToImages, "cross"))
        for i, entry in enumerate(children)
    ]


def _checked(entry: Any, where: str, model: LatentsToImages) -> Individual:
    """A child as a file has it.

    Raises:
        UserError: it is none, or not one of this model's.
    """
    if not isinstance(entry, dict) or set(entry) != {field.name for field in fields(Individual)}:
        raise UserError(
            f"{where}: expected latents, weights, parents and how; take the file as it was written"
        )
    for key, kind in (("parents", list), ("how", dict)):
        if not isinstance(entry[key], kind):
            raise UserError(f"{where}: {key}: expected {kind.__name__}; take the file as it was written")
    size = None if model.condition is None else model.condition.size
    if isinstance(model, MixesConditions):
        size = model.mixed_size or size
    latents, weights = entry["latents"], entry["weights"]
    _check_numbers(latents, f"{where}: latents", int(model.latent_dim), math.inf)
    if size is not None or weights is not None:
        _check_numbers(weights, f"{where}: weights", size or 0, 1.0)
    return Individual(**{**entry, "latents": [float(z) for z in latents]})


def _check_numbers(found: Any, what: str, count: int, most: float) -> None:
    """See that these are so many finite numbers, of at most `most` where they are weights.

    Raises:
        UserError: they are not.
    """
    numbers = isinstance(found, list) and all(isinstance(z, int | float) and math.isfinite(z) for z in found)
    if not numbers or len(found) != count:
        raise UserError(f"{what}: expected {count} finite numbers; take the file as it was written")
    if any(abs(z) > min(most, LARGEST) for z in found):
        raise UserError(f"{what}: expected numbers of at most {min(most, LARGEST):g}")


def parent(item: Any, crowd: Sequence[Individual], loaded: Loaded) -> Individual:
    """`12`, or `12:cat` with another label, of those that there are.

    Raises:
        UserError: no such number or label, or a label for a model that takes none.
    """
    ((number, label),) = item.items() if isinstance(item, dict) else [_split(item)]
    if not isinstance(number, int) or not 0 <= number < len(crowd):
        raise UserError(f"parents: expected numbers 0 to {len(crowd) - 1}, as 12 or 12:label, found {item}")
    one = crowd[number]
    if label is None:
        return one
    names, condition = loaded.model.spec.label_words, loaded.model.condition
    if names is None or condition is None or condition.name != "label":
        raise UserError(f"parents={item}: {loaded.config.names.model} takes no labels; give numbers alone")
    weights = [0.0] * len(names)
    weights[label_of(label, names, f"parents={item}")] = 1.0
    return Individual(one.latents, weights, one.parents, {**one.how, "label": str(label)})


def _split(item: Any) -> tuple[Any, str | None]:
    found = re.fullmatch(r"(\d+)(?::(.+))?", str(item))
    return (int(found[1]), found[2]) if found else (None, None)


# What becomes of them


def child(
    parents: Sequence[Individual],
    model: LatentsToImages,
    config: DictConfig,
    seed: int,
) -> Individual:
    """A mixture of the parents [1], on the sphere where latents are normal [2], then changed.

    Normal latents turn by the angle whose sine is the temperature towards a draw from the prior, and stay as
    likely as they were; others move by so much of a draw, and stay in their range.
    """
    latents = [torch.tensor(one.latents) for one in parents]
    first, last = latents[0], latents[-1]
    normal, t = model.latent_prior == "gaussian", float(config.temperature)
    between = spherical if normal else straight
    z = between(first, last, torch.tensor([config.mix]))[0] if len(parents) == 2 else first
    # Not the numbers that the prior's draws of this seed are, or a child would move towards its own parents.
    digest = hashlib.sha256(f"child {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    noise = torch.randn(z.shape, generator=generator)
    if normal:
        z = math.sqrt(1 - t * t) * z + t * noise
    else:
        z = (z + t * (2 * torch.rand(z.shape, generator=generator) - 1)).clamp(-1, 1)
    shares = [1 - config.mix, config.mix] if len(parents) == 2 else [1.0]
    weights: list[float] | None = None
    if parents[0].weights is not None:
        parts = [share * torch.tensor(one.weights) for share, one in zip(shares, parents, strict=True)]
        weights = torch.stack(parts).sum(0).tolist()
        several = len({tuple(one.weights or ()) for one in parents}) > 1
        if several and not isinstance(model, MixesConditions):
            name = (model.spec.label_words or ("0",))[0]
            raise UserError(
                "parents: they have different labels, and this model draws with one alone; give both the "
                f"same, e.g. parents=[0:{name},1:{name}]"
            )
    told = [
        {"latents": one.latents, "weights": one.weights, "share": share, **one.how}
        for share, one in zip(shares, parents, strict=True)
    ]
    how = {"seed": seed, "mix": config.mix, "temperature": t}
    return Individual(z.tolist(), weights, told, how)


def picture(one: Individual, model: LatentsToImages, device: torch.device) -> Tensor:
    """uint8 [1, C, H, W], drawn by itself: the same bits whoever is drawn with it."""
    z = torch.tensor([one.latents], device=device)
    if one.weights is None:
        return model.latents_to_images(z)
    weights = torch.tensor([one.weights], device=device)
    if isinstance(model, MixesConditions):
        return model.mixed_to_images(z, weights)
    condition = model.condition
    assert condition is not None
    y = weights > 0 if condition.dtype == torch.bool else weights.argmax(1)
    return model.latents_to_images(z, condition=y)


# What is written


def show(
    crowd: Sequence[Individual], model: LatentsToImages, loaded: Loaded, config: DictConfig, out: Output
) -> None:
    """Write all there are, numbered, and say what to type next."""
    columns = min(config.columns, len(crowd))
    images = torch.cat([picture(one, model, device_of(loaded)) for one in crowd])
    out.png(with_numbers(grid(images, model.spec.levels, columns), len(crowd), columns))
    keys = ("n", "seed", "device", "ema", "lineage")
    typed = [f"{key}={config[key]}" for key in keys if config[key] != getattr(CrossConfig, key)]
    numbers = "parents=[0,1]" if len(crowd) > 1 else "parents=[0]"
    print(out.wrote(f"{len(crowd)} pictures, numbered 0 to {len(crowd) - 1}"))
    print("choose  parents=[...], two of these numbers, or one; [3:label,5] for another label")
    print(" ".join(["next    gentrain cross", ckpt_argument(loaded), *map(shlex.quote, typed), numbers]))


def beneath(above: Tensor, below: Tensor) -> Tensor:
    """Two pictures uint8 [3, height, width], one above the other, with a grey line between."""
    width = max(above.shape[-1], below.shape[-1])
    line = torch.full((3, 4, width), 128, dtype=torch.uint8)
    parts = []
    for part in (above, line, below):
        wide = torch.full((3, part.shape[1], width), 128, dtype=torch.uint8)
        wide[:, :, : part.shape[-1]] = part
        parts.append(wide)
    return torch.cat(parts, 1)


def lineage_text(children: Sequence[Individual], loaded: Loaded) -> str:
    """The lineage file: a line for each child, from which it is drawn again."""
    head = {
        "version": VERSION,
        "model": loaded.config.names.model,
        "checkpoint": str(loaded.path),
        "weights": weights_hash(loaded.model),
    }
    lines = ",\n".join("  " + json.dumps(asdict(one)) for one in children)
    return json.dumps(head, indent=1)[:-2] + f',\n "children": [\n{lines}\n ]\n}}\n'


def weights_hash(model: GenerativeModel) -> str:
    """SHA-256 of all weights and buffers, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()

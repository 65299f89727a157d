"""`gentrain interpolate`: rows of images between two ends in latent space."""

from __future__ import annotations

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.between_captions import walks
from gentrain.commands.given import for_each, given, lacks_own, names_of, with_given
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import device_of, named_batch, open_model
from gentrain.config import conform
from gentrain.contracts import Batch, HasCodes, ImagesToLatents, LatentsToImages
from gentrain.errors import UserError, did_you_mean
from gentrain.schemas import InterpolateConfig
from gentrain.showing import sheet

#: How a file ends in which the walks are shown step by step, all rows at once.
FILMS = (".gif", ".webp")


def run(asked: Asked) -> None:
    """Walk between latents drawn from the prior, or those of images, pair by pair.

    Without a prior and without names: between the first test images.

    Raises:
        UserError: a model without latents, an odd number of images.
    """
    config, typed = asked.config, asked.typed
    config = conform(InterpolateConfig, config)
    loaded = open_model(config)
    model = capable(loaded, LatentsToImages, "interpolate")
    out = Output(config, loaded, "interpolations.png", (".png", *FILMS))
    then = next_command(loaded.model, ckpt_argument(loaded), "encode", "sample", config=config)
    if config.plane and out.path.suffix in FILMS:
        raise UserError("plane=true is one picture; give out=FILE.png")
    if config.plane and config.images is not None:
        raise UserError("plane=true shows all latents, images= some of them; give one")
    if config.code is not None and (config.plane or config.images is not None):
        raise UserError("code= sweeps a code of draws from the prior; leave plane and images out")
    one = given(config, loaded, typed)
    if config.captions is not None:
        with torch.no_grad():
            images = walks(loaded, config, out)
        _write(out, images, config, loaded)
        print(out.wrote(f"{config.rows} rows from one caption to the other"))
        print(f"next    {then}")
        return
    if config.code is not None:
        with torch.no_grad():
            said = along_code(loaded, config, out, one)
        print(f"{said}\nnext    {then}")
        return
    with torch.no_grad():
        if config.plane:
            z = plane(model, config.rows, config.columns, device_of(loaded))
            y = for_each(loaded, 1, one)
            y = None if y is None else y.expand(len(z), *y.shape[1:])
            pictures = model.latents_to_images(z, condition=y)
            out.png(sheet(pictures, loaded.model.spec, columns=config.columns))
            print(out.wrote(f"the plane of latents, {config.rows} x {config.columns}"))
            print(f"next    {then}")
            return
        if config.images is None and model.latent_prior != "none":
            ends_named: list[str] = []
            y = for_each(loaded, config.rows, one)  # of each row
            twice = None if y is None else y.repeat_interleave(2, 0)
            ends, what = model.prior_draws(2 * config.rows, condition=twice), "latents drawn from the prior"
        else:
            encoder = capable(loaded, ImagesToLatents, "interpolate between images")
            batch = named_batch(config.images, loaded, config)
            if config.images is None:
                batch = first_pairs(batch)
            if len(batch.x) < 2 or len(batch.x) % 2:
                raise UserError(f"images={config.images}: expected an even number, found {len(batch.x)}")
            words = names_of(batch, loaded.model.spec)
            ends_named = [f"{a} to {b}" for a, b in zip(words[::2], words[1::2], strict=True)]
            # Latents are found with what each image has, and shown with what is typed.
            named = with_given(batch, loaded, one if lacks_own(batch, loaded) else None)
            own = loaded.model.condition_in(named)
            ends, what = encoder.images_to_latents(batch.x, condition=own), "images"
            y = None if own is None else own[::2] if one is None else for_each(loaded, len(own) // 2, one)
            if loaded.model.condition is not None and own is not None and one is None:
                differ = not torch.equal(own[::2], own[1::2])
                name = loaded.model.condition.name
                what += f", shown with the {name} of the first of each pair" if differ else ""
        between = spherical if model.latent_prior == "gaussian" else straight
        out.name(
            ends_named, [f"{i / (config.columns - 1):.2g}" for i in range(config.columns)], "interpolations"
        )
        weights = torch.linspace(0, 1, config.columns, device=ends.device, dtype=ends.dtype)
        rows = [between(a, b, weights) for a, b in zip(ends[::2], ends[1::2], strict=True)]
        y = None if y is None else y.repeat_interleave(config.columns, 0)
        images = model.latents_to_images(torch.cat(rows), condition=y)
    _write(out, images, config, loaded)
    print(out.wrote(f"{len(rows)} rows between {what}"))
    print(f"next    {then}")


def _write(out: Output, images: Tensor, config: DictConfig, loaded: Loaded) -> None:
    """Rows of `columns` images as a picture, or as a film of all rows at once."""
    spec = loaded.model.spec
    if out.path.suffix in FILMS:
        steps = images.unflatten(0, (-1, config.columns))  # [rows, columns, C, H, W]
        out.animation([sheet(step, spec) for step in steps.unbind(1)])
    else:
        out.png(sheet(images, spec, columns=config.columns))


def along_code(loaded: Loaded, config: DictConfig, out: Output, one: Tensor | None) -> str:
    """Write one row per draw from the prior, in which one code alone changes; returns what to say.

    Raises:
        UserError: a model without codes, or no code of this name.
    """
    model = capable(loaded, HasCodes, "interpolate along a code")
    names = [code.name for code in model.codes]
    if config.code not in names:
        hint = did_you_mean(config.code, names)
        raise UserError(f"code={config.code}: the model's codes are {', '.join(names)}{hint}")
    code = model.codes[names.index(config.code)]
    y = for_each(loaded, config.rows, one)
    z = model.prior_draws(config.rows, condition=y)  # [rows, D]
    values = code.swept(config.columns).to(z)  # [K, width]
    z = z[:, None].repeat(1, len(values), 1)  # [rows, K, D]
    z[:, :, code.place] = values
    y = None if y is None else y.repeat_interleave(len(values), 0)
    images = model.latents_to_images(z.flatten(0, 1), condition=y)
    columns = range(len(values)) if code.categories else [f"{v:.2g}" for v in values.flatten().tolist()]
    out.name([f"draw {i + 1}" for i in range(config.rows)], list(map(str, columns)), f"code {code.name}")
    out.png(sheet(images, loaded.model.spec, columns=len(values)))
    what = f"all {code.categories} categories" if code.categories else "from -1 to 1"
    return out.wrote(f"{config.rows} draws, each with the code {code.name} {what}, the rest kept")


def first_pairs(batch: Batch) -> Batch:
    """The first images of a batch, two pairs at most; a single image is a pair with itself."""
    count = len(batch.x)
    rows = [0, 0] if count == 1 else list(range(min(4, count // 2 * 2)))
    return batch.map(lambda part: part[rows])


def plane(model: LatentsToImages, rows: int, columns: int, device: torch.device) -> Tensor:
    """z [rows * columns, 2] over the plane of latents, the second dimension upwards, the first to the right.

    Equal steps in probability: quantiles of the prior in each dimension (Kingma & Welling 2014, figure 4).

    Raises:
        UserError: the model has not two latent dimensions, or no prior over them.
    """
    if model.latent_dim != 2:
        raise UserError(
            f"plane=true: expected a model with 2 latent dimensions, found {model.latent_dim}; train one, "
            "e.g.: gentrain train model=vae model.latent_dim=2"
        )
    if model.latent_prior == "none":
        raise UserError("plane=true: this model has no prior over its latents; leave plane out, for rows")

    def quantiles(count: int) -> Tensor:
        p = (torch.arange(count, device=device) + 0.5) / count
        return torch.special.ndtri(p) if model.latent_prior == "gaussian" else 2 * p - 1

    up, right = torch.meshgrid(quantiles(rows).flip(0), quantiles(columns), indexing="ij")
    return torch.stack([right, up], -1).flatten(0, 1)


def straight(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """a, b [D], weights [K] in 0..1 -> [K, D] on the line from a to b."""
    return torch.lerp(a, b, weights[:, None])


def spherical(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """a, b [D], weights [K] in 0..1 -> [K, D] on the great circle from a to b (White 2016, section 3).

    Between Gaussian draws the line passes through latents of too small a norm; the arc does not.
    """
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    if float(angle.sin()) < 1e-4:
        return straight(a, b, weights)
    weights = weights[:, None]
    return (torch.sin((1 - weights) * angle) * a + torch.sin(weights * angle) * b) / angle.sin()

"""`gentrain complete`: images of which a part is given, and several ways to go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from gentrain import progress
from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.given import for_each, given, names_of, with_given
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.seconds import read_sounds, samples_in, sounds_wanted
from gentrain.commands.trained import device_of, named_batch, open_model
from gentrain.config import conform
from gentrain.contracts import Completes
from gentrain.errors import UserError
from gentrain.images import grid, to_display
from gentrain.schemas import CompleteConfig
from gentrain.showing import sheet

#: What stands for unknown pixels in the picture, of 0 .. 255.
GREY = 128
#: Samples that are gone on with together.
_AT_ONCE = 2**20


def run(asked: Asked) -> None:
    """Fill in images; write one row each: the image, what is given of it, `n` ways to go on.

    Raises:
        UserError: a model that cannot complete, images or a mask that cannot be read or do not fit.
    """
    config, typed = asked.config, asked.typed
    config = conform(CompleteConfig, config)
    loaded = open_model(config)
    model = capable(loaded, Completes, "complete")
    spec = loaded.model.spec
    sounds_wanted(config, loaded, ("sounds", "seconds"))
    if config.sounds is not None and config.images is not None:
        raise UserError("sounds= and images= both say what to go on with; give one of them")
    if spec.sample_rate is not None and config.sounds is not None:
        gone_on(model, loaded, config, given(config, loaded, typed))
        return
    if config.seconds is not None:
        raise UserError(
            f"seconds={config.seconds:g}: of what? name a recording to go on with: sounds=FILE.wav"
        )
    out = Output(config, loaded, "completions.png", (".png",))
    mask = known_part(config.known, spec.shape)
    one = given(config, loaded, typed)
    batch = with_given(named_batch(config.images, loaded, config), loaded, one)
    x, y = batch.x, loaded.model.condition_in(batch)
    known = mask.to(device_of(loaded)).expand_as(x)
    note = model.note(known)
    ways_named = [f"way {i + 1}" for i in range(config.n)]
    out.name(names_of(batch, spec), ["image", "given", *ways_named], f"completions of {config.known}")
    with torch.no_grad(), progress.shown():
        again, kept = (part.repeat_interleave(config.n, 0) for part in (x, known))
        of_each = None if y is None else y.repeat_interleave(config.n, 0)
        made = model.complete(again, kept, condition=of_each)
    if spec.sample_rate is not None:
        ways = made.unflatten(0, (len(x), config.n))
        rows = torch.cat([x[:, None], ways], 1).flatten(0, 1)
        out.png(sheet(rows, spec, columns=config.n + 1))
        print(out.wrote(f"{len(x)} rows: the sound, {config.n} completions of {config.known}"))
        return
    shown = to_display(x, spec.levels)  # [B, 1 or 3, H, W]
    masked = shown.masked_fill(~mask[: shown.shape[1]], GREY)
    ways = to_display(made, spec.levels).unflatten(0, (len(x), config.n))  # [B, n, 1 or 3, H, W]
    rows = torch.cat([shown[:, None], masked[:, None], ways], 1)
    out.png(grid(rows.flatten(0, 1), 256, columns=config.n + 2))
    print(out.wrote(f"{len(x)} rows: the image, what is given, {config.n} completions"))
    if note:
        print(f"note    {note}")
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'sample', 'eval', config=config)}")


def gone_on(model: Completes, loaded: Loaded, config: DictConfig, one: Tensor | None) -> None:
    """Go on with recordings, `n` ways each; write the sounds.

    Raises:
        UserError: a file that cannot be read, or a label that the model needs and is not typed.
    """
    spec = loaded.model.spec
    out = Output(config, loaded, "completions.wav", (".wav", ".png"))
    begun = read_sounds(Path(str(config.sounds)).expanduser(), spec)
    more = spec.shape[2] - (spec.context or 0)
    if config.seconds is not None:
        more = samples_in(config.seconds, spec, loaded)
    longest, silence = max(x.shape[-1] for x in begun), spec.levels // 2
    # What lies further back than the model sees decides nothing.
    seen = [x if loaded.model.field is None else x[..., -loaded.model.field :] for x in begun]
    made: list[Tensor] = [torch.empty(0)] * len(begun)
    with torch.no_grad(), progress.shown():
        for together in at_once([x.shape[-1] for x in seen], config.n, more):
            x = torch.stack([seen[i] for i in together])  # [N, 1, 1, T]
            again = x.to(device_of(loaded)).repeat_interleave(config.n, 0)
            y = for_each(loaded, config.n, one)
            y = None if y is None else y.repeat(len(together), *[1] * (y.ndim - 1))
            known = torch.ones_like(again, dtype=torch.bool)
            try:
                ways = model.complete(again, known, condition=y, length=x.shape[-1] + more).cpu()
            except ValueError as error:
                raise UserError(f"sounds={config.sounds}: {error}") from error
            for i, of_one in zip(together, ways[..., -more:].split(config.n), strict=True):
                made[i] = torch.cat([begun[i].expand(config.n, -1, -1, -1), of_one], -1)
    silent = [F.pad(part, (0, longest + more - part.shape[-1]), value=silence) for part in made]
    if out.path.suffix == ".wav":
        out.sounds(torch.cat(silent), spec)
    else:
        out.png(sheet(torch.cat(silent), spec, columns=config.n))
    seconds = more / (spec.sample_rate or 1)
    many = "1 recording" if len(begun) == 1 else f"{len(begun)} recordings"
    print(out.wrote(f"{many}, gone on with for {seconds:.2f} s in {config.n} ways"))
    print(f"next    {next_command(loaded.model, ckpt_argument(loaded), 'sample', 'eval', config=config)}")


def at_once(lengths: Sequence[int], n: int, more: int) -> list[list[int]]:
    """Which sounds to go on with together, by their numbers: of one length, as many as `_AT_ONCE` allows.

    Args:
        lengths: of each, in samples.
        n: ways to go on with each.
        more: samples to go on for.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        group = groups[-1] if groups else []
        room = (len(group) + 1) * n * (lengths[i] + more) <= _AT_ONCE
        if group and lengths[group[0]] == lengths[i] and room:
            group.append(i)
        else:
            groups.append([i])
    return groups


def known_part(known: str, shape: tuple[int, int, int]) -> Tensor:
    """The mask that `known=` names: bool [C, H, W], true where pixels are given.

    Raises:
        UserError: neither a part's name nor a mask of the images' size, or one with nothing to do.
    """
    _, height, width = shape
    columns = torch.arange(width)
    # A sound has one row, and its beginning for a top.
    down, rows = (width, columns) if height == 1 else (height, torch.arange(height)[:, None])
    centre = (rows >= down // 4) & (rows < down - down // 4)
    centre = centre & (columns >= width // 4) & (columns < width - width // 4)
    parts = {
        "top": rows < down // 2,
        "bottom": rows >= (down + 1) // 2,
        "left": columns < width // 2,
        "right": columns >= (width + 1) // 2,
        "centre": centre,
    }
    mask = (parts[known] if known in parts else read_mask(known, list(parts), shape)).expand(shape)
    if mask.all():
        raise UserError(f"known={known} gives all of the {height}x{width} pixels; leave some to fill in")
    if not mask.any():
        raise UserError(f"known={known} gives none of the {height}x{width} pixels; see: gentrain sample")
    return mask


def read_mask(known: str, parts: Sequence[str], shape: tuple[int, int, int]) -> Tensor:
    """A file's mask: bool [H, W] or [C, H, W].

    Raises:
        UserError: no such file, one that cannot be read, or of another size or other values.
    """
    path = Path(known).expanduser()
    if path.suffix not in (".png", ".npy"):
        raise UserError(f"known={known}: expected {', '.join(parts)}, or a file of a mask, .png or .npy")
    if not path.is_file():
        raise UserError(f"known={known}: there is no such file")
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as picture:
                array = np.asarray(picture.convert("L")) > 127
    # SyntaxError is PIL's, of a broken PNG.
    except (OSError, ValueError, EOFError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"known={known} cannot be read: {error}") from error
    if array.shape not in (shape, shape[1:]):
        expected = f"{list(shape[1:])} (height, width) or {list(shape)}, like the images"
        raise UserError(f"known={known}: expected {expected}, found {list(array.shape)}")
    if array.dtype != np.bool_ and not np.isin(array, (0, 1)).all():
        raise UserError(f"known={known}: expected true and false, or 1 and 0, found other values")
    return torch.from_numpy(array.astype(np.bool_))

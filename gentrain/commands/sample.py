"""`gentrain sample`: images drawn from a trained model, as a grid or an archive."""

from __future__ import annotations

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.asked import Asked
from gentrain.commands.chosen import images_of
from gentrain.commands.given import each_in_words, for_each, given, given_in_words
from gentrain.commands.next import ckpt_argument, next_command, unsaid
from gentrain.commands.output import Output
from gentrain.commands.seconds import samples_in, sounds_wanted
from gentrain.commands.trained import open_model, samples_of, stand
from gentrain.config import conform
from gentrain.contracts import Samples
from gentrain.errors import UserError
from gentrain.images import columns_of
from gentrain.schemas import SampleConfig
from gentrain.showing import sheet

#: The most images that a picture shows.
MOST_IN_A_PICTURE = 4096
#: The most with words below each, where they are of several labels or captions.
MOST_WITH_WORDS = 144


def run(asked: Asked) -> None:
    """Draw `n` images and write them.

    Raises:
        UserError: a model that does not sample, a label or an attribute that the data do not have,
            a place that cannot be written.
    """
    config, typed = asked.config, asked.typed
    config = conform(SampleConfig, config)
    loaded = open_model(config)
    if config.latents is None:
        capable(loaded, Samples, "sample")
        if config.mixture is not None:
            raise UserError("mixture= goes with latents=; without, say label=, or take: gentrain cross")
    spec = loaded.model.spec
    sounds_wanted(config, loaded, ("seconds",))
    heard = spec.sample_rate is not None
    name, endings = ("samples.wav", (".wav", ".png", ".npz")) if heard else ("samples.png", (".png", ".npz"))
    length = None
    if config.seconds is not None:
        length = (spec.context or 0) + samples_in(config.seconds, spec, loaded)
    out = Output(config, loaded, name, endings)
    picture = out.path.suffix != ".npz"
    if picture and config.n > MOST_IN_A_PICTURE:
        raise UserError(f"n={config.n} is too many for a picture; write them with out=samples.npz")
    count = "" if config.latents is not None else f"{config.n} "
    what = f"{count}samples" + given_in_words(config, typed)
    with torch.no_grad():
        if config.latents is not None:
            out.name(what=what)
            write(images_of(config, loaded, typed).cpu(), out, loaded, config)
            return
        one = given(config, loaded, typed)
        y = for_each(loaded, config.n, None) if one is None and config.n <= MOST_WITH_WORDS else None
        under = () if y is None or heard else each_in_words(y, loaded)
        out.name(what=what, under=under, across=columns_of(config.n, *spec.shape[1:]))
        stand(loaded, config)
        drawn = samples_of(loaded, config.n, one, config.temperature, config.truncation, length)
        parts = [part.cpu() for part in drawn]
    write(torch.cat(parts), out, loaded, config)


def write(images: Tensor, out: Output, loaded: Loaded, config: DictConfig) -> None:
    """Write images, uint8 [n, C, H, W], and say so."""
    spec = loaded.model.spec
    heard = spec.sample_rate is not None
    if out.path.suffix == ".wav":
        out.sounds(images, spec)
    elif out.path.suffix == ".png":
        out.png(sheet(images, spec))
    else:
        out.npz(images=images.numpy(), levels=np.int64(spec.levels))
    print(out.wrote(f"{len(images)} {'sounds' if heard else 'images'}, step {loaded.step}"))
    where = unsaid(loaded.config.dataset, loaded.state, list(config.trust))
    verbs = ("eval", "reconstruct", "interpolate")
    then = next_command(loaded.model, ckpt_argument(loaded), *verbs, unsaid=where)
    print(f"next    {then}")

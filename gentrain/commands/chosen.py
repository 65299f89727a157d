"""Latents that a user names, and what lies between labels: `sample latents=... mixture=[3:0.7,8:0.3]`.

Between captions too: `mixture=["a cat:0.7","a dog:0.3"]`.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.given import for_each, given, tokens_in
from gentrain.commands.labels import label_of
from gentrain.commands.trained import device_of
from gentrain.commands.typed import listed
from gentrain.contracts import DataSpec, LatentsToImages, MixesConditions
from gentrain.errors import UserError
from gentrain.explain import plain_key

#: Letters of what was typed that a message repeats.
_LONGEST = 200
#: Settings of draws from the prior, which say nothing of latents that are there.
_OF_DRAWS = ("n", "seconds", "temperature", "truncation", "standing")


def images_of(config: DictConfig, loaded: Loaded, typed: Sequence[str]) -> Tensor:
    """The images of the latents that `latents=` names: uint8 [N, C, H, W] on the model's device.

    Raises:
        UserError: a model without latents, latents of another size, or settings that exclude one another.
    """
    model = capable(loaded, LatentsToImages, "latents")
    keys = {plain_key(override) for override in typed}
    if both := [key for key in _OF_DRAWS if key in keys]:
        raise UserError(f"{both[0]} is of draws, and latents= says what is drawn; leave {both[0]} out")
    z = latents_at(config.latents, model.latent_dim).to(device_of(loaded))
    if config.mixture is None:
        y = for_each(loaded, len(z), given(config, loaded, typed))
        return model.latents_to_images(z, condition=y)
    if any(config[key] is not None for key in ("label", "attributes", "caption")):
        raise UserError("mixture= says what images are to have; leave label, attributes and caption out")
    mixed = mixture_of(config, loaded).to(z.device)
    mixing = capable(loaded, MixesConditions, "mixture")
    return mixing.mixed_to_images(z, mixed.expand(len(z), -1))


def latents_at(text: str, dim: int) -> Tensor:
    """z float32 [N, `dim`] of a file, or of the numbers themselves in base64.

    Raises:
        UserError: neither, or latents of another size.
    """
    place = Path(text).expanduser()
    array = _in_file(place) if place.suffix in (".npy", ".npz") else _in_base64(text)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != dim or not len(array):
        raise UserError(f"latents: expected [N, {dim}] of this model, found {list(array.shape)}")
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise UserError("latents: expected finite numbers, found others")
    return torch.from_numpy(array.astype(np.float32))


def _in_file(place: Path) -> Any:
    try:
        found = np.load(place, allow_pickle=False)
        return found if place.suffix == ".npy" else found["latents"]
    except OSError as error:
        raise UserError(f"latents={place}: {error.strerror or error}") from error
    except Exception as error:  # of a zip that is none, of no such array: numpy has many words for that
        raise UserError(
            f"latents={place}: expected an array, in an .npz `latents`, as gentrain encode writes"
        ) from error


def _in_base64(text: str) -> Any:
    try:
        content = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return np.frombuffer(content, "<f4")
    except (ValueError, binascii.Error) as error:
        shown = text if len(text) < _LONGEST else f"{text[:20]}..."
        raise UserError(
            f"latents={shown}: expected a file .npy or .npz, or 32-bit numbers in base64, as the page of "
            "gentrain explore gives them"
        ) from error


def mixture_of(config: DictConfig, loaded: Loaded) -> Tensor:
    """Shares of labels or attributes, or what the model makes of captions by theirs, float32 [Y].

    Raises:
        UserError: what the data do not have, no share, or a model that does not mix.
    """
    names, found = words_of(loaded), []
    for item in listed("mixture", config.mixture, "shares, 3:0.7"):
        ((word, share),) = item.items() if isinstance(item, dict) else [_split(item)]
        try:
            number = float(share)
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= 100:
            raise UserError(f"mixture: expected name:share, as [3:0.7,8:0.3], found {item}")
        found.append((str(word), number))
    condition = loaded.model.condition
    assert condition is not None
    shares = torch.tensor([number for _, number in found])
    if condition.name == "caption":
        model = capable(loaded, MixesConditions, "mixture")
        tokens = torch.stack([tokens_in("mixture", word, loaded.model.spec) for word, _ in found])
        vectors = model.conditions_to_mixtures(tokens.to(device_of(loaded))).float().cpu()  # [n, Y]
        return (shares[:, None] * vectors).sum(0)
    places = torch.tensor([label_of(word, names, "mixture") for word, _ in found])
    return torch.zeros(len(names)).index_add_(0, places, shares)


def _split(item: Any) -> tuple[str, str]:
    found = re.fullmatch(r"(.+):([\d.eE+-]+)", str(item))
    return (found[1], found[2]) if found else (str(item), "")


def words_of(loaded: Loaded) -> tuple[str, ...]:
    """The names of what the model is given: labels, attributes or words; none where it takes nothing.

    Raises:
        UserError: the model takes nothing.
    """
    condition, spec = loaded.model.condition, loaded.model.spec
    if condition is None:
        raise UserError(f"mixture: {loaded.config.names.model} is a model of p(x), which takes none")
    return names_given(condition.name, spec)


def names_given(name: str, spec: DataSpec) -> tuple[str, ...]:
    """The names of all labels, attributes or words of the data."""
    found = {"label": spec.label_words, "attributes": spec.attributes, "caption": spec.vocabulary}[name]
    return tuple(found or ())

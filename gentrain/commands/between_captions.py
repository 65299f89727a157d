"""Pictures between captions: walks from one to another, and sums and differences of them.

What is added is the model's vector of a caption (`MixesConditions`), the latents are the same throughout.

1. Reed et al. 2016, Generative adversarial text to image synthesis, arXiv:1605.05396, section 5.5.
2. Radford, Metz & Chintala 2016, arXiv:1511.06434, section 6.3.2 and figure 7: the same of latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.abilities import capable
from gentrain.commands.given import tokens_in
from gentrain.commands.next import ckpt_argument, next_command
from gentrain.commands.output import Output
from gentrain.commands.trained import device_of
from gentrain.commands.typed import listed
from gentrain.contracts import MixesConditions
from gentrain.errors import UserError
from gentrain.showing import sheet


def captions_meant(loaded: Loaded, *values: Any) -> bool:
    """Whether the items of lists are captions: words, for a model that takes captions."""
    condition = loaded.model.condition
    items = [item for value in values if isinstance(value, ListConfig) for item in value]
    return condition is not None and condition.name == "caption" and any(isinstance(i, str) for i in items)


def walks(loaded: Loaded, config: DictConfig, out: Output) -> Tensor:
    """Images of `rows` draws, each from the first caption to the second: uint8 [rows * columns, C, H, W].

    Raises:
        UserError: a model without captions, not two of them, or a word that it does not know.
    """
    model = _mixing(loaded, "interpolate between captions", "captions")
    if config.images is not None or config.plane or config.code is not None:
        raise UserError("captions= walks between captions; leave images, plane and code out")
    texts = _texts("captions", config.captions)
    if len(texts) != 2:
        raise UserError(f"captions: expected two, captions=[FROM,TO], found {len(texts)}")
    a, b = _vectors(model, loaded, "captions", texts)
    weights = torch.linspace(0, 1, config.columns, device=a.device, dtype=a.dtype)
    steps = torch.lerp(a, b, weights[:, None])  # [columns, Y]
    z = model.prior_draws(config.rows).repeat_interleave(config.columns, 0)
    shares = [f"{i / (config.columns - 1):.2g}" for i in range(config.columns)]
    out.name(["to".join(f" {text} " for text in texts).strip()], shares, "interpolations")
    return model.mixed_to_images(z, steps.repeat(config.rows, 1))


def summed(loaded: Loaded, config: DictConfig, out: Output) -> list[str]:
    """Write a row for each caption of plus and minus, and below the row of their sum; returns what to say.

    Raises:
        UserError: a model without captions, none in plus, or a word that it does not know.
    """
    model = _mixing(loaded, "arithmetic with captions", "plus")
    if config.images is not None:
        raise UserError("plus= and minus= are captions; leave images out")
    plus, minus = (_texts(key, config[key]) for key in ("plus", "minus"))
    if not plus:
        raise UserError("plus is empty: give at least one caption, plus=[CAPTION]")
    vectors = torch.cat([_vectors(model, loaded, k, t) for k, t in (("plus", plus), ("minus", minus)) if t])
    signs = torch.tensor([1.0] * len(plus) + [-1.0] * len(minus)).to(vectors)
    rows = torch.cat([vectors, (signs[:, None] * vectors).sum(0, keepdim=True)])  # [terms + 1, Y]
    z = model.prior_draws(config.columns)
    images = model.mixed_to_images(z.repeat(len(rows), 1), rows.repeat_interleave(config.columns, 0))
    out.name([*(f"+ {text}" for text in plus), *(f"- {text}" for text in minus), "sum"], what="arithmetic")
    out.png(sheet(images, loaded.model.spec, columns=config.columns))
    sum_of = " ".join([*(f'+ "{text}"' for text in plus), *(f'- "{text}"' for text in minus)])
    return [
        out.wrote(f"a row for each caption, and below them {sum_of.removeprefix('+ ')}"),
        f"next    {next_command(loaded.model, ckpt_argument(loaded), 'interpolate', config=config)}",
    ]


def _mixing(loaded: Loaded, what: str, key: str) -> MixesConditions:
    model = capable(loaded, MixesConditions, what)
    condition = loaded.model.condition
    if condition is None or condition.name != "caption":
        taken = "nothing" if condition is None else condition.name
        raise UserError(f"{key}: {loaded.config.names.model} takes {taken}, and no captions")
    return model


def _texts(key: str, value: Any) -> list[str]:
    return [str(item) for item in listed(key, value, "captions")]


def _vectors(model: MixesConditions, loaded: Loaded, key: str, texts: Sequence[str]) -> Tensor:
    """[n, Y], one for each caption."""
    tokens = torch.stack([tokens_in(key, text, loaded.model.spec) for text in texts])
    return model.conditions_to_mixtures(tokens.to(device_of(loaded)))

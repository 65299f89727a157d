"""What images are to have, as a user types it: label=, attributes= or caption=."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.labels import label_of
from gentrain.commands.trained import device_of
from gentrain.commands.typed import as_typed, listed
from gentrain.contracts import Batch, Conditional, DataSpec
from gentrain.data.words import text_of, words_of
from gentrain.errors import UserError, did_you_mean


def given(config: DictConfig, loaded: Loaded, typed: Sequence[str]) -> Tensor | None:
    """What every image is to have, of the kind that the model takes; None where nothing is typed.

    A label int64 [], attributes bool [A] or a caption int64 [T].

    Raises:
        UserError: several, what the data do not have, or one for a model that does not take it.
    """
    keys = [key for key in KINDS if config[key] is not None]
    if not keys:
        return None
    if len(keys) > 1:
        raise UserError(f"{' and '.join(keys)} both say what images are to have; give one of them")
    (key,) = keys
    value = KINDS[key](config, loaded.model.spec, typed)
    kind, model = loaded.config.names.model, loaded.model
    if model.condition is None:
        how = getattr(model, "told_by", Conditional.told_by)
        raise UserError(
            f"{key}: {kind} is a model of p(x) here, which takes none; to train one that does: {how}"
        )
    if model.condition.name != key:
        raise UserError(f"{key}: {kind} takes {model.condition.name}, say {model.condition.name}=")
    return value.to(device_of(loaded))


def given_in_words(config: DictConfig, typed: Sequence[str]) -> str:
    """What was typed of it, to stand in a title: `, label=7`; empty where nothing was."""
    found = [f", {key}={as_typed(typed, key, config[key])}" for key in KINDS if config[key] is not None]
    return "".join(found)


def each_in_words(y: Tensor, loaded: Loaded) -> list[str]:
    """What each image is drawn for, in words: y [n, ...] of the kind that the model takes."""
    spec, condition = loaded.model.spec, loaded.model.condition
    assert condition is not None
    return [_WORDS[condition.name](row, spec) for row in y.cpu()]


def names_of(batch: Batch, spec: DataSpec) -> list[str]:
    """The names of the images' labels; none where they have no labels."""
    if batch.label is None or spec.label_words is None:
        return []
    return [spec.label_words[label] for label in batch.label.tolist()]


def with_given(batch: Batch, loaded: Loaded, one: Tensor | None) -> Batch:
    """The batch with what the model takes of its images: `one` for all, or each image's own.

    Raises:
        UserError: there is neither, as for images from files.
    """
    model = loaded.model
    if model.condition is None:
        return batch
    name = model.condition.name
    if one is not None:
        return batch._replace(**{name: one.expand(len(batch.x), *one.shape)})
    if lacks_own(batch, loaded):
        raise UserError(
            f"{name}: {loaded.config.names.model} needs the {name} of every image, and these have none; "
            f"say it, {name}={EXAMPLES[name](model.spec)}, or take test images: images=0"
        )
    return batch


def lacks_own(batch: Batch, loaded: Loaded) -> bool:
    """Whether nothing is known of the images that the model takes."""
    condition = loaded.model.condition
    return condition is not None and getattr(batch, condition.name) is None


def for_each(loaded: Loaded, n: int, one: Tensor | None) -> Tensor | None:
    """What the model takes for `n` images that are drawn, [n, ...]: `one` for all, or all in turn."""
    model = loaded.model
    if not isinstance(model, Conditional) or model.condition is None:
        return None
    return model.in_turn(n) if one is None else one.expand(n, *one.shape)


def _label(config: DictConfig, spec: DataSpec, typed: Sequence[str]) -> Tensor:
    word = as_typed(typed, "label", config.label)
    if spec.label_words is None:
        raise UserError(f"label={word}: expected none: the data have no labels")
    return torch.tensor(label_of(word, spec.label_words, f"label={word}"))


def _attributes(config: DictConfig, spec: DataSpec, typed: Sequence[str]) -> Tensor:
    if spec.attributes is None:
        raise UserError("attributes: expected none: the data have no attributes")
    named = [str(name) for name in listed("attributes", config.attributes, "names")]
    for name in named:
        if name not in spec.attributes:
            raise UserError(f"attributes: there is no {name!r}{did_you_mean(name, spec.attributes)}")
    return torch.tensor([name in named for name in spec.attributes])


def _caption(config: DictConfig, spec: DataSpec, typed: Sequence[str]) -> Tensor:
    return tokens_in("caption", as_typed(typed, "caption", config.caption).strip("'\""), spec)


def tokens_in(key: str, text: str, spec: DataSpec) -> Tensor:
    """A caption as it is typed -> its words' numbers, int64 [T].

    Raises:
        UserError: data without captions, no word, one that is unknown, or too many; names `key`.
    """
    if spec.vocabulary is None or spec.caption_length is None:
        raise UserError(f"{key}={text}: expected none: the data have no captions")
    words = words_of(text)
    if not words:
        raise UserError(f"{key}={text}: expected words that the captions have, e.g. {spec.vocabulary[0]!r}")
    for word in words:
        if word not in spec.vocabulary:
            near = difflib.get_close_matches(word, spec.vocabulary, 2, cutoff=0.3) or spec.vocabulary[:2]
            raise UserError(f"{key}: the captions have no {word!r}; did you mean {' or '.join(near)}?")
    if len(words) > spec.caption_length:
        raise UserError(f"{key}: expected at most {spec.caption_length} words, found {len(words)}")
    tokens = [spec.vocabulary.index(word) + 1 for word in words]
    return torch.tensor(tokens + [0] * (spec.caption_length - len(tokens)))


#: {condition: that of one image -> words}.
_WORDS: dict[str, Callable[[Tensor, DataSpec], str]] = {
    "label": lambda y, spec: (spec.label_words or ())[int(y)],
    "attributes": lambda y, spec: ", ".join(itertools.compress(spec.attributes or (), y.tolist())) or "none",
    "caption": lambda y, spec: text_of(y.tolist(), spec.vocabulary or ()),
}
#: {key: what is typed -> the condition of one image}.
KINDS: dict[str, Callable[[DictConfig, DataSpec, Sequence[str]], Tensor]] = {
    "label": _label,
    "attributes": _attributes,
    "caption": _caption,
}
#: {key: a value that could be typed}.
EXAMPLES: dict[str, Callable[[DataSpec], Any]] = {
    "label": lambda spec: (spec.label_words or ("0",))[0],
    "attributes": lambda spec: f"[{(spec.attributes or ('',))[0]}]",
    "caption": lambda spec: repr((spec.vocabulary or ("",))[0]),
}

"""`train init=`: a new run from a checkpoint's weights has that run's settings, but for what was typed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.arguments import OPEN_KEYS
from gentrain.commands.retyped import words_of
from gentrain.commands.same_data import section
from gentrain.errors import UserError
from gentrain.explain import plain_key
from gentrain.reading import read_checkpoint, read_config
from gentrain.training import finding
from gentrain.trust import again

#: What belongs to where and how that run was trained, not to what was trained.
_ITS_OWN = ("device", "threads", "trust", "track", "deterministic")
#: Sections that the YAML of a model fills.
_OF_MODEL = ("model", "optim", "schedule", "train")
_GROUPS = ("model", "dataset")
#: Both say how long to train.
_LENGTH = {"train.steps", "train.epochs"}


def settings(typed: Sequence[str], dirs: Sequence[str] = ()) -> list[str]:
    """The settings of the run that `init=` names, as overrides to stand before those that were typed.

    Of another model than the run's, chosen with `model=`, none of its model and of how that was trained; of
    another data set none of its data. With an experiment, which has settings for all, or several
    checkpoints (`-m`) none at all.

    Args:
        typed: as Hydra's parser is to read them.
        dirs: config folders of the user's own.

    Raises:
        UserError: there is no such checkpoint, or its model or data set is not known here.
        CorruptFile: it is damaged.
    """
    place = _named(typed)
    keys = {plain_key(word) for word in typed}
    if place is None or "experiment" in keys or "resume" in keys:
        return []
    path = finding.find_checkpoint(place)
    state = read_checkpoint(path)
    try:
        read = read_config(state["config"], path)
    except UserError:
        if keys.issuperset(_GROUPS):  # its weights may be all that is left of it
            return []
        raise
    groups = {group: str(read.names[group]) for group in _GROUPS}
    if not all(groups.values()):
        return []
    config = _as_noted(state["config"], read)
    config.dataset = section(config.dataset, state, OmegaConf.create({}))
    given = {g: next((w.partition("=")[2] for w in typed if plain_key(w) == g), None) for g in groups}
    chosen = [f"{group}={given[group] or name}" for group, name in groups.items()]
    if given["model"] not in (None, groups["model"]):
        for name in _OF_MODEL:
            config.pop(name, None)
    if given["dataset"] not in (None, groups["dataset"]):
        config.pop("dataset", None)
    for name in _ITS_OWN:
        config.pop(name, None)
    for name in groups:  # whose class its name says
        if name in config:
            config[name].pop("_target_", None)
    try:
        words = words_of(config, chosen, dirs)
    except Exception as error:  # Hydra has many words for what it does not find
        if any(given.values()):  # what was typed is not known: composing says so
            return []
        raise UserError(
            f"init={place} is a run of {' '.join(chosen)}, of which one is not known here; name the folder "
            f"that holds their YAML files: --config-dir FOLDER {again()}init={place}"
        ) from error
    said = keys - set(groups) | (_LENGTH if keys & _LENGTH else set())
    # Of another class the settings are others.
    said |= {key.removesuffix("._target_") for key in keys if key.endswith("._target_")}
    removed = {plain_key(word) for word in typed if word.startswith("~")}
    said -= removed  # there has to be what is removed
    # Settings that model and data set have no more: whether the weights fit is seen without them.
    gone = tuple(f"++{group}." for group in groups)
    free = [
        word
        for word in words
        if not _within(plain_key(word), said)
        and not (word.startswith("~") and plain_key(word) in removed)
        and not (word.startswith(gone) and not plain_key(word).startswith(OPEN_KEYS))
    ]
    return [*(word for word in chosen if plain_key(word) not in keys), *free]


def blamed(error: UserError, taken: Sequence[str], typed: Sequence[str]) -> UserError:
    """The error, which says of a setting that nobody typed where it is from."""
    message = str(error)
    for key in map(plain_key, taken):
        section = re.escape(key.rpartition(".")[0])  # optim.main (SGD): what its class refuses
        if re.search(rf"(?<![\w.])({re.escape(key)}(?!\w)|{section} \(\w)", message):
            return type(error)(f"{message} ({key} is as in the run of init={_named(typed)}; type another)")
    return error


def _named(typed: Sequence[str]) -> str | None:
    """The checkpoint that was typed; None where it is none, or not one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    last = [word for word in typed if word.startswith("init=")][-1]
    try:
        override = OverridesParser.create().parse_override(last)
    except HydraException:  # composing says what is wrong with it
        return None
    value = None if override.is_sweep_override() else override.value()
    return None if value is None or "${" in str(value) else str(value)


def _as_noted(text: str, read: DictConfig) -> DictConfig:
    """A config without what it was completed by when it was read: an export notes a part of it."""
    noted: Any = OmegaConf.create(text)
    plain: Any = OmegaConf.to_container(read, resolve=False)
    free: Any = OmegaConf.create({key: value for key, value in plain.items() if key in noted})
    return free


def _within(key: str, typed: set[str]) -> bool:
    """Whether a key was typed, or a section that it is in, or a key in it."""
    return any(key == one or key.startswith(f"{one}.") or one.startswith(f"{key}.") for one in typed)

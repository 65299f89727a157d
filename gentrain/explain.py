"""Hydra's and OmegaConf's errors as one line that names the key and the nearest valid ones."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gentrain.composing import composed
from gentrain.config import config_error, in_plain_words, options
from gentrain.errors import UserError, did_you_mean, nearest
from gentrain.schemas import SCHEMAS

GROUPS = ("model", "dataset", "experiment")
#: The commands that take them.
WITH_GROUPS = ("train", "reproduce")


def explain(error: BaseException, verb: str, overrides: Sequence[str], dirs: Sequence[str] = ()) -> UserError:
    """What was wrong with `overrides`, in one line.

    Args:
        error: what Hydra or OmegaConf raised.
        verb: the command, whose keys are the valid ones.
        overrides: the command's overrides as they were typed.
        dirs: config folders of the user's own.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException

    if isinstance(error, UserError):
        return error
    if isinstance(error, OverrideParseException):
        return UserError(
            f"cannot read {error.override!r}: expected key=value; quote what holds spaces or commas, "
            f"e.g. '{plain_key(error.override)}=\"a b\"'"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group in GROUPS:
            return UserError(
                f"{group}={name}: no such {group}{did_you_mean(name, options(group, dirs))}; "
                "see: gentrain list"
            )
        return UserError(str(error).splitlines()[0])
    cause = error.__cause__
    if isinstance(error, HydraException) and "Could not override" in str(error):
        match = re.search(r"Could not override '([^']+)'", str(error))
        return unknown_key(match.group(1) if match else "?", verb, overrides, dirs)
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException):
        match = re.search(r"Error merging override (.+)", str(error))
        override = match.group(1) if match else ""
        try:
            key = OverridesParser.create().parse_override(override).key_or_group
        except HydraException:
            key = plain_key(override)
        if "not in" in str(cause):
            return unknown_key(key, verb, overrides, dirs)
        reason = str(cause.msg or cause).splitlines()[0]
        return UserError(f"{key}: {in_plain_words(reason)}")
    if isinstance(error, OmegaConfBaseException):
        return config_error(error, SCHEMAS[verb])
    text = str(error)
    if "Ambiguous value" in text:
        match = re.search(r"argument '([^=\n]+)=(.*)'", text)
        name, values = match.groups() if match else ("a key", "...")
        return several_values(name.lstrip("+"), values, verb, overrides, dirs)
    if "Additional config directory" in text:
        return UserError(text)
    match = re.search(r"Could not find '([^']+)'", text)
    if match and "/" in match.group(1):
        group, _, name = match.group(1).rpartition("/")
        return UserError(f"{group}={name}: no such {group}{did_you_mean(name, options(group, dirs))}")
    if "Config group override must be" in text:  # model=null
        chosen = " ".join(o for o in overrides if plain_key(o) in GROUPS)
        return UserError(f"{chosen}: expected a name; see: gentrain list")
    return UserError(text)


def several_values(
    key: str, values: str, verb: str, overrides: Sequence[str], dirs: Sequence[str]
) -> UserError:
    """What `key=a,b` may have meant: a list, a sweep, or either."""
    sweep = f"add -m to {verb if verb in WITH_GROUPS else 'run'} each of them"
    present = OmegaConf.select(nearest_config(verb, overrides, dirs), key, default=None)
    may_be_list = key not in GROUPS and (present is None or isinstance(present, ListConfig))
    if may_be_list:
        return UserError(f"{key} has several values; for a list write {key}=[{values}]; {sweep}")
    return UserError(f"{key} has several values; {sweep}")


def plain_key(override: str) -> str:
    """`+train.steps=3` -> `train.steps`."""
    return override.lstrip("+~").split("=")[0]


def unknown_key(key: str, verb: str, overrides: Sequence[str], dirs: Sequence[str]) -> UserError:
    """Name the valid keys nearest to `key`: those that end like it, else those spelt like it."""
    key = key.lstrip("+~").split("@")[0]
    keys = valid_keys(verb, overrides, dirs)
    groups = GROUPS if verb in WITH_GROUPS else ()
    leaf = key.rpartition(".")[2]
    same_leaf = [k for k in keys if k.rpartition(".")[2] == leaf]
    if same_leaf:
        near = same_leaf[:4]
    else:
        leaves = {k.rpartition(".")[2]: k for k in reversed(keys)}
        near = nearest(key, groups) if "." not in key else []
        near = near or nearest(key, keys) or [leaves[n] for n in nearest(leaf, leaves)]
    hint = f"; did you mean {' or '.join(near)}?" if near else f"; see: gentrain {verb} --help"
    return UserError(f"unknown key {key}{hint}")


def valid_keys(verb: str, overrides: Sequence[str], dirs: Sequence[str]) -> list[str]:
    """The dotted keys of the command's config, with the model and data set that were chosen."""
    leaves = leaves_of(nearest_config(verb, overrides, dirs))
    return [leaf for leaf in leaves if not leaf.startswith(("names.", "made."))]  # ours to fill in


def nearest_config(verb: str, overrides: Sequence[str], dirs: Sequence[str]) -> DictConfig:
    """The command's config with the model and data set that were chosen, where that much is right."""
    chosen = [o for o in overrides if plain_key(o) in GROUPS and "," not in o]
    for attempt in (chosen, []):
        try:
            return composed(verb, attempt, dirs)
        except Exception:  # the chosen option may be what is wrong
            continue
    return DictConfig({})


def leaves_of(node: Any, prefix: str = "", hidden: bool = False) -> list[str]:
    """Dotted names of every leaf of a config; those that begin with _, such as `_target_`, if `hidden`."""
    found: list[str] = []
    for name in node:
        if isinstance(node, DictConfig) and OmegaConf.is_missing(node, name):
            found.append(prefix + str(name))
            continue
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none() and len(value):
            found += leaves_of(value, f"{prefix}{name}.", hidden)
        elif hidden or not str(name).startswith("_"):
            found.append(prefix + str(name))
    return found


def refuse_removals(verb: str, overrides: Sequence[str]) -> None:
    """Refuse `~key` of what the command's own schema has.

    Raises:
        UserError: names the key, and null where that switches it off.
    """
    for override in overrides:
        if not override.startswith("~"):
            continue
        key = plain_key(override)
        hint: Any = SCHEMAS[verb]
        for part in key.split("."):
            hint = typing.get_type_hints(hint).get(part) if dataclasses.is_dataclass(hint) else None
        if hint is not None:
            optional = hint is Any or type(None) in typing.get_args(hint)
            remedy = f"switch it off with {key}=null" if optional else "give it another value"
            raise UserError(f"{override}: {key} cannot be removed; {remedy}")

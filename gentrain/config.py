"""The configuration: where it lies, and its checks.

The sections that we own, with their defaults and ranges, are in schemas.py.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gentrain.errors import UserError, did_you_mean, nearest
from gentrain.schemas import SCHEMAS

T = TypeVar("T")

#: Constructor settings that are paths.
DATASET_PATHS = ("root", "background", "cache")


def environment(name: str, default: str) -> str:
    """`${gentrain.env:NAME,DEFAULT}`: a variable that is set but empty counts as not set."""
    return os.environ.get(name) or default


OmegaConf.register_new_resolver("gentrain.env", environment, replace=True)


def register_schema(verb: str) -> None:
    """Make a verb's dataclass known to Hydra as `gentrain_<verb>`: its store may be a caller's too."""
    ConfigStore.instance().store(name=f"gentrain_{verb}", node=SCHEMAS[verb])


def path_keys(verb: str) -> set[str]:
    """The dotted keys of `verb` whose values are paths."""

    def walk(schema: type, prefix: str) -> set[str]:
        found = set()
        hints = typing.get_type_hints(schema)
        for item in dataclasses.fields(schema):
            if item.metadata.get("path"):
                found.add(prefix + item.name)
            elif dataclasses.is_dataclass(hints[item.name]):
                found |= walk(typing.cast(type, hints[item.name]), f"{prefix}{item.name}.")
        return found

    return walk(SCHEMAS[verb], "") | {f"dataset.{name}" for name in DATASET_PATHS}


def config_dir() -> Path:
    """Where the YAML files lie: inside the installed package, or beside it in a checkout.

    Raises:
        UserError: neither is there (a broken installation).
    """
    # Beside this file first: an editable installation of another checkout would answer for its own.
    package = Path(__file__).resolve().parent
    places = [str(package / "configs"), str(package.parent / "configs")]
    spec = importlib.util.find_spec("gentrain.configs")
    places += list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (Path(place) / "train.yaml").is_file():
            return Path(place)
    raise UserError(f"the config files are missing (looked in {', '.join(places)}); reinstall gentrain")


def options(group: str, extra_dirs: Sequence[str | Path] = ()) -> list[str]:
    """The names that `group=` takes, e.g. `options("model")`, own config folders included."""
    found = set()
    for base in [config_dir(), *map(Path, extra_dirs)]:
        for file in sorted((base / group).rglob("*.yaml")):
            if not file.name.startswith("_"):
                found.add(file.relative_to(base / group).with_suffix("").as_posix())
    return sorted(found)


# Checks


def conform(schema: type[T], plain: Any) -> DictConfig:
    """`plain` merged into `schema`: every key known, every value of its type, every range kept.

    Raises:
        UserError: one line that names the key.
    """
    if isinstance(plain, DictConfig):  # as Hydra composed it: typed already, with keys that `+` forced in
        plain = OmegaConf.create(OmegaConf.to_container(plain))
    try:
        config = OmegaConf.merge(OmegaConf.structured(schema), plain)
        assert isinstance(config, DictConfig)
        for item in dataclasses.fields(typing.cast(Any, schema)):
            if item.metadata.get("names"):
                config[item.name] = names_in(item.name, config[item.name])
        check_ranges(schema, config)
    except OmegaConfBaseException as error:
        raise config_error(error, schema) from error
    return config


def names_in(key: str, value: Any) -> list[str]:
    """The names that `key=[a,b]` lists, or the one of `key=a`.

    Raises:
        UserError: it holds something else.
    """
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{key}: expected a name or a list of names, {key}=[a,b], found {value}")
    return list(names)


def config_error(error: OmegaConfBaseException, schema: type | None = None) -> UserError:
    """OmegaConf's error as one line that names the key."""
    key = error.full_key or str(error.key or "")
    message = str(error.msg or error).splitlines()[0]
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{key} is missing")
    if "Interpolation" in message or "environment variable" in message.lower():
        return UserError(f"{key or 'a value'} refers to something else that cannot be found: {message}")
    if "not in" in message and schema is not None:
        parent, _, leaf = key.rpartition(".")
        hints: Any = schema
        for part in filter(None, parent.split(".")):
            hints = typing.get_type_hints(hints).get(part, object)
        names = [f.name for f in dataclasses.fields(hints)] if dataclasses.is_dataclass(hints) else []
        prefix = parent + "." if parent else ""
        return UserError(f"unknown key {key}" + did_you_mean(leaf, names).replace("mean ", f"mean {prefix}"))
    return UserError(f"{key}: {in_plain_words(message)}")


def in_plain_words(message: str) -> str:
    """OmegaConf's message about a value of the wrong type, without its names for types."""
    match = re.search(r"Value '(.*)' of type '.*' could not be converted to (\w+)", message)
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    if match and match.group(2) in kinds:
        return f"expected {kinds[match.group(2)]}, found {match.group(1)!r}"
    if match := re.search(r"Value '(.*)' is not a valid bool", message):
        return f"expected true or false, found {match.group(1)!r}"
    if re.search(r"is not Optional|Incompatible value 'None'", message):
        return "expected a value, found null"
    if "Cannot merge DictConfig with ListConfig" in message:
        return "expected {NAME: VALUE}, found a list"
    if re.search(r"is not a subclass of|is not a ListConfig|is not a DictConfig|Cannot assign", message):
        return f"expected a section or a list, found a single value ({message})"
    return message


def check_ranges(schema: type, config: DictConfig, prefix: str = "") -> None:
    """Hold every value against the range in its dataclass field.

    Raises:
        UserError: the key, what was expected, what was found.
    """
    hints = typing.get_type_hints(schema)
    for item in dataclasses.fields(schema):
        key, value = prefix + item.name, config[item.name]
        if dataclasses.is_dataclass(hints[item.name]) and value is not None:
            check_ranges(typing.cast(type, hints[item.name]), value, key + ".")
            continue
        inner = typing.get_args(hints[item.name])
        if inner and dataclasses.is_dataclass(inner[0]):
            for number, entry in enumerate(value):
                check_ranges(typing.cast(type, inner[0]), entry, f"{key}[{number}].")
            continue
        if value is None:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{key}: expected a finite number, found {value}")
        limits = item.metadata
        if "one_of" in limits and value not in limits["one_of"]:
            near = nearest(str(value), limits["one_of"])
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UserError(f"{key}: expected one of {', '.join(limits['one_of'])}, found {value!r}{hint}")
        wrong = (
            ("at_least" in limits and value < limits["at_least"])
            or ("above" in limits and value <= limits["above"])
            or ("at_most" in limits and value > limits["at_most"])
            or ("below" in limits and value >= limits["below"])
        )
        if wrong:
            raise UserError(f"{key}: expected {range_in_words(limits)}, found {value}")


def range_in_words(limits: Mapping[str, Any]) -> str:
    """`{"above": 0, "below": 1}` -> "above 0 and below 1"."""
    words = {"at_least": "at least", "above": "above", "at_most": "at most", "below": "below"}
    return " and ".join(f"{words[name]} {limits[name]}" for name in words if name in limits)

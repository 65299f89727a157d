"""The configuration: where it lies, its checks, and building objects from it.

The sections that we own, with their defaults and ranges, are in schemas.py.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import math
import os
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from gentrain.errors import UserError, did_you_mean
from gentrain.formerly import settings_of_now, target_of_now
from gentrain.schemas import SCHEMAS

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from gentrain.contracts import DataSpec, GenerativeModel
    from gentrain.data.source import Source

T = TypeVar("T")

#: Constructor settings that are paths.
DATASET_PATHS = ("root", "cache")


def environment(name: str, default: str) -> str:
    """`${gentrain.env:NAME,DEFAULT}`: a variable that is set but empty counts as not set."""
    return os.environ.get(name) or default


OmegaConf.register_new_resolver("gentrain.env", environment, replace=True)


def register_schemas() -> None:
    """Make the dataclasses known to Hydra as `gentrain_<verb>`: its store may be a caller's too."""
    store = ConfigStore.instance()
    for verb, schema in SCHEMAS.items():
        store.store(name=f"gentrain_{verb}", node=schema)


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
            hint = did_you_mean(str(value), limits["one_of"])
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


# Building objects


OWN_MODULES = ("gentrain", "torch.optim")


def inside(module: str, packages: Sequence[str]) -> bool:
    """Whether `module` is one of `packages` or lies below one."""
    return any(module == package or module.startswith(package + ".") for package in packages)


def target_class(target: Any, base: type[T], where: str, trust: Sequence[str] = ()) -> type[T]:
    """The class that `_target_` names, if it may be built here.

    The name must lie in an allowed package before anything is imported, and what it resolves to must
    be a subclass of `base` that is *defined* in an allowed package: `gentrain.x.torch.load` is neither.

    Raises:
        UserError: `where` (the config key), the target and why it was refused.
    """
    from hydra.utils import get_class

    target = target_of_now(target)
    allowed = [*OWN_MODULES, *trust]
    if not isinstance(target, str) or not inside(target, allowed):
        package = str(target).split(".")[0]
        raise UserError(
            f"{where}._target_: {target!r} is refused: only classes below {', '.join(allowed)} are built; "
            f"for a package of your own add trust={package}"
        )
    try:
        cls = get_class(target)
    except Exception as error:
        raise UserError(f"{where}._target_: {target} cannot be resolved to a class: {error}") from error
    if not issubclass(cls, base) or not inside(cls.__module__, allowed):
        raise UserError(f"{where}._target_: {target} is refused: expected a subclass of {base.__name__}")
    return cls


def settings_of(cls: type, given: int) -> dict[str, inspect.Parameter]:
    """The constructor parameters of `cls` that config may set: all but self and the `given` first.

    A constructor that passes `**settings` on takes those of its base too.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found: dict[str, inspect.Parameter] = {}
    for constructed in constructors(cls):
        parameters = list(inspect.signature(constructed).parameters.values())[given:]
        found = {p.name: p for p in parameters if p.kind in named} | found
    return found


def constructors(cls: type) -> list[type]:
    """`cls`, and those of its bases to whose constructors `**settings` are passed on."""
    found = []
    for base in cls.__mro__:
        if base is cls or "__init__" in vars(base):
            found.append(base)
            kinds = [p.kind for p in inspect.signature(base).parameters.values()]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return found


def build(base: type[T], node: Any, where: str, *given: Any, trust: Sequence[str] = ()) -> T:
    """The object that `node` describes: `_target_` names a subclass of `base`, the rest its settings.

    `given` are positional arguments that come from the program (a DataSpec, parameters).

    Raises:
        UserError: a refused target, an unknown or missing setting, a wrong type or value; one line
            that names the key (`where` is its prefix).
    """
    try:
        plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    except OmegaConfBaseException as error:
        raise config_error(error) from error
    if not isinstance(plain, Mapping):
        raise UserError(f"{where}: expected a _target_ and its settings, found {plain!r}")
    settings: dict[str, Any] = {str(name): value for name, value in plain.items()}
    if "_target_" not in settings:
        raise UserError(f"{where}: expected a _target_ that names a class, found {sorted(settings)}")
    settings = settings_of_now(settings)
    target = settings.pop("_target_")
    cls = target_class(target, base, where, trust)
    settings = {**getattr(cls, "formerly", {}), **settings}
    parameters = settings_of(cls, len(given))
    for name, value in settings.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters).replace("mean ", f"mean {where}.")
            raise UserError(f"unknown key {where}.{name} for {cls.__name__}{hint}")
        refuse_nested_targets(value, f"{where}.{name}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{name}: expected a finite number, found {value}")
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in settings]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing: {cls.__name__} needs it")
    if inside(cls.__module__, ["torch.optim"]):  # annotated loosely: their defaults tell more
        check_like_defaults(settings, parameters, where)
    else:
        check_types(cls, settings, where)
    try:
        return cls(*given, **settings)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{where} ({cls.__name__}): {error}") from error
    except (TypeError, LookupError, AttributeError, ArithmeticError) as error:
        shown = ", ".join(f"{where}.{name}={value}" for name, value in settings.items())
        raise UserError(f"{where} ({cls.__name__}): {error} [{shown}]") from error


def refuse_nested_targets(value: Any, where: str) -> None:
    """Settings are plain values: a `_target_` inside them would build what nobody checked."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if str(key).startswith("_") and str(key).endswith("_"):
                raise UserError(f"{where}.{key} is refused: settings are plain values")
            refuse_nested_targets(inner, f"{where}.{key}")
    elif isinstance(value, list):
        for inner in value:
            refuse_nested_targets(inner, where)


def check_like_defaults(
    settings: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], where: str
) -> None:
    """Hold settings against the kinds of the constructor's defaults: numbers, switches, pairs.

    Raises:
        UserError: the key, the kind expected, the value found.
    """
    for name, value in settings.items():
        default = parameters[name].default
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(default, bool) or default is None:
            fits, expected = not isinstance(value, (str, list)), "true, false, null or a number"
        elif isinstance(default, (int, float)):
            fits, expected = number, "a number"
        elif isinstance(default, tuple):
            fits = isinstance(value, list) and len(value) == len(default)
            expected = f"a list of {len(default)} numbers"
        else:
            continue
        if not fits:
            raise UserError(f"{where}.{name}: expected {expected}, found {value!r}")


def check_types(cls: type, settings: Mapping[str, Any], where: str) -> None:
    """Hold settings against the constructor's annotations.

    Raises:
        UserError: the key, the type expected, the value found.
    """
    import typeguard

    hints: dict[str, Any] = {}
    for constructed in constructors(cls):
        hints = typing.get_type_hints(inspect.getattr_static(constructed, "__init__")) | hints
    for name, value in settings.items():
        if name not in hints:
            continue
        wrong_bool = isinstance(value, bool) and not admits_bool(hints[name])
        try:
            if wrong_bool:  # bool is an int to Python, not to a user
                raise typeguard.TypeCheckError("bool")
            typeguard.check_type(value, hints[name])
        except typeguard.TypeCheckError as error:
            expected = getattr(hints[name], "__name__", None) or str(hints[name]).replace("typing.", "")
            if typing.get_origin(hints[name]) is not None:
                expected = str(hints[name]).replace("typing.", "").replace("collections.abc.", "")
            raise UserError(f"{where}.{name}: expected {expected}, found {value!r}") from error


def admits_bool(hint: Any) -> bool:
    """Whether bool is written in the annotation."""
    return hint in (bool, Any) or bool in typing.get_args(hint)


def build_source(node: Any, trust: Sequence[str] = ()) -> Source:
    """The data set that `dataset:` describes."""
    from gentrain.data.source import Source

    return build(Source, node, "dataset", trust=trust)


def build_model(node: Any, spec: DataSpec, trust: Sequence[str] = ()) -> GenerativeModel:
    """The model that `model:` describes, for images of `spec`."""
    from gentrain.contracts import GenerativeModel

    return build(GenerativeModel, node, "model", spec, trust=trust)


def build_optimizer(node: Any, turn: str, parameters: Any, trust: Sequence[str] = ()) -> Optimizer:
    """The optimiser that `optim.<turn>` describes."""
    from torch.optim import Optimizer

    return build(Optimizer, node, f"optim.{turn}", parameters, trust=trust)


def build_schedule(node: Any, turn: str, optimizer: Optimizer, trust: Sequence[str] = ()) -> LRScheduler:
    """The learning-rate schedule that `schedule.<turn>` describes."""
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

    if isinstance(node, Mapping) and "_target_" not in node:  # T_max=8, say, of a model without a schedule
        raise UserError(
            f"schedule.{turn} has {', '.join(map(str, node))} and no _target_; name the schedule, e.g. "
            f"schedule.{turn}._target_=torch.optim.lr_scheduler.CosineAnnealingLR"
        )
    schedule = build(LRScheduler, node, f"schedule.{turn}", optimizer, trust=trust)
    if isinstance(schedule, ReduceLROnPlateau):
        raise UserError(f"schedule.{turn}: ReduceLROnPlateau needs a metric; take one that counts updates")
    return schedule

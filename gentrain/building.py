"""Building objects from the configuration: which class `_target_` may name, what its settings may be."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gentrain.config import config_error
from gentrain.errors import UserError, did_you_mean
from gentrain.formerly import settings_of_now, target_of_now

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from gentrain.contracts import DataSpec, GenerativeModel
    from gentrain.data.source import Source

T = TypeVar("T")

#: What may be built without `trust`: classes below these.
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


def with_former(node: Any, base: type, where: str, trust: Sequence[str] = ()) -> dict[str, Any]:
    """The settings of an object, `_target_` among them, in today's names and with what earlier ones lack.

    Raises:
        UserError: a refused target.
    """
    settings = settings_of_now(node)
    cls: type = target_class(settings.get("_target_"), base, where, trust)
    return {**getattr(cls, "formerly", {}), **settings}


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
    settings = with_former(settings, base, where, trust)
    cls = target_class(settings.pop("_target_"), base, where, trust)
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
        if isinstance(value, str) and typing.get_origin(hints[name]) in (list, Sequence):
            raise UserError(f"{where}.{name}: expected a list, {where}.{name}=[{value}], found {value!r}")
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
    """The model that `model:` describes, for images of `spec`.

    Raises:
        UserError: as of `build`, or a sound's context that the model would take for what it is to learn.
    """
    from gentrain.contracts import GenerativeModel
    from gentrain.layers.settings import WrongSize

    try:
        model = build(GenerativeModel, node, "model", spec, trust=trust)
    except UserError as error:
        wrong = error.__cause__
        if isinstance(wrong, WrongSize) and spec.sample_rate is not None:
            ways = " or ".join(["model=wavenet", *([wrong.instead] if wrong.instead else [])])
            raise UserError(f"model: {wrong.problem}, and recordings have one height: take {ways}") from error
        raise
    if spec.context and not model.takes_context:
        raise UserError(
            f"dataset.context={spec.context}: {type(model).__name__} makes no use of samples that are given; "
            "set dataset.context=0, or take a model that does: model=wavenet"
        )
    return model


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

"""The configuration: the sections that we own, their checks, and building objects from config.

A default is written once: here for our own sections, in the YAML for what a constructor takes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gentrain.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from gentrain.contracts import DataSpec, GenerativeModel
    from gentrain.data.source import Source

T = TypeVar("T")


def knob(
    default: Any,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    above: float | None = None,
    one_of: Sequence[str] | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with the range of its values; `path` marks a value that is a path."""
    limits = {"at_least": at_least, "at_most": at_most, "below": below, "above": above, "one_of": one_of}
    metadata = {name: limit for name, limit in limits.items() if limit is not None} | {"path": path}
    return field(default=default, metadata=metadata)


# OmegaConf reads these annotations at run time and wants Optional, not `| None`.
# ruff: noqa: UP045


@dataclass
class TrainSection:
    """How long and how a run trains (`train.*`)."""

    # Optimisation steps; one step is one fresh batch and every turn that is due.
    steps: int = knob(1000, at_least=1)
    # Passes over the training images; wins over the default `steps`. None: `steps` decides.
    epochs: Optional[int] = knob(None, at_least=1)
    # Images per step, over all ranks.
    batch_size: int = knob(128, at_least=1)
    # Micro-batches into which each rank's part of a batch is split, to save memory.
    accumulate: int = knob(1, at_least=1)
    # Largest 2-norm of a turn's gradient. None: no clipping.
    clip_grad_norm: Optional[float] = knob(None, above=0)
    # Decay of the exponential moving average of the weights, per update. None: no average.
    ema: Optional[float] = knob(None, at_least=0, below=1)
    # Compile each turn's loss with torch.compile.
    compile: bool = False
    # Newest checkpoints that are kept; the best one is kept besides.
    keep: int = knob(2, at_least=1)
    # Steps between two lines of metrics, evaluations on the validation images, pictures, checkpoints.
    log_every: int = knob(50, at_least=1)
    eval_every: int = knob(500, at_least=1)
    sample_every: int = knob(500, at_least=1)
    checkpoint_every: int = knob(500, at_least=1)
    # Images in a sample grid.
    sample_count: int = knob(64, at_least=1)
    # fp16 only: updates skipped in a row, for a non-finite gradient, after which the run stops.
    max_skips: int = knob(20, at_least=1)


@dataclass
class Names:
    """The config group options that were chosen; they name the run folder and messages."""

    model: str = ""
    dataset: str = ""
    experiment: Optional[str] = None


DEVICE_FORMS = "auto, cpu, cuda, cuda:N or mps"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass
class TrainConfig:
    """`gentrain train`."""

    model: dict[str, Any] = MISSING
    dataset: dict[str, Any] = MISSING
    # One optimiser per turn; a learning-rate schedule per turn where one is wanted.
    optim: dict[str, Any] = field(default_factory=dict)
    schedule: dict[str, Any] = field(default_factory=dict)
    train: TrainSection = field(default_factory=TrainSection)
    names: Names = field(default_factory=Names)
    # Seeds everything: weights, noise, the order of the images.
    seed: int = knob(0, at_least=0, below=2**63)
    # auto takes the best there is.
    device: str = "auto"
    # auto is bf16 on a GPU that has it, fp32 elsewhere.
    precision: str = knob("auto", one_of=PRECISIONS)
    # The same bits on a GPU too, slower.
    deterministic: bool = False
    # The run folder. None: outputs/<model>-<dataset>/<date>_<time>.
    run_dir: Optional[str] = knob(None, path=True)
    # A run folder (or a checkpoint in it) to go on with.
    resume: Optional[str] = knob(None, path=True)
    # Go on even where the checkpoint lacks random state.
    resume_inexact: bool = False
    # A checkpoint whose weights a new run starts from.
    init: Optional[str] = knob(None, path=True)
    # Print what would be done, and stop.
    dry_run: bool = False
    # Own packages whose classes `_target_` may name.
    trust: list[str] = field(default_factory=list)


@dataclass
class CheckpointConfig:
    """What every command on a trained model takes."""

    # A checkpoint file, a run folder (its last), or latest: the newest run.
    ckpt: str = knob("latest", path=True)
    device: str = "auto"
    seed: int = knob(0, at_least=0, below=2**63)
    # Use the averaged weights where the checkpoint has them.
    ema: bool = True
    trust: list[str] = field(default_factory=list)


@dataclass
class DatasetPlace:
    """Where the data lie now. None: where they lay in training."""

    root: Optional[str] = knob(None, path=True)
    cache: Optional[str] = knob(None, path=True)


@dataclass
class SampleConfig(CheckpointConfig):
    """`gentrain sample`."""

    # Images to draw.
    n: int = knob(64, at_least=1)
    # Label of every image. None: without, or all labels in turn where the model needs one.
    label: Optional[int] = knob(None, at_least=0)
    # Standard deviation of the latent noise relative to training's.
    temperature: float = knob(1.0, above=0)
    # A .png (one grid) or an .npz (`images` uint8 [n, C, H, W]). None: samples.png in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class EvalConfig(CheckpointConfig):
    """`gentrain eval`."""

    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    split: str = knob("test", one_of=("train", "validation", "test"))
    # Importance samples per image, where the model's likelihood is a bound.
    samples: Optional[int] = knob(100, at_least=1)
    batch_size: int = knob(100, at_least=1)
    # Only the first so many images. None: all.
    limit: Optional[int] = knob(None, at_least=1)


@dataclass
class ImagesConfig(CheckpointConfig):
    """What commands that start from images take."""

    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    # Test indices (0,1,2), an image file, or a folder of images.
    images: str = knob("0,1,2,3,4,5,6,7", path=True)
    # A .png. None: a file named after the command, in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class ReconstructConfig(ImagesConfig):
    """`gentrain reconstruct`."""


@dataclass
class InterpolateConfig(ImagesConfig):
    """`gentrain interpolate`: rows between two images each, or between latents drawn from the prior."""

    # None: latents from the prior.
    images: Optional[str] = knob(None, path=True)  # type: ignore[assignment]
    # Rows, and images in each.
    rows: int = knob(6, at_least=1)
    columns: int = knob(10, at_least=2)


@dataclass
class EncodeConfig(CheckpointConfig):
    """`gentrain encode`."""

    dataset: DatasetPlace = field(default_factory=DatasetPlace)
    split: str = knob("test", one_of=("train", "validation", "test"))
    # None: the whole split. Else as in `reconstruct`.
    images: Optional[str] = knob(None, path=True)
    batch_size: int = knob(100, at_least=1)
    # An .npz with `latents` float32 [N, D] and `labels`. None: latents.npz in the run folder.
    out: Optional[str] = knob(None, path=True)


@dataclass
class ListConfig:
    """`gentrain list`."""

    trust: list[str] = field(default_factory=list)


SCHEMAS: dict[str, type] = {
    "train": TrainConfig,
    "sample": SampleConfig,
    "eval": EvalConfig,
    "reconstruct": ReconstructConfig,
    "interpolate": InterpolateConfig,
    "encode": EncodeConfig,
    "list": ListConfig,
}

#: Constructor settings that are paths.
DATASET_PATHS = ("root", "cache")


def register_schemas() -> None:
    """Make the dataclasses known to Hydra as `<verb>_schema`."""
    store = ConfigStore.instance()
    for verb, schema in SCHEMAS.items():
        store.store(name=f"{verb}_schema", node=schema)


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
    spec = importlib.util.find_spec("gentrain.configs")
    places = list(spec.submodule_search_locations or []) if spec else []
    places.append(str(Path(__file__).resolve().parent.parent / "configs"))
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
    except OmegaConfBaseException as error:
        raise config_error(error, schema) from error
    assert isinstance(config, DictConfig)
    check_ranges(schema, config)
    return config


def config_error(error: OmegaConfBaseException, schema: type | None = None) -> UserError:
    """OmegaConf's error as one line that names the key."""
    key = error.full_key or str(error.key or "")
    message = str(error.msg or error).splitlines()[0]
    if "not in" in message and schema is not None:
        parent, _, leaf = key.rpartition(".")
        hints: Any = schema
        for part in filter(None, parent.split(".")):
            hints = typing.get_type_hints(hints).get(part, object)
        names = [f.name for f in dataclasses.fields(hints)] if dataclasses.is_dataclass(hints) else []
        prefix = parent + "." if parent else ""
        return UserError(f"unknown key {key}" + did_you_mean(leaf, names).replace("mean ", f"mean {prefix}"))
    return UserError(f"{key}: {message}")


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

    allowed = [*OWN_MODULES, *trust]
    if not isinstance(target, str) or not inside(target, allowed):
        package = str(target).split(".")[0]
        raise UserError(
            f"{where}._target_: {target!r} is refused: only classes below {', '.join(allowed)} are built; "
            f"for a package of your own add trust=[{package}]"
        )
    try:
        cls = get_class(target)
    except Exception as error:
        raise UserError(f"{where}._target_: {target} cannot be resolved to a class: {error}") from error
    if not issubclass(cls, base) or not inside(cls.__module__, allowed):
        raise UserError(f"{where}._target_: {target} is refused: expected a subclass of {base.__name__}")
    return cls


def settings_of(cls: type, given: int) -> dict[str, inspect.Parameter]:
    """The constructor parameters of `cls` that config may set: all but self and the `given` first."""
    parameters = list(inspect.signature(cls).parameters.values())[given:]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p for p in parameters if p.kind in named}


def build(base: type[T], node: Any, where: str, *given: Any, trust: Sequence[str] = ()) -> T:
    """The object that `node` describes: `_target_` names a subclass of `base`, the rest its settings.

    `given` are positional arguments that come from the program (a DataSpec, parameters).

    Raises:
        UserError: a refused target, an unknown or missing setting, a wrong type or value; one line
            that names the key (`where` is its prefix).
    """
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    settings: dict[str, Any] = {str(name): value for name, value in plain.items()}
    if "_target_" not in settings:
        raise UserError(f"{where}: expected a _target_ that names a class, found {sorted(settings)}")
    target = settings.pop("_target_")
    cls = target_class(target, base, where, trust)
    parameters = settings_of(cls, len(given))
    for name, value in settings.items():
        if name not in parameters:
            hint = did_you_mean(name, parameters).replace("mean ", f"mean {where}.")
            raise UserError(f"unknown key {where}.{name} for {cls.__name__}{hint}")
        refuse_nested_targets(value, f"{where}.{name}")
    missing = [n for n, p in parameters.items() if p.default is inspect.Parameter.empty and n not in settings]
    if missing:
        raise UserError(f"{where}.{missing[0]} is missing: {cls.__name__} needs it")
    if not inside(cls.__module__, ["torch.optim"]):  # torch checks its own values, with looser hints
        check_types(cls, settings, where)
    try:
        return cls(*given, **settings)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{where}.{name}={value}" for name, value in settings.items())
        raise UserError(f"{where} ({cls.__name__}): {error}" + (f" [{shown}]" if shown else "")) from error


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


def check_types(cls: type, settings: Mapping[str, Any], where: str) -> None:
    """Hold settings against the constructor's annotations.

    Raises:
        UserError: the key, the type expected, the value found.
    """
    import typeguard

    hints = typing.get_type_hints(inspect.getattr_static(cls, "__init__"))
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
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{name}: expected a finite number, found {value}")


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

    where = f"optim.{turn}"
    for name, value in dict(node).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{where}.{name}: expected a finite number, found {value}")
    return build(Optimizer, node, where, parameters, trust=trust)


def build_schedule(node: Any, turn: str, optimizer: Optimizer, trust: Sequence[str] = ()) -> LRScheduler:
    """The learning-rate schedule that `schedule.<turn>` describes."""
    from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

    schedule = build(LRScheduler, node, f"schedule.{turn}", optimizer, trust=trust)
    if isinstance(schedule, ReduceLROnPlateau):
        raise UserError(f"schedule.{turn}: ReduceLROnPlateau needs a metric; take one that counts updates")
    return schedule


def compose_train(overrides: Sequence[str]) -> DictConfig:
    """The config of `gentrain train <overrides>`, composed without running anything.

    Raises:
        UserError: overrides that do not fit.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    register_schemas()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose("train", overrides=list(overrides))
    except Exception as error:
        from gentrain.explain import explain

        raise explain(error, "train", list(overrides)) from error
    return conform(TrainConfig, config)

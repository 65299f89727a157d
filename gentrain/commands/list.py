"""`gentrain list`: models by family and what each can do, data sets, experiments, metrics."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from gentrain.building import target_class
from gentrain.commands.abilities import needed
from gentrain.commands.asked import Asked
from gentrain.commands.comments import about, file_of, in_one_line
from gentrain.commands.measures import METRICS
from gentrain.commands.verbs import VERBS
from gentrain.composing import composed
from gentrain.config import config_dir, conform, options
from gentrain.contracts import GenerativeModel
from gentrain.errors import UserError
from gentrain.explain import explain
from gentrain.schemas import ListConfig

#: The heading of the table.
ABILITIES = "what each can do"
#: {a config group: its heading}.
GROUPS = {
    "dataset": "data sets, dataset=...",
    "experiment": "experiments, experiment=...: recipes, and figures for gentrain reproduce",
}
#: Columns that a line has at most.
WIDEST = 120


def run(asked: Asked) -> None:
    """Print what there is, a line each, and the table of what each model can do."""
    config = asked.config
    from hydra.core.hydra_config import HydraConfig

    config = conform(ListConfig, config)
    dirs: list[str] = [
        source.path.removeprefix("file://")
        for source in HydraConfig.get().runtime.config_sources
        if source.schema == "file"
    ]
    classes, wrong = models(dirs, list(config.trust))
    print("\n".join(families(classes, dirs)))
    print("\n".join([ABILITIES, *table(classes, wrong)]))
    for group, title in GROUPS.items():
        names = options(group, dirs)
        rows = lines({name: about(group, name, dirs) for name in names}) if names else ["  none"]
        print("\n".join(["", title, *rows]))
    print("\n".join(["", "metrics of gentrain eval, metrics=[...]", *lines(metrics())]))
    first = next(name for name in classes if name in options("model"))
    print(f"\nnext    gentrain train model={first} dataset=digits")


def models(
    dirs: Sequence[str] = (), trust: Sequence[str] = ()
) -> tuple[dict[str, type[GenerativeModel]], dict[str, str]]:
    """{option of model=: its class}, and {option: why it has none}."""
    classes: dict[str, type[GenerativeModel]] = {}
    wrong: dict[str, str] = {}
    for name in options("model", dirs):
        try:
            classes[name] = model_class(name, dirs, trust)
        except UserError as error:
            wrong[name] = str(error)
    return classes, wrong


def families(classes: Mapping[str, type[GenerativeModel]], dirs: Sequence[str]) -> list[str]:
    """The models by family, each with the first sentence of its file, and an empty line after each family."""
    groups: dict[str, dict[str, str]] = {}
    for name, cls in classes.items():
        groups.setdefault(family_of(cls), {})[name] = about("model", name, dirs)
    found = []
    for heading in sorted(groups, key=lambda heading: (heading == OWN, heading)):
        found += [heading, *lines(groups[heading]), ""]
    return found


#: The heading of models that are not of this package.
OWN = "your own"


def family_of(cls: type) -> str:
    """The family of a model's class: the package that its module lies in, and what that says of itself."""
    package = cls.__module__.rpartition(".")[0]
    if not package.startswith("gentrain.models."):
        return OWN
    said = (sys.modules[package].__doc__ or "").strip().splitlines()
    return said[0].rstrip(".") if said else package.rpartition(".")[2]


def lines(rows: Mapping[str, str]) -> list[str]:
    """`  name   what it is`, in columns, each cut to a line of the terminal."""
    width = max(map(len, rows))
    room = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST) - width - 4
    return [f"  {name:{width}}  {in_one_line(text, room)}".rstrip() for name, text in rows.items()]


def metrics() -> dict[str, str]:
    """{metric: what it measures, and whether eval does so unasked}."""
    found = {}
    for name, metric in METRICS.items():
        said = (sys.modules[metric.measure.__module__].__doc__ or "").strip().splitlines()[0]
        found[name] = said.partition(": ")[2].rstrip(".") + (
            "" if metric.asked else " (unless others are asked for)"
        )
    return found


def table(classes: Mapping[str, type[GenerativeModel]], wrong: Mapping[str, str]) -> list[str]:
    """Models by family, and the verbs that each can."""
    verbs = [verb for verb, needs in VERBS.items() if needs.needs]
    width = max(map(len, [*classes, *wrong]))
    rows = [" ".join(["model".ljust(width), *verbs])]
    for name in sorted(
        classes, key=lambda name: (family_of(classes[name]) == OWN, family_of(classes[name]), name)
    ):
        marks = [
            ("yes" if issubclass(classes[name], needed(verb)) else "-").ljust(len(verb)) for verb in verbs
        ]
        rows.append(" ".join([name.ljust(width), *marks]).rstrip())
    return rows + [f"{name:{width}} not shown: {error}" for name, error in wrong.items()]


def model_class(name: str, dirs: Sequence[str], trust: Sequence[str]) -> type[GenerativeModel]:
    """The class that `model=name` builds, as `gentrain train` would compose it.

    Raises:
        UserError: the file is no model's, or its class may not be built; names the file.
    """
    file = file_of("model", name, dirs)
    if file is not None and file.resolve().is_relative_to(config_dir().resolve()):
        ours: Any = OmegaConf.load(file)
        if "defaults" not in ours:  # nothing to compose, which takes a fifth of a second
            return target_class(ours.model._target_, GenerativeModel, "model", trust)
    override = f"model={name}"
    places = [Path(folder) / "model" / f"{name}.yaml" for folder in [*dirs, str(config_dir())]]
    try:
        try:
            config = composed("train", [override], dirs)
            target = OmegaConf.select(config, "model._target_")
        except Exception as error:
            raise explain(error, "train", [override], dirs) from error
        if target is None:
            raise UserError("it is not a model's: expected # @package _global_ and model._target_")
        return target_class(target, GenerativeModel, "model", trust)
    except UserError as error:
        raise UserError(f"{next(place for place in places if place.is_file())}: {error}") from error

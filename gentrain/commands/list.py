"""`gentrain list`: models and what each can do, data sets, experiments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from gentrain.building import target_class
from gentrain.commands.abilities import needed
from gentrain.commands.asked import Asked
from gentrain.commands.verbs import VERBS
from gentrain.composing import composed
from gentrain.config import config_dir, conform, options
from gentrain.contracts import GenerativeModel
from gentrain.errors import UserError
from gentrain.explain import explain
from gentrain.schemas import ListConfig


def run(asked: Asked) -> None:
    """Print the tables."""
    config = asked.config
    from hydra.core.hydra_config import HydraConfig

    config = conform(ListConfig, config)
    dirs: list[str] = [
        source.path.removeprefix("file://")
        for source in HydraConfig.get().runtime.config_sources
        if source.schema == "file"
    ]
    verbs = [verb for verb, about in VERBS.items() if about.needs]
    models = options("model", dirs)
    width = max(map(len, models))
    rows = [" ".join(["model".ljust(width), *verbs])]
    shown = []
    for name in models:
        try:
            cls = model_class(name, dirs, list(config.trust))
        except UserError as error:
            rows.append(f"{name:{width}} not shown: {error}")
            continue
        shown.append(name)
        marks = [("yes" if issubclass(cls, needed(verb)) else "-").ljust(len(verb)) for verb in verbs]
        rows.append(" ".join([name.ljust(width), *marks]).rstrip())
    print("\n".join(rows))
    print("\ndata sets    " + ", ".join(options("dataset", dirs)))
    print("experiments  " + (", ".join(options("experiment", dirs)) or "none"))
    first = next(name for name in shown if name in options("model"))
    print(f"\nnext    gentrain train model={first} dataset=digits")


def model_class(name: str, dirs: Sequence[str], trust: Sequence[str]) -> type[GenerativeModel]:
    """The class that `model=name` builds, as `gentrain train` would compose it.

    Raises:
        UserError: the file is no model's, or its class may not be built; names the file.
    """
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

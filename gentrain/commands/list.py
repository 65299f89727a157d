"""`gentrain list`: models and what each can do, data sets, experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.config import config_dir, conform, options, target_class
from gentrain.contracts import (
    Completes,
    GenerativeModel,
    HasLikelihood,
    ImagesToLatents,
    LatentsToImages,
    Reconstructs,
    Samples,
    Translates,
)
from gentrain.errors import UserError
from gentrain.schemas import ListConfig

#: What each verb needs of a model: a capability, or one of several.
NEEDS: dict[str, type | tuple[type, ...]] = {
    "train": GenerativeModel,
    "sample": Samples,
    "eval": (HasLikelihood, Samples, Reconstructs),
    "reconstruct": Reconstructs,
    "interpolate": LatentsToImages,
    "arithmetic": LatentsToImages,
    "encode": ImagesToLatents,
    "complete": Completes,
    "translate": Translates,
}


def run(config: DictConfig, typed: Sequence[str], choices: Mapping[str, Any]) -> None:
    """Print the tables."""
    from hydra.core.hydra_config import HydraConfig

    config = conform(ListConfig, config)
    dirs: list[str] = [
        source.path.removeprefix("file://")
        for source in HydraConfig.get().runtime.config_sources
        if source.schema == "file"
    ]
    verbs = [verb for verb in NEEDS if verb in known_verbs()]
    models = options("model", dirs)
    width = max(map(len, models))
    rows = [" ".join(["model".ljust(width), *verbs])]
    for name in models:
        places = [Path(str(d)) / "model" / f"{name}.yaml" for d in [*dirs, config_dir()]]
        cls = model_class(next(place for place in places if place.is_file()), list(config.trust))
        marks = [("yes" if issubclass(cls, NEEDS[verb]) else "-").ljust(len(verb)) for verb in verbs]
        rows.append(" ".join([name.ljust(width), *marks]).rstrip())
    print("\n".join(rows))
    print("\ndata sets    " + ", ".join(options("dataset", dirs)))
    print("experiments  " + (", ".join(options("experiment", dirs)) or "none"))
    print(f"\nnext    gentrain train model={models[0]} dataset=digits")


def model_class(file: Path, trust: Sequence[str]) -> type[GenerativeModel]:
    """The class that a model's YAML names.

    Raises:
        UserError: the file is no model's, or its class may not be built.
    """
    try:
        target = OmegaConf.select(OmegaConf.load(file), "model._target_")
    except Exception as error:  # YAML errors have no common base that OmegaConf exports
        raise UserError(f"{file} cannot be read: {error}") from error
    if target is None:
        raise UserError(f"{file} is not a model's: expected model._target_")
    try:
        return target_class(target, GenerativeModel, "model", trust)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def known_verbs() -> list[str]:
    """The verbs of the command line."""
    from gentrain.cli import VERBS

    return list(VERBS)

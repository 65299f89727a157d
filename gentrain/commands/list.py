"""`gentrain list`: models and what each can do, data sets, experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.config import ListConfig, config_dir, conform, options, target_class
from gentrain.contracts import (
    Completes,
    GenerativeModel,
    HasLikelihood,
    ImagesToLatents,
    LatentsToImages,
    Samples,
    Translates,
)

#: What each verb needs of a model.
NEEDS: dict[str, type] = {
    "train": GenerativeModel,
    "sample": Samples,
    "eval": HasLikelihood,
    "reconstruct": ImagesToLatents,
    "interpolate": LatentsToImages,
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
    print("model".ljust(width), *verbs)
    for name in models:
        places = [Path(str(d)) / "model" / f"{name}.yaml" for d in [*dirs, config_dir()]]
        file = next(place for place in places if place.is_file())
        target = OmegaConf.load(file).model._target_
        cls = target_class(target, GenerativeModel, "model", list(config.trust))
        marks = [("yes" if issubclass(cls, NEEDS[verb]) else "-").ljust(len(verb)) for verb in verbs]
        print(" ".join([name.ljust(width), *marks]).rstrip())
    print("\ndata sets    " + ", ".join(options("dataset", dirs)))
    print("experiments  " + (", ".join(options("experiment", dirs)) or "none"))
    print(f"\nnext    gentrain train model={models[0]} dataset=digits")


def known_verbs() -> list[str]:
    """The verbs of the command line."""
    from gentrain.cli import VERBS

    return list(VERBS)

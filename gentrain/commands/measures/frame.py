"""What a metric is: what it needs of a model, how it is measured, what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.contracts import GenerativeModel
from gentrain.data.source import Data


@dataclass(frozen=True)
class Measured:
    """What a metric found: lines to print, figures to keep, and in which file of the run folder."""

    lines: list[str]
    figures: dict[str, Any]
    file: str


@dataclass(frozen=True)
class Metric:
    """One metric.

    measure: (loaded, config) -> what it found; called without gradients, everything freshly seeded.
    needs: the capability that a model must have; what: that in a few words.
    why: the keys of `lacks` under which a model may say why it has not, the nearest first; under that a model
        that has what is needed may refuse, too.
    labelled: whether the data must have labels.
    features: whether it compares features, of which those that are taken by default need labels.
    beside: the figures that there are only where it is measured of another model too, beside this one.
    asked: whether it is measured only where `metrics` names it.
    least: samples, and images of the split, that it takes at the least.
    given: what the model must be given of images, the name of a condition; None: nothing.
    means: {figure: what it means, in a sentence}.
    """

    measure: Callable[[Loaded, DictConfig], Measured]
    needs: type
    what: str
    why: tuple[str, ...] = ()
    labelled: bool = False
    features: bool = False
    beside: tuple[str, ...] = ()
    asked: bool = True
    least: int = 1
    given: str | None = None
    means: Mapping[str, str] = field(default_factory=dict)

    def ready(self, model: GenerativeModel) -> bool:
        """Whether it can be measured as it is, without another setting."""
        return self.lack(model) is None and not (self.features and model.spec.classes is None)

    def lack(self, model: GenerativeModel) -> str | None:
        """Why `model` cannot have this metric; None where it can."""
        if not isinstance(model, self.needs) or any(key in model.lacks for key in self.why[:1]):
            reason = next((model.lacks[key] for key in self.why if key in model.lacks), None)
            return f"has no {self.what}" + (f" ({reason})" if reason else "")
        if self.given is not None and (model.condition is None or model.condition.name != self.given):
            return f"is given no {self.given}"
        if self.labelled and model.spec.classes is None:
            return "was trained on data without labels"
        return None


def subject(loaded: Loaded, data: Data, config: DictConfig) -> dict[str, Any]:
    """Which images a figure is of: without it two figures look comparable that are not."""
    dataset = loaded.config.names.dataset or data.name
    return {
        "dataset": dataset,
        "split": config.split,
        "levels": data.spec.levels,
        "binarize": data.binarize,
        "values": data.pixels,
        "each": data.spec.words[0],
    }


def spread(stderr: float, digits: int) -> str:
    """` +- 0.1234`; empty where there is no standard error, as of a single image."""
    return "" if math.isnan(stderr) else f" +- {stderr:.{digits}f}"

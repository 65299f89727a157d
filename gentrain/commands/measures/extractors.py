"""Which network's features stand for images: `features=classifier`, `lite0` or `inception`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.classifier import judge_of
from gentrain.commands.trained import device_of
from gentrain.data.source import Data
from gentrain.errors import UserError
from gentrain.metrics.extractors import (
    INCEPTION,
    INCEPTION_FILE,
    LITE0,
    SIDE,
    ClassifierFeatures,
    Extractor,
    Inception,
    Lite0,
    Missing,
    extractor,
)


def _classifier(data: Data, loaded: Loaded, config: DictConfig) -> Extractor:
    if data.spec.classes is None:
        raise UserError(
            f"features=classifier: the data ({data.name}) have no labels to train one on; take features=lite0"
        )
    judge, name = judge_of(data, loaded, config)
    return extractor("classifier", None, name, ClassifierFeatures(judge.net), device_of(loaded))


def _lite0(data: Data, loaded: Loaded, config: DictConfig) -> Extractor:
    resize = f"bicubic to {SIDE}x{SIDE}"
    return extractor("lite0", resize, LITE0, Lite0(data.spec.levels), device_of(loaded))


def _inception(data: Data, loaded: Loaded, config: DictConfig) -> Extractor:
    data_root = Path(os.environ.get("GENTRAIN_DATA") or "data")
    place = Path(config.inception or data_root / INCEPTION_FILE).expanduser()
    net = Inception(data.spec.levels, place)
    return extractor("inception", "bilinear to 299x299 as TensorFlow 1", INCEPTION, net, device_of(loaded))


EXTRACTORS: dict[str, Callable[[Data, Loaded, DictConfig], Extractor]] = {
    "classifier": _classifier,
    "lite0": _lite0,
    "inception": _inception,
}


def extractor_of(data: Data, loaded: Loaded, config: DictConfig) -> Extractor:
    """The extractor that `features` names.

    Raises:
        UserError: data without labels for the classifier, or weights or packages that are not there.
    """
    if data.spec.shape[0] not in (1, 3):
        raise UserError(f"features={config.features}: images of 1 or 3 channels, found {data.spec.shape[0]}")
    try:
        return EXTRACTORS[config.features](data, loaded, config)
    except Missing as error:
        raise UserError(f"features={config.features}: {error}") from error

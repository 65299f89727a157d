"""A second model, `beside=`, whose figures stand beside those of the one that is measured."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Metric
from gentrain.commands.trained import open_model
from gentrain.contracts import DataSpec
from gentrain.errors import UserError

#: Settings of a data set that say what its two domains are, and which images are its test images.
_SAME = ("source", "direction", "a", "b", "inside", "held_out", "test_fraction", "split_seed")
#: Those that say which of the other images are trained on.
_TRAINED = ("validation", "paired")


def another(loaded: Loaded, config: DictConfig, metrics: Sequence[Metric]) -> Loaded | None:
    """The model that `beside` names, which does what `loaded` does; None where none is named.

    Raises:
        UserError: no metric that takes one, no such checkpoint, a model without what the metric needs, of
            other images or domains, or one that was trained on other data.
    """
    place = config.beside
    if place is None:
        return None
    takes = next((metric for metric in metrics if metric.beside), None)
    if takes is None:
        raise UserError(f"beside={place}: only metrics=[translation] sets two models beside one another")
    try:
        other = open_model(OmegaConf.merge(config, {"ckpt": place}))  # type: ignore[arg-type]
    except UserError as error:
        raise UserError(f"beside={place}: {error}") from error
    if lack := takes.lack(other.model):
        raise UserError(f"beside={place}: {other.config.names.model} {lack}")
    ours, theirs = (_shapes(part.model.spec) for part in (loaded, other))
    if ours != theirs:
        raise UserError(f"beside={place}: expected one {ours}, as the model that is measured, found {theirs}")
    _check_data(loaded, other, config)
    return other


def _shapes(spec: DataSpec) -> str:
    """From what to what a model goes, in words."""
    source = "x".join(map(str, spec.source_shape or spec.shape))
    return f"from {source} to {'x'.join(map(str, spec.shape))} pixels of {spec.levels} levels"


def _check_data(loaded: Loaded, other: Loaded, config: DictConfig) -> None:
    """See that both go the same way between the same domains, and were trained on none of the images.

    Raises:
        UserError: they do not, or one may have been.
    """
    ours, theirs = loaded.config.dataset, other.config.dataset
    if ours.get("_target_") != theirs.get("_target_"):
        sets = [part.config.names.dataset for part in (loaded, other)]
        raise UserError(
            f"beside={config.beside}: it was trained on dataset={sets[1]}, the model that is measured on "
            f"{sets[0]}: the two do not compare"
        )
    divided = [key for key in _TRAINED if ours.get(key) != theirs.get(key)]
    for key in (*_SAME, *(divided if config.split != "test" else ())):
        if ours.get(key) != theirs.get(key):
            raise UserError(
                f"beside={config.beside}: it was trained with dataset.{key}={theirs.get(key)}, the model "
                f"that is measured with {ours.get(key)}: of split={config.split} the two do not compare"
            )
    records = [part.state.get("data") for part in (loaded, other)]
    if divided or None in records:
        return
    if records[0]["digest"] != records[1]["digest"]:  # type: ignore[index]
        raise UserError(
            f"beside={config.beside}: it was trained on other images than the model that is measured"
        )

"""The metrics of `gentrain eval`, a file here and one in gentrain/metrics/ each.

METRICS is all that knows their names; frame.py says what a metric is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gentrain.api import Loaded
from gentrain.commands.measures import (
    captions,
    classifier,
    codes,
    crossing,
    frechet,
    kid,
    labels,
    likelihood,
    neighbour,
    prdc,
    probe,
    reconstruction,
    translation,
)
from gentrain.errors import UserError, did_you_mean

#: Every metric by name.
METRICS = {
    "likelihood": likelihood.METRIC,
    "reconstruction": reconstruction.METRIC,
    "classifier": classifier.METRIC,
    "probe": probe.METRIC,
    "translation": translation.METRIC,
    "neighbour": neighbour.METRIC,
    "frechet": frechet.METRIC,
    "kid": kid.METRIC,
    "prdc": prdc.METRIC,
    "labels": labels.METRIC,
    "captions": captions.METRIC,
    "codes": codes.METRIC,
    "crossing": crossing.METRIC,
}


#: What each figure of a metric means, in a sentence.
MEANS = {figure: words for metric in METRICS.values() for figure, words in metric.means.items()}


def chosen(loaded: Loaded, named: Any) -> list[str]:
    """The metrics that `metrics=` names, each once; without it, those that need no more than the model.

    Raises:
        UserError: no list, an unknown name, a metric that the model cannot have.
    """
    kind = loaded.config.names.model
    possible = [name for name, metric in METRICS.items() if metric.ready(loaded.model)]
    if named is None:
        plain = [name for name in possible if not METRICS[name].asked]
        if plain:
            return plain
        reasons = (metric.lack(loaded.model) for metric in METRICS.values() if not metric.asked)
        hint = f"; try metrics=[{','.join(possible)}]" if possible else "; no metric fits it"
        raise UserError(f"eval: {kind} {', '.join(r for r in reasons if r)}{hint}")
    for name in names_in(named, possible):
        if name not in METRICS:
            raise UserError(f"metrics: there is no metric {name!r}{did_you_mean(name, METRICS)}")
        lack = METRICS[name].lack(loaded.model)
        if lack is not None:
            hint = f"; try metrics=[{','.join(possible)}]" if possible else ""
            raise UserError(f"metrics=[{name}]: {kind} {lack}{hint}")
    return list(dict.fromkeys(names_in(named, possible)))


def names_in(named: Any, possible: Sequence[str]) -> list[str]:
    """The names in `metrics=[a,b]`; `possible` are those that could be there.

    Raises:
        UserError: it is empty, or no list; with the list that was meant.
    """
    if isinstance(named, str) or not isinstance(named, Sequence):
        given = [part.strip() for part in str(named).strip("[]()").split(",")]
        raise UserError(f"metrics={named}: expected a list, metrics=[{','.join(given)}]")
    if not named:
        raise UserError(f"metrics=[]: expected at least one, e.g. metrics=[{','.join(possible or METRICS)}]")
    return [str(name) for name in named]

"""Whether the data are those that a checkpoint was trained on: never silently other ones."""

from __future__ import annotations

import dataclasses
import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.contracts import DataSpec
from gentrain.data.identity import Change, changed
from gentrain.data.source import Data, Split
from gentrain.data.words import with_words_of
from gentrain.errors import UserError
from gentrain.files import expanded

#: What a checkpoint's `dataset` section takes from the command line, where it is given there.
PLACE = ("root", "background", "cache", "verify")


def section(saved: DictConfig, state: Mapping[str, Any] | None, given: DictConfig) -> DictConfig:
    """The `dataset` section of a checkpoint's config, with the places of here and now.

    The root is the one that was typed, or where the data lay in training, or what was typed then. The cache
    is this machine's: it decides no bit.

    Args:
        saved: the section.
        state: the checkpoint, or None before the first.
        given: root, background, cache and verify as they were typed now; None where they were not.
    """
    node = saved.copy()
    record = (state or {}).get("data")
    OmegaConf.update(node, "cache", given.get("cache"), force_add=True)
    if "root" not in node:  # an export does not say where the user's own lay: the data set asks for it
        OmegaConf.update(node, "root", None, force_add=True)
    if record is not None and record["root"] is not None:
        lay, typed_then = Path(record["root"]), expanded(str(node.get("root")))
        if lay.exists() or not typed_then.exists():
            # What `${...}` is part of a name is to stay one.
            OmegaConf.update(node, "root", record["root"].replace("${", "\\${"), force_add=True)
    for key in PLACE:
        if given.get(key) is not None:
            OmegaConf.update(node, key, given[key], force_add=True)
    return node


def reconciled(
    data: Data, state: Mapping[str, Any], typed: bool, resumed: bool = False
) -> tuple[Data, Change | None]:
    """The data, their labels numbered as in training, and how they differ from those of training.

    Warns where they differ and where that cannot be told.

    Args:
        data: what lies there now.
        state: the checkpoint.
        typed: whether the user named these data now: others than in training are then allowed.
        resumed: whether they are to be trained on.

    Raises:
        UserError: another shape or other levels; where the data were not named now: others than those of the
            run, labels that do not match by name, a held-out image that was trained on, one to be trained on
            that was a test image.
    """
    expected = DataSpec.from_dict(state["spec"])
    if (data.spec.shape, data.spec.levels) != (expected.shape, expected.levels):
        raise UserError(
            f"the data are {list(data.spec.shape)} with {data.spec.levels} levels, the checkpoint was "
            f"trained on {list(expected.shape)} with {expected.levels}; set dataset.root to the same data"
        )
    data = with_words_of(_with_labels(data, expected, typed), expected)
    record, identity = state.get("data"), data.identity
    say = "not bit-exact: " if resumed else ""
    if record is None or identity is None:
        warnings.warn(
            f"{say}the checkpoint is of an earlier version, which did not note the images that it was "
            f"trained on: that {data.name} still has the same ones cannot be checked",
            stacklevel=3,
        )
        return data, None
    change = changed(record, identity)
    if change is None:
        return data, None
    where = identity.root or data.name
    take = f"take them as they are: {shlex.quote(f'dataset.root={where}')}"
    elsewhere = record["root"] is not None and identity.root != record["root"]
    if not typed and (change.stranger or (elsewhere and not change.same)):
        gone = f"the run was trained on {record['root']}, which is not there; " if elsewhere else ""
        raise UserError(f"{gone}{where} holds other data: {change}; name the data of the run, or {take}")
    to_train = [f"{change.trained:,} test images of the run would be trained on"]
    to_train = to_train if change.trained and resumed else []
    if (leaks := [*change.leaked, *to_train]) and not typed:
        raise UserError(f"{where}: {' and '.join(leaks)}; put the data back as they were, or {take}")
    what = where if change.same else f"the data of {where} are not those of training"
    warnings.warn(f"{say}{what}: {'; '.join([str(change), *to_train])}", stacklevel=3)
    return data, change


def _with_labels(data: Data, expected: DataSpec, typed: bool) -> Data:
    """`data` with labels and attributes that mean what they meant in training.

    Raises:
        UserError: they cannot be made to, and the data were not named now.
    """
    then, now = expected.label_words, data.spec.label_words
    trouble = ""
    if then is not None and now is not None and now != then:
        try:
            data = data.with_labels_of(then)
        except ValueError as missing:
            trouble = f"class {missing} is none of those that the run was trained with: {_some(then)}"
    if expected.attributes is not None and data.spec.attributes not in (None, expected.attributes):
        trouble = f"the attributes are not those that the run was trained with: {_some(expected.attributes)}"
    if not trouble:
        return data
    if not typed:
        root = data.identity.root if data.identity else None
        raise UserError(
            f"{trouble}; give the classes the names that they had, or take the data as they are, without "
            f"labels: {shlex.quote(f'dataset.root={root}')}"
        )
    warnings.warn(f"labels are left out: {trouble}", stacklevel=4)

    def bare(split: Split) -> Split:
        return Split({"x": split.images})

    return dataclasses.replace(
        data,
        spec=dataclasses.replace(data.spec, classes=None, label_names=None, attributes=None),
        train=bare(data.train),
        validation=None if data.validation is None else bare(data.validation),
        test=bare(data.test),
    )


def _some(names: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")

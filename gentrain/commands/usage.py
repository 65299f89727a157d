"""`gentrain VERB --help`: each key with its value, its comment and its range."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain.commands.comments import file_of, of_fields, of_keys
from gentrain.commands.verbs import VERBS
from gentrain.composing import chosen
from gentrain.config import options, range_in_words
from gentrain.explain import GROUPS, WITH_GROUPS, leaves_of
from gentrain.files import read_text
from gentrain.schemas import SCHEMAS

#: Sections that the command fills in.
_OURS = ("names.", "made.")


def usage(verb: str, overrides: Sequence[str], dirs: Sequence[str], resolve: bool = False) -> str:
    """The text of `gentrain VERB --help`, with what was typed besides.

    Args:
        verb: whose keys.
        overrides: what was typed, as Hydra reads it: another model has other keys.
        dirs: config folders of the user's own.
        resolve: show what `${...}` refers to.

    Raises:
        Exception: whatever Hydra raises of overrides that do not fit.
    """
    config, choices = chosen(verb, overrides, dirs)
    lines = [f"gentrain {verb}: {VERBS[verb].text}", "", "Examples:"]
    lines += [f"  {example}" for example in VERBS[verb].examples]
    width = min(shutil.get_terminal_size().columns, 110)
    if verb in WITH_GROUPS:
        lines += ["", "Groups (gentrain list says what each is):"]
        for group in GROUPS:
            names = ", ".join(options(group, dirs))
            lines += textwrap.wrap(
                f"{group}= {names}", width, initial_indent="  ", subsequent_indent="      "
            )
    lines += ["", "Settings, key=value, with the values that they have:"]
    comments, ranges = known(verb, choices, dirs)
    section = ""
    for key in leaves_of(config):
        if key.startswith(_OURS):
            continue
        head = key.partition(".")[0] if "." in key else ""
        if head != section:
            lines.append("")
            section = head
        lines.append(f"  {key}={shown(config, key, resolve)}")
        words = " ".join(part for part in (comments.get(key), ranges.get(key)) if part)
        words = re.sub(r"\bNone:", "null:", words)  # as it is typed
        lines += textwrap.wrap(words, width, initial_indent="      ", subsequent_indent="      ")
    lines += [
        "",
        "-m runs each of several values; --cfg job shows all as YAML; --config-dir FOLDER adds files.",
    ]
    return "\n".join(lines)


def known(
    verb: str, choices: Mapping[str, Any], dirs: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """{dotted key: its comment} and {dotted key: its range}, of our sections and of the files chosen."""
    comments: dict[str, str] = {}
    ranges: dict[str, str] = {}
    _of_section(SCHEMAS[verb], "", comments, ranges)
    for group in ("experiment", "dataset", "model"):  # the nearest last
        if choices.get(group) and verb in WITH_GROUPS:
            comments |= _of_file(group, str(choices[group]), dirs)
    return comments, ranges


def _of_section(schema: type, prefix: str, comments: dict[str, str], ranges: dict[str, str]) -> None:
    hints = typing.get_type_hints(schema)
    own = of_fields(schema)
    for item in dataclasses.fields(schema):
        if dataclasses.is_dataclass(hints[item.name]):
            _of_section(typing.cast(type, hints[item.name]), f"{prefix}{item.name}.", comments, ranges)
            continue
        if comment := own.get(item.name):
            comments[prefix + item.name] = comment
        one_of = item.metadata.get("one_of")
        words = f"one of {', '.join(one_of)}" if one_of else range_in_words(item.metadata)
        if words:
            ranges[prefix + item.name] = f"[{words}]"


def _of_file(group: str, name: str, dirs: Sequence[str]) -> dict[str, str]:
    """The comments of a file and of those that it lists first, those of a data set as `dataset.KEY`."""
    path = file_of(group, name, dirs)
    if path is None:
        return {}
    found: dict[str, str] = {}
    for parent in _defaults(path):
        found |= _of_file("" if parent.startswith("/") else group, parent.strip("/"), dirs)
    within = "" if "# @package _global_" in read_text(path) else "dataset."
    return found | {within + key: comment for key, comment in of_keys(path).items()}


def _defaults(path: Path) -> list[str]:
    """The files that a file lists in its defaults, those of other folders with a slash before them."""
    try:
        listed = OmegaConf.select(OmegaConf.load(path), "defaults") or []
    except Exception:  # said where it is composed
        return []
    names = [str(item).partition("@")[0] for item in listed if isinstance(item, str)]
    return [name for name in names if name != "_self_"]


def shown(config: DictConfig, key: str, resolve: bool) -> str:
    """A value as it is typed; what is not given yet as ???."""
    node: Any = OmegaConf.to_container(config, resolve=resolve)
    for part in key.split("."):
        node = node[part]
    if node is None:
        return "null"
    if isinstance(node, bool):
        return str(node).lower()
    return str(node).replace("'", "") if isinstance(node, list) else str(node)

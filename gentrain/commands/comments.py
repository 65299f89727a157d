"""What the comments of our YAML files and sections say, for `list` and `--help`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

from gentrain.config import config_dir
from gentrain.files import read_text


def file_of(group: str, name: str, dirs: Sequence[str] = ()) -> Path | None:
    """The YAML file of `group=name`, the user's own first."""
    places = [Path(folder) / group / f"{name}.yaml" for folder in [*dirs, str(config_dir())]]
    return next((place for place in places if place.is_file()), None)


def about(group: str, name: str, dirs: Sequence[str] = ()) -> str:
    """The first sentence of the comment at the top of the file of `group=name`; empty where there is none."""
    path = file_of(group, name, dirs)
    lines = [] if path is None else read_text(path).splitlines()
    comment = []
    for line in lines:
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# ").strip())
    text = " ".join(comment)
    sentence = re.match(r"(.*?(?<!\bal)\.)(\s|$)", text)
    return sentence.group(1) if sentence else text


def in_one_line(text: str, width: int) -> str:
    """`text`, cut at a word where it is longer than `width`."""
    return textwrap.shorten(text, max(width, 20), placeholder=" ...")


def of_keys(path: Path) -> dict[str, str]:
    """{dotted key: its comment} of a YAML file: beside it, or in the lines above it.

    A key without either has none; keys of a flow mapping, {a: 1}, are not looked into.
    """
    found: dict[str, str] = {}
    above: list[str] = []
    parents: list[tuple[int, str]] = []
    top = True  # where a comment is of the file
    for line in read_text(path).splitlines():
        words = line.strip()
        if not words:
            above, top = [], False
        elif words.startswith("#"):
            above = [] if words.startswith("# @package") else [*above, words.lstrip("# ")]
        elif key := re.match(r"( *)([\w.-]+):(?:\s|$)", line):
            indent, name = len(key[1]), key[2]
            parents = [parent for parent in parents if parent[0] < indent]
            beside = re.search(r"(?<=\s)#\s?(.*)$", line)
            dotted = ".".join([*(parent[1] for parent in parents), name])
            comment = beside[1] if beside else " ".join(above)
            if comment and (beside or not top):
                found[dotted] = comment
            parents.append((indent, name))
            above, top = [], False
        else:
            above = []
    return found


def of_fields(schema: type) -> dict[str, str]:
    """{field: the comment above it} of a dataclass and of those that it derives from."""
    found: dict[str, str] = {}
    for cls in reversed(schema.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        above: list[str] = []
        for line in inspect.getsource(cls).splitlines():
            words = line.strip()
            if words.startswith("#"):
                above.append(words.lstrip("# "))
                continue
            if (name := re.match(r"(\w+): ", words)) and above:
                found[name[1]] = " ".join(above)
            above = []
    return found

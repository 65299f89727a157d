"""What is typed after a verb, before Hydra reads it: options apart from overrides, paths quoted.

Imports neither torch nor Hydra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence

from gentrain.errors import UserError

#: Hydra's options, and those of them that take a value.
OPTIONS = {
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r"),
    *("--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp", "--config-name", "-cn"),
    *("--config-dir", "-cd", "--info", "-i"),
}
WITH_VALUE = {"--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"} | {
    *("--config-dir", "-cd"),
}
INFO = ("--info", "-i")
#: Of options whose values are few: those values.
CHOICES = dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all")) | dict.fromkeys(
    INFO, ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
)


#: Sections, and single keys, that may be added without `+`: what fits is known only when their objects are
#: built, of the data set of a run that is resumed, say, or names are the user's own.
OPEN_SECTIONS = ("schedule",)
OPEN_KEYS = ("dataset.verify", "dataset.facts")


def split_options(verb: str, rest: Sequence[str]) -> tuple[list[str], list[str]]:
    """Options and overrides apart: argparse does not take them mixed.

    Raises:
        UserError: an unknown option, or one without its value.
    """
    options: list[str] = []
    overrides: list[str] = []
    words = list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        name, given, value = word.partition("=")
        if name not in OPTIONS:
            raise UserError(f"unknown option {name}; settings are key=value, see: gentrain {verb} --help")
        if name in INFO:  # its value is optional: argparse would swallow an override
            follows = not given and words and re.fullmatch(r"[\w-]+", words[0]) and words[0][0] != "-"
            value = value or (words.pop(0) if follows else "all")
            word = f"--info={value}"
        options.append(word)
        if word in WITH_VALUE:
            value = words.pop(0) if words else ""
            options.append(value)
        if name in WITH_VALUE and not value:
            raise UserError(f"{name} needs a value")
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(f"{name}: expected one of {', '.join(CHOICES[name])}, found {value!r}")
    if "--resolve" in options and not {"--cfg", "-c", "--help", "-h"} & {
        o.partition("=")[0] for o in options
    }:
        raise UserError("--resolve goes with --cfg job or --help")
    return options, overrides


def config_dirs(args: Sequence[str]) -> list[str]:
    """The user's own config folders: the values of `--config-dir`/`-cd`."""
    found = []
    for i, arg in enumerate(args):
        name, _, value = arg.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(value or (args[i + 1] if i + 1 < len(args) else ""))
    return [d for d in found if os.path.isdir(d)]


def prepared(arg: str, paths: Collection[str], sweep: bool) -> str:
    """An override as Hydra's parser is to read it.

    Args:
        arg: as it was typed.
        paths: the keys whose values are paths.
        sweep: with `-m`, where commas stand between several values.

    Raises:
        UserError: a path that is empty, or whose `~` cannot be expanded.
    """
    match = re.match(r"(\+{0,2})([\w.@/]+)=(.*)\Z", arg, re.DOTALL)
    if not match:
        return arg
    plus, key, value = match.groups()
    if key.partition(".")[0] in OPEN_SECTIONS or ".".join(key.split(".")[:2]) in OPEN_KEYS:
        return f"++{key}={value}"
    if key == "caption" or (key == "label" and not re.fullmatch(r"[\x20-\x7e]*", value)):
        return f"{plus}{key}={quote(value)}"  # a name that Hydra's parser may not know how to read
    if key not in paths:
        return arg
    choice = re.fullmatch(r"choice\((.*)\)", value.strip(), re.DOTALL) if sweep else None
    # A list of test images is one value.
    several = sweep and not re.fullmatch(r"[\[(]?[\d,\s]*[\])]?", value)
    values = list(top_level(choice.group(1) if choice else value)) if several else [value]
    # Not choice(...), of which Hydra drops the quotes.
    return f"{plus}{key}=" + ",".join(quote_path(key, one) for one in values)


def top_level(text: str) -> Iterator[str]:
    """The parts of `text` between its commas, those in quotes or brackets aside."""
    part, quote, depth = "", "", 0
    for i, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote and text[i - 1] != "\\" else quote
        elif letter in "'\"" and not part.strip():
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not quote and depth <= 0:
            yield part.strip()
            part, depth = "", 0
        else:
            part += letter
    yield part.strip()


def quote_path(key: str, value: str) -> str:
    """A path quoted for Hydra's parser: it may hold spaces, `=`, `,` and parentheses.

    `a b(1).pt` -> `'a b(1).pt'`. What is quoted already and null stay. `${...}` keeps its meaning.

    Raises:
        UserError: an empty path, which would mean the current folder, or a `~` of nobody known.
    """
    if value.strip() == "" or value in ("''", '""'):
        raise UserError(f"{key} is empty; give a path or leave it out")
    is_quoted = value[0] in "'\"" and value[-1] == value[0] and len(value) > 1
    check_home(key, value[1:-1] if is_quoted else value)
    if value == "null" or is_quoted:
        return value
    return quote(value)


def quote(value: str) -> str:
    """A value in quotes, as Hydra's parser unescapes them: \\' and, just before a quote, \\\\."""
    escaped = re.sub(r"(\\+)(?='|\Z)", lambda m: m.group(1) * 2, value).replace("'", "\\'")
    return f"'{escaped}'"


def check_home(key: str, path: str) -> None:
    """Refuse a `~` for which this machine knows no folder: without HOME, or of an unknown user.

    Raises:
        UserError: names the key.
    """
    if path.startswith("~") and os.path.expanduser(path) == path:
        user = path.split("/")[0]
        raise UserError(f"{key}={path}: no home folder is known for {user}; give the whole path, or set HOME")

"""Modules of the user's own that `trust=` names: found beside his configs or where he is."""

from __future__ import annotations

import importlib
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path

from gentrain.errors import UserError

#: What the next command has to hold to find the same modules.
_words: list[str] = []


def admit(trust: Sequence[str], config_dirs: Sequence[str] = ()) -> None:
    """Make the modules that `trust` names importable.

    One that Python does not find is looked for in the current folder, in `config_dirs` and beside them; the
    folder that holds it is appended to `sys.path`, no other.

    Raises:
        UserError: not the name of a module, or found nowhere; with the places.
    """
    needed: dict[str, None] = {}
    places = {Path.cwd(): ""}
    for folder in config_dirs:
        places.setdefault(Path(folder).absolute(), folder)
        places.setdefault(Path(folder).resolve().parent, folder)
    for name in trust:
        if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name):
            module = re.sub(r"\.py\Z", "", name).strip("./").replace("/", ".")
            hint = f", e.g. trust={module}" if module.isidentifier() else ""
            raise UserError(f"trust={name}: expected the name of a module{hint}")
        place = _find(name.partition(".")[0], list(places))
        if place is not None:
            if str(place) not in sys.path:
                sys.path.append(str(place))
            if places[place]:
                needed[places[place]] = None
    words = [word for folder in needed for word in ("--config-dir", folder)]
    if trust:
        words.append(f"trust={trust[0]}" if len(trust) == 1 else f"trust=[{','.join(trust)}]")
    _words[:] = words


def again() -> str:
    """What the next command has to hold to find the same modules, quoted for a shell, a blank after it."""
    return "".join(f"{shlex.quote(word)} " for word in _words)


def _find(module: str, places: Sequence[Path]) -> Path | None:
    """The one of `places` that holds `module`; None where Python finds it by itself.

    Raises:
        UserError: it is in none of them.
    """
    importlib.invalidate_caches()  # it may have been written just now
    if module in sys.modules:
        return None
    known = find_spec(module)
    if known is not None and not _is_bare_folder(known):
        return None
    for place in places:
        found = PathFinder.find_spec(module, [str(place)])
        if found is not None and not _is_bare_folder(found):
            return place
    if known is None:
        raise UserError(
            f"trust={module}: no such module in {', '.join(map(str, places))} nor where Python looks; "
            "go to the folder that holds it, name that with --config-dir, or add it to PYTHONPATH"
        )
    return None


def _is_bare_folder(spec: ModuleSpec) -> bool:
    """Whether this is a folder without `__init__.py`: a module of the same name comes first."""
    return spec.origin is None

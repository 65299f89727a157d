"""The figures that evaluations left in a run folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gentrain.commands.measures import MEANS
from gentrain.files import read_text
from gentrain.pages.report import Figure


def figures_of(folder: Path, step: int) -> list[Figure]:
    """What `gentrain eval` kept, the newest of each kind of the checkpoint of `step`.

    A file that cannot be read, or is of another step, is left out.
    """
    found: dict[tuple[str, str], Figure] = {}
    files = sorted(folder.glob("eval_*.json"), key=lambda file: file.stat().st_mtime_ns)
    for file in files:
        try:
            entry = json.loads(read_text(file))
        except (OSError, ValueError):
            continue
        if isinstance(entry, dict) and entry.get("step") == step:
            for figure in _of_one(entry):
                found[figure.name, figure.of] = figure
    return list(found.values())


def _of_one(entry: dict[str, Any]) -> list[Figure]:
    """The figures of one file: numbers that have a standard error beside them, and those with a meaning."""
    found = []
    for name, value in entry.items():
        meaning = MEANS.get(name) or MEANS.get(name.rpartition("_")[2])
        error = entry.get(f"{name}_stderr")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or name.endswith("_stderr") or (meaning is None and error is None):
            continue
        found.append(Figure(name.replace("_", " "), value, error, _subject(entry), meaning or ""))
    return found


def _subject(entry: dict[str, Any]) -> str:
    """Of which images, and by which estimator."""
    images = entry.get("images")
    parts = [
        " ".join(str(entry[key]) for key in ("dataset", "split") if entry.get(key)),
        f"{images:,} {entry.get('each', 'image')}s" if isinstance(images, int) else "",
        str(entry.get("kind") or entry.get("estimator") or ""),
        f"on {entry['other_data']}" if entry.get("other_data") else "",
    ]
    return ", ".join(part for part in parts if part)

"""Keep finished reproductions and show them: `python scripts/accept.py RESULT.json ...`.

What `gentrain reproduce` wrote is copied to results/<experiment>.json, and the README's table is made anew
from all that lie there; without arguments only the table. An experiment with targets and no result is a row
"not yet run".
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

from gentrain.api import compose_train
from gentrain.commands.reproduce import entry
from gentrain.config import options
from gentrain.errors import GentrainError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
README = ROOT / "README.md"
BEGIN, END = "<!-- reproductions: made by scripts/accept.py -->", "<!-- end of reproductions -->"
HEAD = ["experiment", "figure", "published", "obtained", "tolerance", "verdict", "minutes", "on", "source"]
#: What every result holds.
KEYS = {
    *("experiment", "published", "wanted", "obtained", "stderr", "tolerance", "verdict", "estimator"),
    *("source", "minutes", "steps", "date", "hardware", "versions", "commit", "command", "changed"),
}


def problem(result: dict[str, Any]) -> str | None:
    """Why a result cannot be kept, or None."""
    if missing := sorted(KEYS - result.keys()):
        return f"lacks {', '.join(missing)}"
    name = result["experiment"]
    if name not in options("experiment"):
        return f"there is no experiment {name!r}"
    targets = {target.metric: target for target in compose_train([f"experiment={name}"]).targets}
    if targets.keys() != result["obtained"].keys():
        return f"measured {', '.join(result['obtained'])}, the targets are {', '.join(targets)}"
    for metric, target in targets.items():
        now = (target.published, target.tolerance, target.source)
        if now != tuple(result[key][metric] for key in ("published", "tolerance", "source")):
            return f"{metric}: its target has changed since; measure it again"
    for metric, target in targets.items():
        obtained = result["obtained"][metric]
        if not isinstance(obtained, int | float) or not math.isfinite(obtained):
            return f"{metric}: expected a finite number, obtained {obtained!r}"
        if result["verdict"].get(metric) != entry(target, obtained, {}, "")["verdict"]:
            return f"{metric}: {obtained} against its target is not {result['verdict'].get(metric)!r}"
        if not isinstance(result["stderr"].get(metric), int | float | None):
            return f"{metric}: its standard error is {result['stderr'].get(metric)!r}"
    if not isinstance(result["minutes"], int | float):
        return f"minutes: expected a number, found {result['minutes']!r}"
    if not isinstance(result["commit"], str):
        return "names no commit; measure it in a checkout"
    if result["commit"].endswith("-dirty"):
        return "the code differed from its commit; commit, and measure again"
    return None


def accept(file: Path) -> str | None:
    """Copy a result to results/, or say why not."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    try:
        if reason := problem(result):
            return reason
    except (AttributeError, KeyError, TypeError):
        return "is no result"
    RESULTS.mkdir(exist_ok=True)
    shutil.copyfile(file, RESULTS / f"{result['experiment']}.json")
    return None


def rows() -> list[list[str]]:
    """The table's rows: every experiment with targets, in order of name."""
    found = []
    for name in options("experiment"):
        targets = compose_train([f"experiment={name}"]).targets
        kept = RESULTS / f"{name}.json"
        result = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
        for target in targets:
            figure = target.metric.partition(".")[2].replace("_", " ")
            wanted = (
                f"at most {target.at_most:g}"
                if target.at_most is not None
                else f"at least {target.at_least:g}"
            )
            published = f"{target.published:g}" if target.published is not None else f"none; {wanted} wanted"
            left, right = [f"`{name}`", figure, published], [f"{target.tolerance:g}"]
            if result is None:
                found.append([*left, "not yet run", *right, "", "", "", target.source])
                continue
            error = result["stderr"][target.metric]
            obtained = (
                f"{result['obtained'][target.metric]:.4g}"
                if error is None
                else figures(result["obtained"][target.metric], error)
            )
            obtained += f" ({result['estimator'][target.metric]})"
            if result["changed"]:
                obtained += " with " + " ".join(f"`{change}`" for change in result["changed"])
            verdict = result["verdict"][target.metric]
            on = f"{result['hardware']}, {result['date']}"
            found.append([*left, obtained, *right, verdict, f"{result['minutes']:g}", on, target.source])
    return found


def figures(value: float, error: float) -> str:
    """A figure and its standard error, both to the error's second digit."""
    digits = 2 if error >= 0.1 else 3 if error >= 0.01 else 4 if error >= 0.001 else 5
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def table() -> str:
    """The README's table, in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows()]
    return "\n".join("| " + " | ".join(map(plain, cells)) + " |" for cells in lines)


def plain(cell: str) -> str:
    """A cell on one line, without what Markdown or HTML would make something of."""
    for character, shown in (("|", "\\|"), ("<", "&lt;"), (">", "&gt;")):
        cell = cell.replace(character, shown)
    return " ".join(cell.split())


def renewed(text: str) -> str:
    """The README with the table of now between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"accept: README.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def main() -> int:
    """Keep the results that were named; remake the table."""
    failed = 0
    for argument in sys.argv[1:]:
        reason = accept(Path(argument))
        print(f"{argument}: " + (f"not kept: {reason}" if reason else "kept"))
        failed |= reason is not None
    try:
        README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
    except GentrainError as error:
        print(f"accept: {error}", file=sys.stderr)
        return 1
    return failed


if __name__ == "__main__":
    sys.exit(main())

"""Keep finished reproductions and show them: `python scripts/accept.py RUN/result.json ...`.

What `gentrain reproduce` wrote is kept in results/<experiment>/, with the export of the checkpoint that gave
the figures, and the table of docs/reproductions.md is made anew from all that lie there; without arguments
only the table. An experiment with targets and no result is a row "not yet run".

Weights of more than 12 MB are kept in bf16, and the figures are measured again from those; what is still
larger, or finds no room in what results/ may take, is not kept: its SHA-256 and its size are in result.json,
beside the command that makes it.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gentrain import exported
from gentrain.api import Loaded, compose_train
from gentrain.commands import export
from gentrain.commands.reproduce import by_target, entry, measured
from gentrain.commands.second_run import folder_of
from gentrain.commands.seeds import COUNTS, SEEDS, middle, of_each
from gentrain.commands.trained import open_model
from gentrain.config import conform, options
from gentrain.errors import GentrainError
from gentrain.files import replacing, write_text
from gentrain.schemas import ExportConfig
from gentrain.training.run import Run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
#: Where the table may be: in the first that has the marks.
PAGES = [ROOT / "docs" / "reproductions.md", ROOT / "README.md"]
#: The largest file of weights that is kept, in bytes.
MOST = 12 * 10**6
#: The most that all of results/ may take, in bytes.
ROOM = 100 * 10**6
BEGIN, END = "<!-- reproductions: made by scripts/accept.py -->", "<!-- end of reproductions -->"
HEAD = [
    "experiment",
    "figure",
    "published",
    "obtained",
    "tolerance",
    "verdict",
    "minutes",
    "on",
    "source",
    "weights",
]
#: What every result holds.
KEYS = {
    *("experiment", "published", "wanted", "obtained", "stderr", "tolerance", "verdict", "estimator"),
    *("source", "minutes", "steps", "date", "hardware", "versions", "commit", "command", "changed"),
}


@cache
def recipe(name: str) -> DictConfig:
    """The config of an experiment, composed once; not to be changed."""
    return compose_train([f"experiment={name}"])


def problem(result: dict[str, Any]) -> str | None:
    """Why a result cannot be kept, or None."""
    if missing := sorted(KEYS - result.keys()):
        return f"lacks {', '.join(missing)}"
    name = result["experiment"]
    if name not in options("experiment"):
        return f"there is no experiment {name!r}"
    targets = {target.metric: target for target in recipe(name).targets}
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
    if reason := problem_of_seeds(result):
        return reason
    if not isinstance(result["minutes"], int | float):
        return f"minutes: expected a number, found {result['minutes']!r}"
    if not isinstance(result["commit"], str):
        return "names no commit; measure it in a checkout"
    if result["commit"].endswith("-dirty"):
        return "the code differed from its commit; commit, and measure again"
    return None


def problem_of_seeds(result: dict[str, Any]) -> str | None:
    """Why a result is not that of the seeds which its experiment names, or None."""
    seeds = [str(seed) for seed in recipe(result["experiment"]).seeds or ()]
    found = result.get(SEEDS, {})
    if sorted(found) != sorted(seeds):
        there, wanted = (", ".join(names) or "none" for names in (found, seeds))
        return f"names the seeds {there}, the experiment's are {wanted}"
    if seeds:
        figures = list(found.values())
        if result["obtained"] != figures[middle(figures)]:
            return "its figures are not those of the seed in the middle"
    return None


def accept(file: Path) -> str | None:
    """Keep a result in results/, with the weights of its run, or say why not."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    try:
        if reason := problem(result):
            return reason
    except (AttributeError, KeyError, TypeError):
        return "is no result"
    run = Run(file.parent / Path(str(result.get(COUNTS, "."))).name)
    named = run.checkpoints / Path(str(result.get("checkpoint"))).name
    checkpoint = named if named.is_file() else run.last
    if not checkpoint.is_file():
        print(f"{file}: no checkpoint beside it, its weights are not kept")
        keep_alone(result)
        return None
    try:
        return with_weights(result, checkpoint)
    except GentrainError as error:
        return str(error)


def keep_alone(result: dict[str, Any]) -> None:
    """Keep a result without weights."""
    folder = RESULTS / result["experiment"]
    with exported.making(folder, replace=True) as temporary:
        write_text(temporary / exported.RESULT, json.dumps(result, indent=2) + "\n")


def with_weights(result: dict[str, Any], checkpoint: Path) -> str | None:
    """Keep a result and what is small enough of the weights in `checkpoint`, or say why not."""
    name = result["experiment"]
    folder = RESULTS / name
    loaded, config = opened(checkpoint, "float32")
    if loaded.step != result["steps"]:
        return f"{checkpoint} is of step {loaded.step}, the figures are of step {result['steps']}"
    # The images are the experiment's, though they may have lain as a folder: so is their licence.
    dataset = recipe(name).dataset
    result = {
        **result,
        "checkpoint": Run(checkpoint.parent.parent).step_file(loaded.step).name,
        "data": str(dataset._target_),
        **({} if dataset.license is None else {"license": str(dataset.license)}),
    }
    without = tuple(loaded.model.training_only)
    content = exported.packed(loaded.model, "float32", without)
    if len(content) <= MOST:
        export.make(loaded, folder, config, result, replace=True)
        return None
    smaller = len(exported.packed(loaded.model, "bf16", without))
    if MOST >= smaller > room(name):
        print(f"{name}: no room in {RESULTS.name}/ for {smaller / 1e6:.1f} MB more")
    elif smaller <= MOST:
        found = measured_in_bf16(result, checkpoint, data_of(loaded))
        turned = [m for m, now in found["verdict"].items() if now == "worse" != result["verdict"][m]]
        if not turned:
            loaded, config = opened(checkpoint, "bf16")
            export.make(loaded, folder, config, found, replace=True)
            return None
        print(f"{name}: in bf16 {', '.join(turned)} would miss what it reaches")
    keep_alone({**result, "weights": {"kept": False, **exported.about(content, "float32", without)}})
    return None


def room(name: str) -> int:
    """How many bytes results/ may still take, without what it has of an experiment."""
    files = [file for file in RESULTS.rglob("*") if file.is_file() and RESULTS / name not in file.parents]
    return ROOM - sum(file.stat().st_size for file in files)


def opened(checkpoint: Path, dtype: str) -> tuple[Loaded, Any]:
    """The model in `checkpoint`, seeded, and the settings of its export."""
    config = conform(ExportConfig, OmegaConf.create({"ckpt": str(checkpoint), "dtype": dtype}))
    return open_model(config), config


def data_of(loaded: Loaded) -> str | None:
    """Where the data of the run lay."""
    record = loaded.state.get("data")
    return record["root"] if record else None


def measured_in_bf16(result: dict[str, Any], checkpoint: Path, root: str | None) -> dict[str, Any]:
    """The result with the figures of the weights in bf16, measured from the file."""
    name = result["experiment"]
    config = compose_train([f"experiment={name}", *result["changed"]])
    if root is not None:
        config.dataset.root = root
    with tempfile.TemporaryDirectory(prefix="gentrain-") as scratch:
        place = Path(scratch) / name
        loaded, settings = opened(checkpoint, "bf16")
        export.make(loaded, place, settings)
        beside = folder_of(checkpoint.parent.parent)
        return {**result, **by_target(measured(config, name, place, beside)[1])}


def rows() -> list[list[str]]:
    """The table's rows: every experiment with targets, in order of name."""
    found = []
    for name in options("experiment"):
        targets = recipe(name).targets
        kept = RESULTS / name / exported.RESULT
        result = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else None
        for target in targets:
            figure = target.metric.partition(".")[2].replace("_", " ")
            wanted = (
                f"at most {target.at_most:g}"
                if target.at_most is not None
                else f"at least {target.at_least:g}"
            )
            published = "none" if target.published is None else f"{target.published:g}"
            if target.published is None or target.published not in (target.at_most, target.at_least):
                published += f"; {wanted} wanted"
            left, right = [f"`{name}`", figure, published], [f"{target.tolerance:g}"]
            if result is None or target.metric not in result["obtained"]:  # or a target that came later
                found.append([*left, "not yet run", *right, "", "", "", target.source, ""])
                continue
            error = result["stderr"][target.metric]
            obtained = (
                f"{result['obtained'][target.metric]:.4g}"
                if error is None
                else figures(result["obtained"][target.metric], error)
            )
            obtained += f" ({result['estimator'][target.metric]})"
            if SEEDS in result:
                obtained += f"; {of_each(result, target.metric)}"
            if result["changed"]:
                obtained += " with " + " ".join(f"`{change}`" for change in result["changed"])
            verdict = result["verdict"][target.metric]
            on = f"{result['hardware']}, {result['date']}"
            right += [verdict, f"{result['minutes']:g}", on, target.source, weights(result)]
            found.append([*left, obtained, *right])
    return found


def weights(result: dict[str, Any]) -> str:
    """Where the weights are: `results/vae_mnist`, 2.7 MB."""
    about = result.get("weights")
    if about is None or not about["kept"]:
        return "not kept"
    return f"`results/{result['experiment']}`, {about['bytes'] / 1e6:.1f} MB"


def figures(value: float, error: float) -> str:
    """A figure and its standard error, both to the error's second digit."""
    digits = 2 if error >= 0.1 else 3 if error >= 0.01 else 4 if error >= 0.001 else 5
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def table() -> str:
    """The table, in Markdown."""
    return markdown(HEAD, rows())


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(plain, cells)) + " |" for cells in lines)


def plain(cell: str) -> str:
    """A cell on one line, without what Markdown or HTML would make something of."""
    for character, shown in (("|", "\\|"), ("<", "&lt;"), (">", "&gt;")):
        cell = cell.replace(character, shown)
    return " ".join(cell.split())


def renewed(text: str) -> str:
    """A page with the table of now between its marks."""
    return between(text, BEGIN, END, table())


def between(text: str, begin: str, end: str, table: str) -> str:
    """A page with another table between two marks."""
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"accept: the page lacks {begin} or {end}")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"


def page() -> Path:
    """The page with the table."""
    for place in PAGES:
        if place.is_file() and BEGIN in place.read_text(encoding="utf-8"):
            return place
    raise SystemExit(f"accept: none of {', '.join(map(str, PAGES))} has {BEGIN}")


def run(keep: Callable[[Path], str | None], page: Callable[[], Path], renewed: Callable[[str], str]) -> int:
    """Keep the results that were named; remake the table: the exit status.

    Args:
        keep: keeps one, or says why not.
        page: that has the table.
        renewed: the page's text with the table of now.
    """
    failed = 0
    for argument in sys.argv[1:]:
        reason = keep(Path(argument))
        print(f"{argument}: " + (f"not kept: {reason}" if reason else "kept"))
        failed |= reason is not None
    try:
        place = page()
        with replacing(place) as temporary:
            write_text(temporary, renewed(place.read_text(encoding="utf-8")))
    except GentrainError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        return 1
    return failed


if __name__ == "__main__":
    sys.exit(run(accept, page, renewed))

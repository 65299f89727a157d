"""The report of one run, and of several beside one another."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gentrain.pages.charts import COLOURS, Curve, line_chart
from gentrain.pages.page import data_uri, rendered

#: {a figure's group: its heading}, in the order of the page; what is in none comes under "More".
GROUPS = {
    "loss": "Loss",
    "eval": "On held-out images",
    "check": "Checks of the model's own",
    "grad_norm": "Gradient norms",
    "lr": "Learning rates",
}
#: Of the clock and of the scaler: not drawn.
_LEFT_OUT = ("speed", "scaler")
#: Of groups whose figures are called by a turn alone: what they are.
_CALLED = {"grad_norm": "gradient norm", "lr": "learning rate"}
#: Figures whose curves are drawn for the beginning too.
_EARLY = "grad_norm"


class Mark(NamedTuple):
    """A value of a figure that means something: of the figure times `sign`, which is then called `title`."""

    value: float
    words: str
    title: str | None = None
    sign: int = 1


class Figure(NamedTuple):
    """One figure of an evaluation: its value with a standard error, of what, and what it means."""

    name: str
    value: float
    error: float | None
    of: str
    meaning: str


class Picture(NamedTuple):
    """A picture: its heading, what it shows, the PNG."""

    title: str
    words: str
    png: bytes


@dataclass(frozen=True)
class RunFacts:
    """What a page says of one run.

    Args:
        name: short.
        facts: {name: text}, in order.
        command: that trains it; None where it cannot be told.
        curves: {figure: points}.
        marks: {figure: the value that means something}.
        figures: of evaluations.
        frames: (step, PNG) of the samples over the steps.
        pictures: more of them.
        config: YAML.
        settings: {key: value} of what differs between runs that are compared, but for the seed.
        seed: of the run.
        notes: lines for the reader.
    """

    name: str
    facts: Mapping[str, str]
    command: str | None
    curves: Mapping[str, Curve]
    marks: Mapping[str, Mark]
    figures: Sequence[Figure]
    frames: Sequence[tuple[int, bytes]]
    pictures: Sequence[Picture]
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: Sequence[str] = ()


class Chart(NamedTuple):
    """A drawn chart: heading, SVG, and what it shows for who does not see it."""

    title: str
    svg: str
    words: str


def run_page(run: RunFacts, beginning: int) -> str:
    """The page of one run; `beginning` steps of a longer one are drawn by themselves."""
    return rendered(
        "report",
        title=run.name,
        run=run,
        groups=charts_of([run], beginning),
        frames=[(step, data_uri(png)) for step, png in run.frames],
        pictures=[(picture, data_uri(picture.png)) for picture in run.pictures],
    )


def charts_of(runs: Sequence[RunFacts], beginning: int) -> dict[str, list[Chart]]:
    """{heading: charts}: one for each figure, with the curves of all runs that have it over one another."""
    found: dict[str, list[Chart]] = {}
    keys = list(dict.fromkeys(key for run in runs for key in run.curves))
    early: list[Chart] = []
    for key in keys:
        group = key.partition("/")[0]
        if group in _LEFT_OUT or key.endswith("_stderr"):
            continue
        mark = next((run.marks[key] for run in runs if key in run.marks), None)
        curves = {run.name: run.curves[key] for run in runs if run.curves.get(key)}
        constant = len({value for curve in curves.values() for _, value in curve}) == 1
        if not curves or (group == "lr" and constant):  # which the configuration says
            continue
        found.setdefault(GROUPS.get(group, "More"), []).append(chart(key, curves, mark))
        first = {name: [p for p in curve if p[0] <= beginning] for name, curve in curves.items()}
        longer = any(curve[-1][0] > 2 * beginning for curve in curves.values())
        if longer and (group == _EARLY or mark) and all(len(curve) > 1 for curve in first.values()):
            early.append(chart(key, first, mark))
    order = [*GROUPS.values(), "More"]
    groups = {heading: found[heading] for heading in order if heading in found}
    if early:
        groups = {f"The first {beginning:,} steps": early, **groups}
    return groups


def chart(key: str, curves: Mapping[str, Curve], mark: Mark | None) -> Chart:
    """The chart of one figure."""
    group, _, rest = key.partition("/")
    words = [_CALLED[group]] if group in _CALLED else []
    words += [rest] if rest != "main" else []
    title = ", ".join(words or [rest]).replace("/", ", ").replace("_", " ")
    if mark is not None:
        title = mark.title or title
        curves = {name: [(step, mark.sign * value) for step, value in c] for name, c in curves.items()}
    svg = line_chart(curves, mark=None if mark is None else (mark.value, mark.words))
    ends = [
        f"{name + ': ' if len(curves) > 1 else ''}from {points[0][1]:.4g} at step {points[0][0]:,} "
        f"to {points[-1][1]:.4g} at step {points[-1][0]:,}"
        for name, points in curves.items()
    ]
    note = "" if mark is None else f"; the line is at {mark.value:.4g}, {mark.words}"
    return Chart(title, svg, "; ".join(ends) + note)


# Several runs


class Row(NamedTuple):
    """A row of the table: a run, or the mean of those that differ in their seed alone."""

    setting: str
    seed: str
    cells: Sequence[str]
    mean: bool


def comparison(runs: Sequence[RunFacts]) -> tuple[list[str], list[Row]]:
    """The columns and rows of the table: runs by setting and seed, and each setting's mean and deviation.

    The deviation is the sample's, n - 1 in its denominator; of a single run there is none.
    """
    names = list(dict.fromkeys(name for run in runs for name in measured(run)))
    groups: dict[str, list[RunFacts]] = {}
    for run in runs:
        groups.setdefault(setting_of(run), []).append(run)
    rows = []
    for setting, members in groups.items():
        values = {name: [measured(run)[name] for run in members if name in measured(run)] for name in names}
        for run in sorted(members, key=lambda run: run.seed):
            cells = [number(measured(run).get(name)) for name in names]
            rows.append(Row(setting, str(run.seed), cells, False))
        if len(members) > 1:
            cells = [
                f"{statistics.fmean(v):.4g} ± {statistics.stdev(v):.2g}" if len(v) > 1 else number(*v[:1])
                for v in values.values()
            ]
            rows.append(Row(setting, f"mean ± sd of {len(members)}", cells, True))
    return names, rows


def measured(run: RunFacts) -> dict[str, float]:
    """{what: value}: figures of evaluations, and the last of each curve that is no matter of course."""
    found = {f"{figure.name} ({figure.of})": figure.value for figure in run.figures}
    for key, points in run.curves.items():
        group = key.partition("/")[0]
        if group in ("eval", "check", "loss") and points and not key.endswith("_stderr"):
            mark = run.marks.get(key)
            name = key if mark is None or mark.title is None else mark.title
            found[f"{name}, last"] = points[-1][1] * (1 if mark is None else mark.sign)
    return found


def number(value: float | None = None) -> str:
    """In a cell; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def setting_of(run: RunFacts) -> str:
    """What tells the run from the others, in words."""
    return ", ".join(f"{key}={value}" for key, value in run.settings.items()) or "the same settings"


def table_csv(runs: Sequence[RunFacts]) -> str:
    """The runs as CSV, a row each, with every figure at full precision."""
    settings = list(dict.fromkeys(key for run in runs for key in run.settings))
    names = list(dict.fromkeys(name for run in runs for name in measured(run)))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["run", *settings, "seed", *names])
    for run in runs:
        own = measured(run)
        table.writerow(
            [run.name, *(run.settings.get(key, "") for key in settings), run.seed]
            + [repr(own[name]) if name in own else "" for name in names]
        )
    return file.getvalue()


def comparison_page(runs: Sequence[RunFacts], beginning: int, file: str) -> str:
    """The page of several runs; `file` is the name of the table beside it."""
    names, rows = comparison(runs)
    return rendered(
        "compare",
        title=f"{len(runs)} runs",
        runs=runs,
        colours=COLOURS,
        names=names,
        rows=rows,
        file=file,
        groups=charts_of(runs, beginning),
        pictures=[[(picture, data_uri(picture.png)) for picture in run.pictures] for run in runs],
    )

"""Curves as SVG that takes its colours from the page, so that it is right in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import count

#: (step, value) of a curve, in order.
Curve = Sequence[tuple[int, float]]

#: What stands in matplotlib's SVG for a colour of the page: a value that nothing else has.
_INK, _QUIET, _GRID, _MARK = "#010101", "#010102", "#010103", "#010104"
_COLOURS = {_INK: "var(--ink)", _QUIET: "var(--quiet)", _GRID: "var(--line)", _MARK: "var(--bad)"}
#: As many curves as are told apart by colour; those after them by their strokes too.
COLOURS = 8
_LINES = [f"#0102{number:02x}" for number in range(COLOURS)]
_COLOURS |= {colour: f"var(--c{number})" for number, colour in enumerate(_LINES)}
_STROKES = ("-", "--", ":", "-.")
#: Above this ratio of the largest to the smallest value an axis is logarithmic.
_DECADES = 50
#: Letters of a name in a legend at most, and inches that a row of it is high.
_SHORT, _ROW = 44, 0.19
_numbers = count()


def line_chart(
    curves: Mapping[str, Curve],
    *,
    ylabel: str = "",
    mark: tuple[float, str] | None = None,
    size: tuple[float, float] = (4.4, 2.9),
) -> str:
    """Curves over steps, with axes; an <svg> to stand in a page.

    Args:
        curves: {name: points}; several have a legend.
        ylabel: of the axis of values.
        mark: a value that means something and what it is called: a dashed line.
        size: inches, of 72 pixels each; a legend comes to the height.
    """
    # Half a second, which no other command is to wait.
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    own = f"gentrain{next(_numbers)}"
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": own,  # names within the picture are another's in no other
        "font.family": "sans-serif",
        "font.size": 9.0,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _QUIET,
        "xtick.color": _QUIET,
        "ytick.color": _QUIET,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "grid.color": _GRID,
        "axes.formatter.useoffset": False,
        "text.parse_math": False,  # a name may hold ${...}
    }
    names = [_short(name) for name in curves]
    beside = 2 if max(map(len, names), default=0) <= _SHORT // 2 else 1
    rows = -(-len(names) // beside) if len(names) > 1 else 0
    with mpl.rc_context(settings):
        figure = Figure(figsize=(size[0], size[1] + _ROW * rows), layout="constrained")
        axes = figure.add_subplot()
        for number, (name, points) in enumerate(zip(names, curves.values(), strict=True)):
            steps, values = [step for step, _ in points], [value for _, value in points]
            axes.plot(
                steps,
                values,
                label=name,
                color=_LINES[number % COLOURS],
                linestyle=_STROKES[number // COLOURS % len(_STROKES)],
                linewidth=1.4,
                marker="o" if len(points) < 8 else "",
                markersize=3,
            )
        shown = [value for points in curves.values() for _, value in points]
        if mark is not None:
            axes.axhline(mark[0], color=_MARK, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                mark[1], (1, mark[0]), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                textcoords="offset points", ha="right", color=_MARK,
            )  # fmt: skip
            shown.append(mark[0])
        if shown and min(shown) > 0 and max(shown) > _DECADES * min(shown):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.set_xlabel("step")
        axes.set_ylabel(ylabel)
        if rows:
            figure.legend(
                axes.lines[: len(names)], names, loc="outside lower center", ncols=beside, frameon=False
            )
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue(), own)


def _short(name: str) -> str:
    """`name`, cut in its middle where it is too long for a legend: both ends tell names apart."""
    half = _SHORT // 2
    return name if len(name) <= _SHORT else f"{name[: half - 1]}…{name[-half:]}"


def _inline(svg: str, own: str) -> str:
    """An SVG file as an element of a page: without head, size and names that nothing refers to."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    assert box is not None
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", rest))
    rest = re.sub(r' id="([^"]+)"', lambda m: f' id="{own}-{m[1]}"' if m[1] in used else "", rest)
    rest = re.sub(r"(url\(#|href=\"#)", rf"\1{own}-", rest)
    for colour, variable in _COLOURS.items():
        rest = rest.replace(colour, variable)
    rest = re.sub(r"\s*\n\s*", " ", rest)
    return f'<svg {box[0]} xmlns:xlink="http://www.w3.org/1999/xlink" aria-hidden="true">{rest}'

"""Plots of the gallery: curves of a training, latents on a plane."""

from __future__ import annotations

import io
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

#: {what a curve is called: its (step, value)}.
Series = dict[str, list[tuple[int, float]]]
#: Above this ratio of the largest to the smallest value an axis is logarithmic.
DECADE = 10
#: Dots to an inch of a plot, and how it looks.
DPI = 200
STYLE = {"font.size": 9, "axes.grid": True, "grid.color": "#e4e4e4", "axes.axisbelow": True}


def drawn(figure: Figure) -> Image.Image:
    """A plot as a picture."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    with Image.open(file) as picture:
        return picture.convert("RGB")


def scatter(z: np.ndarray, labels: np.ndarray, most: float = 3.5) -> Figure:
    """Points z [N, 2] within +-`most`, the second dimension upwards, coloured by label, with a legend."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.8), layout="constrained")
        axes = figure.add_subplot(aspect="equal", xlim=(-most, most), ylim=(-most, most))
        points = axes.scatter(z[:, 0], z[:, 1], c=labels, cmap="tab10", s=1, vmin=-0.5, vmax=9.5)
        figure.legend(
            *points.legend_elements(num=sorted(set(labels.tolist())), fmt="{x:.0f}"), loc="outside right"
        )
    return figure


def curves_of(place: Path, keys: dict[str, str]) -> Series:
    """The curves of metrics.jsonl; what was not finite is left out."""
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        name: [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        for name, key in keys.items()
    }


def charts(series: Series) -> dict[str, Image.Image]:
    """The curves of a whole run; where their first tenth dwarfs the rest, the rest once more by itself."""
    parts = {"training": drawn(chart(series))}
    late = {name: curve[len(curve) // 10 :] for name, curve in series.items()}
    if spread(late) < spread(series) / 2:
        begin = min(curve[0][0] for curve in late.values() if curve)
        parts[f"training from step {begin:,}"] = drawn(chart(late))
    return parts


def spread(series: Series) -> float:
    """The largest value less the smallest."""
    values = [value for curve in series.values() for _, value in curve]
    return max(values) - min(values)


def chart(series: Series) -> Figure:
    """Curves by step, every point of them within the frame."""
    values = [value for curve in series.values() for _, value in curve]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4, 2.8), layout="constrained")
        axes = figure.add_subplot(xlabel="step")
        for name, curve in series.items():
            steps, heights = zip(*curve, strict=True)
            axes.plot(steps, heights, label=name, linewidth=1.5, marker="o" if len(curve) == 1 else "")
        if min(values) > 0 and max(values) > DECADE * min(values):
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend(frameon=False)
        else:
            axes.set_ylabel(next(iter(series)))
    return figure

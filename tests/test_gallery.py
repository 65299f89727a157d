"""The curves of the gallery: what was measured, and nothing else, on axes that can be read."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from running import TESTS

#: The first curve of a chart.
INK = (31, 80, 160)


@pytest.fixture(scope="module")
def gallery() -> ModuleType:
    """scripts/gallery.py."""
    sys.path.insert(0, str(TESTS.parent / "scripts"))
    try:
        import gallery as module
    finally:
        sys.path.pop(0)
    return module


#: Falls to a sixth within a tenth of the steps.
FALLING = [(50 * i, 88 + 600 * math.exp(-i / 4)) for i in range(1, 161)]


def inked(gallery: ModuleType, series: dict[str, list[tuple[int, float]]]) -> np.ndarray:
    """bool [height, width]: where a chart has the first curve's colour."""
    return (np.array(gallery.chart(series)) == INK).all(-1)


def test_a_steep_beginning_is_drawn_as_it_was_measured(gallery: ModuleType) -> None:
    """No plateau: the curve goes down from its first point on, a pixel or more in every column."""
    ink = inked(gallery, {"nats": FALLING})
    columns = np.flatnonzero(ink.any(0))
    tops = [int(np.flatnonzero(ink[:, x])[0]) for x in columns[1 : len(columns) // 20]]
    assert len(tops) > 5
    assert tops == sorted(set(tops)), "further down in every column"
    heights = np.flatnonzero(ink.any(1))
    first, last = FALLING[0][1], FALLING[-1][1]
    axis = gallery.Axis.over([first, last])
    frame = (heights[-1] - heights[0]) / (axis.share(first) - axis.share(last))
    middle = FALLING[4]  # to the pixel where its value belongs
    x = columns[0] + (columns[-1] - columns[0]) * (middle[0] - 50) / (8000 - 50)
    y = heights[0] + frame * (axis.share(first) - axis.share(middle[1]))
    assert ink[round(y) - 2 : round(y) + 3, round(x) - 1 : round(x) + 2].any()


def test_the_rest_is_shown_by_itself_where_the_beginning_dwarfs_it(gallery: ModuleType) -> None:
    assert list(gallery.charts({"nats": FALLING})) == ["training", "training from step 850"]
    even = [(step, 1 + step / 100) for step in range(1, 101)]
    assert list(gallery.charts({"D(x)": even, "D(G(z))": even})) == ["training"]


@pytest.mark.parametrize("values", [(87.4, 563.2), (0.0, 1.0), (-3.0, 250_000.0), (5.0, 5.0), (0.0, 0.0)])
def test_an_axis_holds_all_values_between_round_ticks(
    gallery: ModuleType, values: tuple[float, float]
) -> None:
    axis = gallery.Axis.over(values)
    assert not axis.log
    assert all(0 <= axis.share(value) <= 1 for value in values)
    at = list(axis.ticks())
    assert 3 <= len(at) <= 9
    assert (axis.low, axis.high) == (pytest.approx(at[0]), pytest.approx(at[-1]))
    assert np.allclose(np.diff(at), at[1] - at[0])


@pytest.mark.parametrize("values", [(1.0, 11.0), (1063.0, 31_000.0), (1e-6, 1e6), (1e-300, 1e300)])
def test_a_wide_range_is_logarithmic(gallery: ModuleType, values: tuple[float, float]) -> None:
    axis = gallery.Axis.over(values)
    assert axis.log
    assert (axis.share(values[0]), axis.share(values[1])) == (0, 1)
    at = list(axis.ticks())
    assert 2 <= len(at) <= 7
    assert all(-1e-6 <= axis.share(value) <= 1 + 1e-6 for value in at)


def test_what_was_not_finite_leaves_a_gap(gallery: ModuleType, tmp_path: Path) -> None:
    lines = [
        {"step": 10, "loss/total": 3.0},
        {"step": 20, "loss/total": None},
        {"step": 20, "eval/nats": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = gallery.curves_of(tmp_path, {"nats": "loss/total"})
    assert found == {"nats": [(10, 3.0)]}
    assert inked(gallery, found).any(), "a single point shows"

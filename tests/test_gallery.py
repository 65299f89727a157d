"""The curves of the gallery: what was measured, and nothing else, on axes that can be read."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from running import TESTS


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """scripts/, from which is imported."""
    sys.path.insert(0, str(TESTS.parent / "scripts"))
    yield
    sys.path.pop(0)


@pytest.fixture(scope="module")
def gallery(scripts: None) -> ModuleType:
    """scripts/gallery.py."""
    return importlib.import_module("gallery")


@pytest.fixture(scope="module")
def plots(scripts: None) -> ModuleType:
    """scripts/gallery_plots.py."""
    return importlib.import_module("gallery_plots")


def test_every_picture_is_shown_and_has_what_it_is_drawn_from(gallery: ModuleType) -> None:
    root = TESTS.parent
    page = (root / "docs" / "reproductions.md").read_text(encoding="utf-8")
    for panel in gallery.PANELS:
        assert f"(../results/gallery/{panel.name}.png)" in page
        assert (root / "results" / "gallery" / f"{panel.name}.png").is_file()
        if panel.kept:
            assert panel.train == [f"experiment={panel.name}"]
            assert (root / "results" / panel.name / "model.safetensors").is_file()


def test_a_panel_is_drawn_from_kept_weights(
    gallery: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of digits, which come along: the same picture as is kept, but for roundings of another processor."""
    monkeypatch.setattr(gallery, "PLACE", tmp_path)
    (panel,) = [panel for panel in gallery.PANELS if panel.name == "realnvp_digits"]
    gallery.draw_kept(panel)
    kept = TESTS.parent / "results" / "gallery" / "realnvp_digits.png"
    with Image.open(tmp_path / "realnvp_digits.png") as drawn, Image.open(kept) as there:
        assert drawn.size == there.size
        apart = np.abs(np.asarray(drawn, float) - np.asarray(there, float))
    assert np.quantile(apart, 0.9) <= 16


#: Falls to a sixth within a tenth of the steps.
FALLING = [(50 * i, 88 + 600 * math.exp(-i / 4)) for i in range(1, 161)]


def test_a_steep_beginning_is_drawn_as_it_was_measured(plots: ModuleType) -> None:
    """Every point, and within the frame."""
    figure = plots.chart({"nats": FALLING, "other": FALLING[:3]})
    (axes,) = figure.axes
    assert [tuple(point) for point in axes.lines[0].get_xydata()] == FALLING
    low, high = axes.get_ylim()
    assert low < FALLING[-1][1] < FALLING[0][1] < high
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["nats", "other"]


def test_the_rest_is_shown_by_itself_where_the_beginning_dwarfs_it(plots: ModuleType) -> None:
    assert list(plots.charts({"nats": FALLING})) == ["training", "training from step 850"]
    even = [(step, 1 + step / 100) for step in range(1, 101)]
    assert list(plots.charts({"D(x)": even, "D(G(z))": even})) == ["training"]


@pytest.mark.parametrize(
    ("values", "scale"), [((1.0, 11.0), "log"), ((87.4, 563.2), "linear"), ((-1.0, 50.0), "linear")]
)
def test_a_wide_range_is_logarithmic(plots: ModuleType, values: tuple[float, float], scale: str) -> None:
    (axes,) = plots.chart({"loss": list(enumerate(values))}).axes
    assert axes.get_yscale() == scale
    assert axes.get_ylabel() == "loss"


def test_points_are_coloured_by_label(plots: ModuleType) -> None:
    z, labels = np.array([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]), np.array([3, 7, 3])
    figure = plots.scatter(z, labels)
    (points,) = figure.axes[0].collections
    assert np.array_equal(points.get_offsets(), z)
    picture = plots.drawn(figure)
    assert picture.size == (680, 560)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["3", "7"]


def test_what_was_not_finite_leaves_a_gap(plots: ModuleType, tmp_path: Path) -> None:
    lines = [
        {"step": 10, "loss/total": 3.0},
        {"step": 20, "loss/total": None},
        {"step": 20, "eval/nats": 2.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = plots.curves_of(tmp_path, {"nats": "loss/total"})
    assert found == {"nats": [(10, 3.0)]}
    (axes,) = plots.chart(found).axes
    assert axes.lines[0].get_marker() == "o", "a single point shows"


def test_a_picture_of_greys_is_kept_as_such(gallery: ModuleType, tmp_path: Path) -> None:
    """And shows the same; one with colours keeps them."""
    sheet = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 12)).convert("RGB")
    coloured = sheet.copy()
    coloured.putpixel((3, 2), (9, 9, 10))
    for picture, mode in ((sheet, "L"), (coloured, "RGB")):
        gallery.save(picture, tmp_path / "kept.png")
        with Image.open(tmp_path / "kept.png") as kept:
            assert kept.mode == mode
            assert kept.convert("RGB").tobytes() == picture.tobytes()

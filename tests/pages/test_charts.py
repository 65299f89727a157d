"""Curves as SVG: what they show, and that they take their colours from the page."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from gentrain.pages.charts import line_chart

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" ', 1))


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in parsed(svg).iter(f"{SVG}text")]


def heights(svg: str, colour: str) -> list[float]:
    """The y of a curve's points, as they are drawn: downwards."""
    paths = re.findall(rf'<path d="([^"]+)"[^>]*style="[^"]*stroke: var\(--{colour}\)', svg)
    path = max(paths, key=len)  # the other is in the legend
    return [float(y) for y in re.findall(r"[ML] [\d.-]+ ([\d.-]+)", path)]


def test_what_a_chart_shows() -> None:
    svg = line_chart({"a": [(i, float(i)) for i in range(20)], "b": [(i, 19.0 - i) for i in range(20)]})
    a, b = heights(svg, "c0"), heights(svg, "c1")
    assert len(a) == len(b) == 20
    assert a == sorted(a, reverse=True), "more is higher"
    assert b == pytest.approx(a[::-1])
    assert {"step", "a", "b"} <= set(texts(svg)), "what the axis is, and a legend"
    numbers = [text for text in texts(svg) if text not in ("step", "a", "b")]
    assert len(numbers) > 8
    assert all(float(number) <= 20 for number in numbers)
    assert not re.findall(r"#[0-9a-f]{6}", re.sub(r'(href="|url\()#[\w-]+', "", svg)), "no colour of its own"


def test_a_value_that_means_something() -> None:
    """It is drawn where it belongs, also where no curve comes near."""
    svg = line_chart({"a": [(i, -0.1 * i) for i in range(9)]}, mark=(-1.386, "-log 4"))
    assert "-log 4" in texts(svg)
    (line,) = heights(svg, "bad")[:1]
    assert line > max(heights(svg, "c0")), "below all of the curve"


def test_decades_are_drawn_as_decades() -> None:
    even = heights(line_chart({"a": [(i, 10.0**i) for i in range(9)]}), "c0")
    gaps = [a - b for a, b in itertools.pairwise(even)]
    assert gaps == pytest.approx([gaps[0]] * 8, abs=1e-3)
    assert "1e+06" in texts(line_chart({"a": [(i, 10.0**i) for i in range(9)]}))


def test_many_runs_with_long_names() -> None:
    """The legend makes the picture higher; the curves keep their room. A name is no formula."""
    long = "outputs/of/${model}/and_${dataset}/with_a_name_that_is_too_long_"
    tall = []
    for names in (["a"], [f"{long}{i:02}" for i in range(20)]):
        svg = line_chart({name: [(i, i / 9) for i in range(10)] for name in names})
        drawn = heights(svg, "c0")
        tall.append(max(drawn) - min(drawn))
    assert tall[1] > 0.9 * tall[0]
    written = [text for text in texts(svg) if text.startswith("outputs/of/${model}")]
    assert len(set(written)) == 20
    assert max(map(len, written)) == 44


def test_two_charts_share_no_name() -> None:
    charts = [line_chart({"a": [(0, 1.0), (1, 2.0)]}) for _ in range(2)]
    first, second = (set(re.findall(r' id="([^"]+)"', svg)) for svg in charts)
    assert first
    assert not first & second
    for svg, names in zip(charts, (first, second), strict=True):
        assert set(re.findall(r"(?:url\(#|href=\"#)([\w.-]+)", svg)) <= names


@pytest.mark.parametrize("points", [[(5, 1.0)], [(5, 0.0)], [(1, 3.0), (2, 3.0)]])
def test_few_points(points: list[tuple[int, float]]) -> None:
    assert "step" in texts(line_chart({"a": points}))

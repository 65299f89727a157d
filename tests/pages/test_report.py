"""The pages of runs: their tables, and in a real browser."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import fetched, keyed, opened, troubles

from gentrain.pages.page import sheet
from gentrain.pages.report import (
    Figure,
    Mark,
    Picture,
    RunFacts,
    charts_of,
    comparison,
    comparison_page,
    run_page,
    table_csv,
)


def png(level: int) -> bytes:
    return sheet([torch.full((1, 8, 8), level, dtype=torch.uint8)])[0]


def run(name: str = "m <i>on</i> d", seed: int = 0, nats: float = 80.0, **changed: Any) -> RunFacts:
    steps = range(50, 2001, 50)
    facts: dict[str, Any] = {
        "facts": {"model": "m", "commit": "a" * 40},
        "command": "gentrain train model=m dataset=d",
        "curves": {
            "loss/total": [(step, 100 / step) for step in steps],
            "grad_norm/main": [(step, float(step)) for step in steps],
            "lr/main": [(step, 1e-3) for step in steps],
            "speed/seconds": [(step, 1.0) for step in steps],
            "eval/nats": [(1000, nats), (2000, nats)],
            "eval/nats_stderr": [(1000, 1.0), (2000, 1.0)],
        },
        "marks": {},
        "figures": [Figure("nats", nats, 0.5, "d test", "lower is better")],
        "frames": [(step, png(step // 20)) for step in (500, 1000, 2000)],
        "pictures": [Picture("Reconstructions", "rows", png(9))],
        "config": "seed: 0\n",
    }
    return RunFacts(name=name, seed=seed, **{**facts, **changed})


def test_which_curves_are_drawn() -> None:
    groups = charts_of([run()], beginning=500)
    titles = {heading: [chart.title for chart in charts] for heading, charts in groups.items()}
    assert titles == {
        "The first 500 steps": ["gradient norm"],
        "Loss": ["total"],
        "On held-out images": ["nats"],
        "Gradient norms": ["gradient norm"],
    }
    assert "from 2 at step 50 to 0.05 at step 2,000" in groups["Loss"][0].words
    assert "to 500 at step 500" in groups["The first 500 steps"][0].words
    assert "The first 1,500 steps" not in charts_of([run()], beginning=1500)


def test_a_figure_that_is_called_otherwise() -> None:
    """Times its sign, beside the value that means something; at the beginning too."""
    marks = {"loss/total": Mark(-math.log(4), "-log 4", "value of the game", -1)}
    groups = charts_of([run(marks=marks)], beginning=500)
    (chart,) = groups["Loss"]
    assert chart.title == "value of the game"
    assert "to -0.05 at step 2,000; the line is at -1.386, -log 4" in chart.words
    assert [c.title for c in groups["The first 500 steps"]] == ["value of the game", "gradient norm"]


def test_means_over_seeds() -> None:
    runs = [
        run("a", 1, 81.0, settings={"lr": "1"}),
        run("b", 0, 79.0, settings={"lr": "1"}),
        run("c", 0, 90.0, settings={"lr": "2"}),
    ]
    names, rows = comparison(runs)
    column = names.index("nats (d test)")
    assert [(row.setting, row.seed, row.cells[column], row.mean) for row in rows] == [
        ("lr=1", "0", "79", False),
        ("lr=1", "1", "81", False),
        ("lr=1", "mean ± sd of 2", "80 ± 1.4", True),
        ("lr=2", "0", "90", False),
    ]
    table = list(csv.DictReader(io.StringIO(table_csv(runs))))
    assert [(row["run"], row["lr"], row["seed"], row["nats (d test)"]) for row in table] == [
        ("a", "1", "1", "81.0"),
        ("b", "1", "0", "79.0"),
        ("c", "2", "0", "90.0"),
    ]
    assert table[0]["loss/total, last"] == repr(100 / 2000)


def test_pages_fetch_nothing() -> None:
    assert fetched(run_page(run(), 500)) == []
    assert fetched(comparison_page([run("a"), run("b")], 500, "report.csv")) == []
    assert fetched('<img src="https://a.b/c.png">') != [], "the search finds what there is"


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_one_run_in_a_browser(browser: Any, tmp_path: Path, width: int, dark: bool) -> None:
    from selenium.webdriver.common.keys import Keys

    page = tmp_path / "report.html"
    page.write_text(run_page(run(), 500))
    opened(browser, page, width, dark)
    assert troubles(browser) == []
    assert browser.find_element("css selector", "h1").text == "m <i>on</i> d", "what is shown is not markup"
    slider, frame = browser.find_element("id", "step"), browser.find_element("id", "frame")
    last = frame.get_attribute("src")
    keyed(browser, slider, Keys.ARROW_LEFT)
    assert browser.find_element("id", "said").text == "step 1,000"
    assert slider.get_attribute("aria-valuetext") == "step 1,000"
    assert frame.get_attribute("src") != last
    assert frame.get_attribute("alt") == "Samples at step 1,000"
    assert all(browser.execute_script("return [...document.images].map(i => i.naturalWidth > 0)"))
    drawn = browser.execute_script(
        "return getComputedStyle(document.querySelector('svg path[style*=\"--c0\"]')).stroke"
    )
    assert drawn == ("rgb(138, 184, 240)" if dark else "rgb(31, 95, 168)")


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_several_runs_in_a_browser(browser: Any, tmp_path: Path, width: int, dark: bool) -> None:
    page = tmp_path / "report.html"
    runs = [run("a", settings={"lr": "1"}), run("b", seed=1, settings={"lr": "1"})]
    page.write_text(comparison_page([*runs, replace(run("c"), pictures=())], 500, "report.csv"))
    opened(browser, page, width, dark)
    assert troubles(browser) == []
    assert [e.text for e in browser.find_elements("css selector", "#side + p ~ .side figcaption")] == [
        "a",
        "b",
    ]
    assert len(browser.find_elements("css selector", "tbody tr.mean")) == 1

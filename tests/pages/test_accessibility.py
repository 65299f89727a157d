"""Every kind of page is held against axe-core in a real browser: wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import contrasts, opened, troubles, violations
from running import quietly_in

from gentrain.cli import main
from gentrain.pages.page import sheet
from gentrain.pages.quiz import Nearest, Pair, Quiz, quiz_page
from gentrain.pages.report import Figure, Mark, Picture, RunFacts, comparison_page, run_page
from gentrain.pages.taxonomy import Leaf, taxonomy_page

#: Of a model that takes labels; the smallest that has every control but codes.
TRAIN = ["train", "model=cgan", "model.channels=4", "dataset=digits", "train.steps=2", "train.batch_size=16"]


def png(level: int) -> bytes:
    return sheet([torch.full((1, 8, 8), level, dtype=torch.uint8)])[0]


def quiz() -> str:
    """Two for practice, two that count; each answer has a card with the nearest training image."""
    fake, real = (torch.full((1, 4, 4), level, dtype=torch.uint8) for level in (0, 255))
    pairs = [Pair(fake, real, (Nearest(fake, 0.5), None))] * 4
    return quiz_page(Quiz(pairs, 2, "a model", "test images", False, "pairs", "fake", None, 5, ("a note",)))


def run(name: str, seed: int = 0) -> RunFacts:
    """With all that a page of a run may have."""
    curves = {
        name: [(step, 100 / step) for step in range(50, 2001, 50)] for name in ("loss/total", "lr/main")
    }
    return RunFacts(
        name=name,
        facts={"model": "m", "commit": "a" * 40},
        command="gentrain train model=m dataset=d",
        curves=curves,
        marks={"loss/total": Mark(2.0, "the optimum")},
        figures=[Figure("nats", 80.0 + seed, 0.5, "d test", "lower is better")],
        frames=[(step, png(step // 20)) for step in (1000, 2000)],
        pictures=[Picture("Reconstructions", "rows", png(9))],
        config="seed: 0\n",
        settings={"lr": "1"},
        seed=seed,
        notes=["a note"],
    )


def taxonomy() -> str:
    """A branch of the same name under two others, a leaf without pictures."""
    leaves = [
        Leaf(name, (*above, "Markov chain"), "p(x)", "It is so. It costs.", "A 2016", "https://a.b", "go",
             {"training": "20 s"}, "samples", png(9), png(99))
        for name, above in (("rbm", ("explicit", "approximate")), ("dae", ("implicit", "direct")))
    ]  # fmt: skip
    bare = Leaf(
        "gan", ("no density", "none"), "p", "It is. It was.", "B 2014", "https://c.d", trouble="untrained"
    )
    return taxonomy_page([*leaves, bare], "digits", "../docs/models.md", "today")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one page of each kind."""
    place = tmp_path_factory.mktemp("pages")
    with quietly_in(place):
        assert main([*TRAIN, "train.sample_count=4", "run_dir=run"]) == 0
        assert main(["explore", "ckpt=run", "out=explore.html"]) == 0
        assert main(["explore", "ckpt=run", "most=0", "points=3", "out=grid.html"]) == 0
    made = {"quiz": quiz(), "report": run_page(run("one"), 500), "taxonomy": taxonomy()}
    made["compare"] = comparison_page([run("one"), run("two", 1)], 500, "compare.csv")
    for name, page in made.items():
        (place / f"{name}.html").write_text(page, encoding="utf-8")
    return place


def click(browser: Any, place: str) -> Callable[[], None]:
    return lambda: browser.find_element("css selector", place).click()


def steps_of(name: str, browser: Any) -> list[Callable[[], None]]:
    """What a user does on a page, which changes what is to be seen."""
    if name not in ("pairs", "single"):
        return []
    choice = "#choose-0" if name == "pairs" else "#say-fake"

    def begin() -> None:
        click(browser, f"input[value={name}]")()
        click(browser, "button.main")()

    def to_the_end() -> None:
        for place in ("#next", choice, "#next", choice, choice):
            click(browser, place)()

    return [begin, click(browser, choice), to_the_end]


@pytest.mark.parametrize("name", ["pairs", "single", "report", "compare", "explore", "grid", "taxonomy"])
def test_axe_finds_nothing(browser: Any, pages: Path, name: str) -> None:
    page = pages / f"{'quiz' if name in ('pairs', 'single') else name}.html"
    for width, dark in ((1280, False), (1280, True), (390, False), (390, True)):
        opened(browser, page, width, dark)
        browser.execute_script("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        assert violations(browser) + troubles(browser) == [], f"{width} pixels, dark={dark}"
        if dark == (width < 500):  # what comes later has each width and each scheme once
            for step in steps_of(name, browser):
                step()
                assert violations(browser) + troubles(browser) == [], f"{width} pixels, dark={dark}"


def test_axe_finds_what_there_is(browser: Any, pages: Path) -> None:
    """A label that is lost, and a text too faint."""
    opened(browser, pages / "explore.html")
    browser.execute_script(
        "document.querySelector('label[for=first]').remove();"
        "document.getElementById('status').style.color = '#999';"
    )
    found = violations(browser)
    assert [line.partition(",")[0] for line in found] == ["serious: color-contrast", "critical: label"]


@pytest.mark.parametrize("name", ["pairs", "single", "report", "compare", "explore", "grid", "taxonomy"])
def test_text_in_svg_stands_out(browser: Any, pages: Path, name: str) -> None:
    """In light and in dark, of every state of a page; WCAG 1.4.3 wants 4.5 of text of this size."""
    page = pages / f"{'quiz' if name in ('pairs', 'single') else name}.html"
    for dark in (False, True):
        opened(browser, page, dark=dark)
        browser.execute_script("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
        seen = contrasts(browser)
        for step in steps_of(name, browser):
            step()
            seen += contrasts(browser)
        assert bool(seen) == (name in ("pairs", "single", "report", "compare")), "texts there are"
        assert [f"{text}: {ratio:.2f}, dark={dark}" for text, ratio in seen if ratio < 4.5] == []


def test_the_contrast_of_text_in_svg_is_computed(browser: Any, tmp_path: Path) -> None:
    """By hand: #767676 on white is 4.54; black that is half clear on white is #808080, 3.95."""
    page = tmp_path / "page.html"
    page.write_text(
        """<!doctype html><html lang="en"><title>t</title><style>
        body { background: #fff } svg { width: 400px } .card { background: #000 }
        @media (prefers-color-scheme: dark) { body { background: #000 } }</style>
        <svg viewBox="0 0 400 200">
        <rect x="0" y="100" width="400" height="50" fill="#000"/>
        <rect x="0" y="150" width="400" height="50" fill="#000" fill-opacity="0.5"/>
        <path d="M0 0 H400" stroke="#000" fill="none"/>
        <text x="9" y="30">black</text><text x="9" y="50" fill="#767676">grey</text>
        <text x="9" y="70" opacity="0.5">half</text><text x="9" y="130" fill="#fff">boxed</text>
        <text x="9" y="180" fill="#fff">clear</text><text x="9" y="90" visibility="hidden">unseen</text>
        <rect x="0" y="0" width="9" height="9" fill="#f00"/></svg>
        <div class="card"><svg viewBox="0 0 400 50"><text x="9" y="30" fill="#fff">card</text></svg></div>"""
    )
    opened(browser, page)
    expected = {"black": 21.0, "grey": 4.54, "half": 3.95, "boxed": 21.0, "clear": 3.95, "card": 21.0}
    assert dict(contrasts(browser)) == pytest.approx(expected, abs=0.06)
    opened(browser, page, dark=True)
    assert dict(contrasts(browser))["black"] == pytest.approx(1.0)

"""The quiz in a real browser: by keys and by mouse, its score, its answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import keyed, opened, troubles

from gentrain.metrics.proportion import wilson
from gentrain.pages.quiz import Nearest, Pair, Quiz, quiz_page, read_answers


def quiz(**changed: Any) -> Quiz:
    """Fakes are black, real pictures white, the nearest training images grey; 2 for practice, 6 count."""
    black, white, grey = (torch.full((1, 4, 4), value, dtype=torch.uint8) for value in (0, 255, 99))
    pairs = [Pair(black, white, (Nearest(grey, 0.5), None))] * 8
    settings = {"practice": 2, "first": "<b>model</b>", "second": "test images", "versus": False}
    settings |= {"show": "pairs", "question": "fake", "seconds": None, "seed": 5}
    return Quiz(pairs, **{**settings, **changed})


def press(browser: Any, key: str) -> None:
    keyed(browser, browser.switch_to.active_element, key)


def results(browser: Any) -> str:
    """What the download holds."""
    return browser.execute_async_script(
        "fetch(document.getElementById('download').href).then(r => r.text()).then(arguments[0])"
    )


def seen(browser: Any, canvas: str) -> int:
    """The grey level in the middle of a canvas; -1 where it is covered."""
    level, alpha = browser.execute_script(
        "const copy = new OffscreenCanvas(1, 1).getContext('2d');"
        f"copy.drawImage(document.querySelector('{canvas}'), -2, -2);"
        "const d = copy.getImageData(0, 0, 1, 1).data; return [d[0], d[3]];"
    )
    return level if alpha else -1


@pytest.mark.parametrize("question", ["fake", "real"])
def test_by_keys_alone(browser: Any, tmp_path: Path, question: str) -> None:
    """One answer of six is wrong; practice says what was right, and does not count."""
    from selenium.webdriver.common.keys import Keys

    page = tmp_path / "quiz.html"
    page.write_text(quiz_page(quiz(question=question)))
    opened(browser, page)
    assert troubles(browser) == []
    keyed(browser, browser.find_element("css selector", "button.main"), Keys.ENTER)
    for i in range(8):
        assert browser.switch_to.active_element.get_attribute("id") == "ask-title", "what is read aloud"
        assert f"which is {question}?" in browser.find_element("id", "ask-title").text
        levels = [seen(browser, f"#choose-{side} canvas") for side in (0, 1)]
        assert sorted(levels) == [0, 255]
        wanted = levels.index(0 if question == "fake" else 255)
        press(browser, "ab"[wanted if i != 4 else 1 - wanted])
        if i < 2:
            assert browser.find_element("id", "said").text.startswith("Right:")
            assert troubles(browser) == []
            press(browser, Keys.ENTER)
    low, high = wilson(5, 6)
    assert browser.find_element("id", "score").text == "5 of 6 right"
    verdict = browser.find_element("id", "verdict").text
    assert f"from {100 * low:.0f} % to {100 * high:.0f} %" in verdict
    assert "do not show that you can tell" in verdict
    assert "<b>model</b>" in browser.find_element("id", "of").text, "what is shown is not markup"
    assert troubles(browser) == []
    answers = read_answers(results(browser), "mine")
    assert [answers.right[i] for i in range(6)] == [True, True, False, True, True, True]
    assert browser.find_element("id", "download").get_attribute("download").endswith(".json")
    cards = browser.find_elements("css selector", "#answers li")
    assert len(cards) == 6
    assert "127.5 grey levels" in cards[0].text
    assert seen(browser, "#answers li:first-child div > div:nth-child(3) canvas") == 99


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, True), (390, False)])
def test_by_mouse_with_single_pictures(browser: Any, tmp_path: Path, width: int, dark: bool) -> None:
    page = tmp_path / "quiz.html"
    page.write_text(quiz_page(quiz(show="single", practice=0)))
    opened(browser, page, width, dark)
    assert not browser.find_element("id", "which").is_displayed(), "of one picture one asks what it is"
    browser.find_element("css selector", "button.main").click()
    for _ in range(8):
        assert troubles(browser) == []
        fake = seen(browser, "#alone") == 0
        browser.find_element("id", "say-fake" if fake else "say-real").click()
    assert browser.find_element("id", "score").text == "8 of 8 right"
    assert "you can tell these fakes" in browser.find_element("id", "verdict").text
    assert troubles(browser) == []
    kept = json.loads(results(browser))
    assert (kept["shown"], kept["n"], kept["right"]) == ("single", 8, 8)


def test_pictures_are_covered_in_time(browser: Any, tmp_path: Path) -> None:
    """The question stays, and is answered whenever one likes."""
    from selenium.webdriver.support.wait import WebDriverWait

    page = tmp_path / "quiz.html"
    page.write_text(quiz_page(quiz(seconds=0.5)))
    opened(browser, page)
    browser.find_element("css selector", "button.main").click()
    WebDriverWait(browser, 60).until(lambda _: seen(browser, "#choose-0 canvas") == -1)
    press(browser, "b")
    assert browser.find_element("id", "said").text
    assert seen(browser, "#choose-0 canvas") in (0, 255), "what was right is shown again"


def test_of_two_models_one_is_preferred(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "quiz.html"
    long = "outputs/vae-mnist/2026-01-31_12-00-00_of_an_experiment_with_a_long_name"
    near = Nearest(torch.zeros(1, 4, 4, dtype=torch.uint8), 0.1)
    two = quiz(versus=True, practice=0, second=long, question="real")
    page.write_text(quiz_page(replace(two, pairs=[replace(p, nearest=(near, near)) for p in two.pairs])))
    opened(browser, page, 390)
    browser.find_element("css selector", "button.main").click()
    for _ in range(8):
        press(browser, "ab"[0 if seen(browser, "#choose-0 canvas") == 255 else 1])
    assert browser.find_element("id", "score").text == "0 of 8 for <b>model</b>"
    assert f"you prefer {long} to <b>model</b>" in browser.find_element("id", "verdict").text
    assert troubles(browser) == []

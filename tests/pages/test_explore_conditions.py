"""What a model is given, in the explorer: shares, boxes to tick, captions and their mixtures."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import keyed, troubles, violations
from exploring import explored, held_against_the_command_and_the_address, seen, typed
from running import Ended


def test_shares_of_attributes(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path]
) -> None:
    first = explored(gentrain, browser, runs("cgan/attributes"), 390)
    browser.execute_script(
        "for (const [id, value] of [['in-given-1', .6], ['in-given-5', 1]]) {"
        "const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); }"
    )
    assert not np.array_equal(seen(browser), first)
    assert violations(browser) + troubles(browser) == []
    assert "mixture=[1:0.6,5:1]" in typed(browser)
    held_against_the_command_and_the_address(gentrain, browser)
    assert browser.find_element("id", "in-given-1").get_attribute("value") == "0.6"
    browser.get("about:blank")
    browser.get(Path("explore.html").resolve().as_uri() + "#y=7,-3,x")
    assert "mixture=[0:1]" in typed(browser), "no share above 1 or below 0"


def test_attributes_that_are_there_or_not(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path]
) -> None:
    first = explored(gentrain, browser, runs("cvae/attributes"))
    assert "attributes=[]" in typed(browser)
    held_against_the_command_and_the_address(gentrain, browser)
    for i in (1, 5):
        browser.find_element("css selector", f"label[for=in-given-{i}]").click()
    assert not np.array_equal(seen(browser), first)
    assert violations(browser) + troubles(browser) == []
    assert "attributes=[Eyeglasses,5_o_Clock_Shadow]" in typed(browser)
    held_against_the_command_and_the_address(gentrain, browser)
    ticked = [browser.find_element("id", f"in-given-{i}").is_selected() for i in range(10)]
    assert ticked == [i in (1, 5) for i in range(10)]


@pytest.mark.parametrize("name", ["text_gan", pytest.param("cgan_captions", marks=pytest.mark.slow)])
def test_a_caption_in_words(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path], name: str
) -> None:
    """As `gentrain sample caption=` reads it; what it refuses is said, and changes nothing."""
    first = explored(gentrain, browser, runs(name), 390)
    examples = browser.find_element("id", "in-given-0").text.split("\n")
    assert len(examples) == 10
    assert f'caption="{examples[0]}"' in typed(browser)
    field, note = (browser.find_element("id", f"in-given-1{end}") for end in ("", "-note"))
    assert field.get_attribute("value") == examples[0]
    field.clear()
    keyed(browser, field, "A  thick SEVEN, above; a two!")
    assert 'caption="a thick seven above a two"' in typed(browser)
    shown = seen(browser)
    assert not np.array_equal(shown, first)
    assert note.text == ""
    keyed(browser, field, " dog")
    assert "no “dog”" in note.text
    assert field.get_attribute("aria-invalid") == "true"
    assert violations(browser) + troubles(browser) == []
    assert np.array_equal(seen(browser), shown)
    held_against_the_command_and_the_address(gentrain, browser)
    field = browser.find_element("id", "in-given-1")
    assert field.get_attribute("value") == "a thick seven above a two"
    keyed(browser, field, " a" * 9)
    assert "at most 9 words" in browser.find_element("id", "in-given-1-note").text
    browser.execute_script(
        "const s = document.getElementById('in-given-0'); s.value = 3; s.dispatchEvent(new Event('change'));"
    )
    assert f'caption="{examples[3]}"' in typed(browser)
    assert field.get_attribute("value") == examples[3]
    browser.execute_script("location.hash = 'a=5'")
    browser.execute_script("dispatchEvent(new HashChangeEvent('hashchange'))")
    assert f'caption="{examples[0]}"' in typed(browser), "what an address does not say is as it was at first"


@pytest.mark.parametrize("name", ["text_gan", pytest.param("cgan_captions", marks=pytest.mark.slow)])
def test_what_lies_between_two_captions(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path], name: str
) -> None:
    """Its pictures are torch's, the command's and the address's."""
    explored(gentrain, browser, runs(name))
    field = browser.find_element("id", "in-given-4")
    field.clear()
    keyed(browser, field, "a thick seven above a two")
    browser.execute_script(
        "window.moved = (x) => { const e = document.querySelector('#given input[type=range]');"
        "e.value = x; e.dispatchEvent(new Event('input')); };"
    )
    pictures = []
    first = browser.find_element("id", "in-given-1").get_attribute("value")
    for share, said in (
        (0, f'caption="{first}"'),
        (0.25, f'mixture=["{first}:0.75","a thick seven above a two:0.25"]'),
        (0.75, f'mixture=["{first}:0.25","a thick seven above a two:0.75"]'),
        (1, 'mixture=["a thick seven above a two:1"]'),
    ):
        browser.execute_script("moved(arguments[0])", share)
        assert said in typed(browser)
        pictures.append(seen(browser))
    assert not any(np.array_equal(a, b) for a, b in itertools.pairwise(pictures))
    browser.execute_script("moved(0.6)")
    assert violations(browser) + troubles(browser) == []
    held_against_the_command_and_the_address(gentrain, browser)
    assert browser.find_element("css selector", "#given output").text == "0.60"
    browser.execute_script("state.w = state.v; update();")
    assert 'caption="a thick seven above a two"' in typed(browser), "of one and the same nothing lies between"
    assert np.abs(seen(browser) - pictures[-1]).max() <= 255 / 16 + 1

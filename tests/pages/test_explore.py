"""The explorer in a real browser: its pictures are torch's, its address and its command draw them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import fetched, opened, troubles
from exploring import FOUR, drawn, held_against_the_command_and_the_address, held_against_torch, seen, typed
from running import Ended

import gentrain as package
from gentrain.contracts import LatentsToImages


@pytest.mark.parametrize("name", FOUR)
def test_the_page_draws_what_torch_draws(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path], name: str
) -> None:
    done = gentrain("explore", f"ckpt={runs(name)}", "out=explore.html")
    assert done.status == 0, done.err
    assert "million multiplications" in done.out
    assert not fetched(Path("explore.html").read_text())
    opened(browser, Path("explore.html"))
    assert troubles(browser) == []
    assert browser.find_element("id", "status").text.startswith("Drawn here")
    milliseconds, spread = held_against_torch(browser, package.load(runs(name)), 100)
    assert milliseconds <= 200
    assert spread > 0.2, "pictures of their own"


@pytest.mark.parametrize(("name", "width", "dark"), [("infogan", 390, True), ("cgan", 1280, True)])
def test_the_address_and_the_command_draw_the_same_picture(
    gentrain: Callable[..., Ended],
    browser: Any,
    runs: Callable[[str], Path],
    name: str,
    width: int,
    dark: bool,
) -> None:
    assert gentrain("explore", f"ckpt={runs(name)}", "out=explore.html").status == 0
    opened(browser, Path("explore.html"), width, dark)
    first = seen(browser)
    browser.find_element("css selector", "#between button:nth-child(4)").click()
    browser.find_element("css selector", "#children button:nth-child(3)").click()
    browser.execute_script(
        "for (const [id, value] of [['in-directions-0', 1.5], ['in-directions-1', -2]]) {"
        "const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); }"
        "state.first = 3; state.second = 8; state.m = 0.25; state.c.first = 0.5; update();"
        if name == "cgan"
        else "const e = document.getElementById('in-codes-1');"
        "e.value = 1.5; e.dispatchEvent(new Event('input'));"
        "const s = document.getElementById('in-codes-0'); s.value = 7; s.dispatchEvent(new Event('change'));"
    )
    assert not np.array_equal(seen(browser), first)
    assert troubles(browser) == []
    held_against_the_command_and_the_address(gentrain, browser)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["vae_mlp", "ae", "dae", "cvae", "iwae_2", "sngan", "bigan", "biggan", "rbm", "realnvp", "nice", "glow"],
)
def test_every_other_network_computes_in_the_page(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path], name: str
) -> None:
    done = gentrain("explore", f"ckpt={runs(name)}", "out=explore.html")
    assert done.status == 0, done.err
    opened(browser, Path("explore.html"))
    assert troubles(browser) == []
    assert browser.find_element("id", "status").text.startswith("Drawn here")
    model = package.load(runs(name))
    assert isinstance(model, LatentsToImages)
    held_against_torch(browser, model, 10)


@pytest.mark.parametrize(
    ("name", "fifth"),
    [
        ("cgan", "mixture=[4:1]"),
        ("text_gan", "caption="),
        pytest.param("cvae/attributes", "attributes=[Young]", marks=pytest.mark.slow),
    ],
)
def test_above_a_cost_a_grid_is_drawn_beforehand(
    gentrain: Callable[..., Ended], browser: Any, runs: Callable[[str], Path], name: str, fifth: str
) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    done = gentrain("explore", f"ckpt={runs(name)}", "most=0", "points=3", "out=grid.html")
    assert done.status == 0, done.err
    assert "more than most=0" in done.out
    opened(browser, Path("grid.html"), 390)
    wait = WebDriverWait(browser, 60)
    wait.until(lambda driver: driver.find_element("id", "status").text == "From the grid.")
    assert troubles(browser) == []
    browser.execute_script(
        "for (const [id, value] of [['in-directions-0', 2], ['in-directions-1', -2]]) {"
        "const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event('input')); }"
        "const s = document.getElementById('in-given-0'); s.value = 4; s.dispatchEvent(new Event('change'));"
    )
    assert any(word.startswith(fifth) for word in typed(browser))
    for address in ("", "#first=99&d=1.3,-0.4,2&m=0.5"):  # what was not drawn is not there
        if address:
            browser.get("about:blank")
            browser.get(Path("grid.html").resolve().as_uri() + address)
            wait.until(lambda driver: driver.find_element("id", "status").text == "From the grid.")
        assert np.abs(drawn(gentrain, typed(browser)) - seen(browser)).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["explore", "ckpt=PIXELCNN", "out=x.html"], "explore: pixelcnn cannot do this: it has no latents"),
        (["explore", "ckpt=CGAN", "out=x.png"], "expected a name that ends in .html"),
        (["explore", "ckpt=CGAN", "directions=1", "out=x.html"], "directions"),
        (["sample", "ckpt=CGAN", "latents=none.npy", "out=x.png"], "latents=none.npy: No such file"),
        (
            ["sample", "ckpt=CGAN", "latents=!!", "out=x.png"],
            "expected a file .npy or .npz, or 32-bit numbers",
        ),
        (
            ["sample", "ckpt=CGAN", "latents=AAAAAA", "out=x.png"],
            "expected [N, 100] of this model, found [1, 1]",
        ),
        (["sample", "ckpt=CGAN", "latents=AAAAAA", "n=3", "out=x.png"], "leave n out"),
        (["sample", "ckpt=CGAN", "latents=z.npy", "mixture=[3:x]", "out=x.png"], "as [3:0.7,8:0.3], found"),
        (["sample", "ckpt=CGAN", "latents=z.npy", "mixture=[3:1]", "label=3", "out=x.png"], "leave label"),
        (["sample", "ckpt=CGAN", "mixture=[3:1]", "out=x.png"], "mixture= goes with latents="),
        (
            ["sample", "ckpt=TEXT_GAN", "latents=w.npy", "mixture=['a dog:1']", "out=x.png"],
            "mixture: the captions have no 'dog'",
        ),
        (["sample", "ckpt=VAE", "latents=v.npy", "mixture=[3:1]", "out=x.png"], "which takes none"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    gentrain: Callable[..., Ended], runs: Callable[[str], Path], arguments: list[str], part: str
) -> None:
    np.save("z.npy", np.zeros((2, 100), np.float32))
    np.save("v.npy", np.zeros(16, np.float32))
    np.save("w.npy", np.zeros(32, np.float32))
    for name in ("pixelcnn", "cgan", "vae", "text_gan"):
        if f"ckpt={name.upper()}" in arguments:
            arguments = [f"ckpt={runs(name)}" if word.startswith("ckpt=") else word for word in arguments]
    done = gentrain(*arguments)
    assert done.status == 2
    assert part in done.one_line()
    assert not list(Path().glob("x.*"))


def test_a_page_too_large_says_what_to_type(
    gentrain: Callable[..., Ended], runs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gentrain.pages.page.LARGEST", 60_000)
    done = gentrain("explore", f"ckpt={runs('gan')}", "out=x.html")
    assert done.status == 2
    assert "dtype=float16" in done.one_line() or "most=0" in done.one_line()
    assert not Path("x.html").exists()

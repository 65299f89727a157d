"""The explorer in a real browser: its pictures are torch's, its address and its command draw them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import fetched, opened, troubles, violations
from running import MODELS, Ended

import gentrain as package
from gentrain.cli import main
from gentrain.contracts import LatentsToImages, MixesConditions
from gentrain.training import checkpoint

FEW = ["dataset=digits", "train.steps=3", "train.batch_size=16", "train.sample_count=4"]
#: Of adversarial ones so much that pictures differ: their weights begin near 0.
MORE = ["train.ema=null", "train.steps=30", "optim.generator.lr=0.01", "optim.discriminator.lr=0.001"]
#: The networks that must compute in the page.
FOUR = {
    "vae": [*MODELS["vae"], "train.ema=null", "train.steps=30"],
    "gan": [*MORE, "model=gan", "model.channels=8"],
    "cgan": [*MORE, "model=cgan", "model.channels=8"],
    "infogan": [*MORE, "model=infogan", "model.channels=8", "model.dense=32"],
}
#: Those that are told more than a label.
TOLD = {
    "cvae": [*MODELS["cvae"], "train.ema=null", "train.steps=30", "optim.main.lr=0.01"],
    "text_gan": [*MODELS["text_gan"], *MORE],
    "cgan_captions": [*FOUR["cgan"], "dataset.stacked=true"],
}
#: What a run's labels are taken for, where it is asked for as NAME/attributes.
ATTRIBUTES = [
    "Bald",
    "Eyeglasses",
    "Goatee",
    "Male",
    "Young",
    "5_o_Clock_Shadow",
    "Bangs",
    "Hat",
    "Tie",
    "Wig",
]
#: Draws them from latents and a condition, many at once: levels of all pixels, and milliseconds each.
DRAW = """
const [all, given] = arguments, levels = [], began = performance.now();
all.forEach((z, i) => levels.push(Array.from(levelsOf(z, given && given[i]))));
return [levels, (performance.now() - began) / all.length];
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run of a model, trained when it is first asked for."""
    made: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name.endswith("/attributes"):
            place = run(name.partition("/")[0])
            state = checkpoint.load(place / "checkpoints/last.pt")
            state["spec"] |= {"classes": None, "label_names": None, "attributes": ATTRIBUTES}
            checkpoint.save(state, place / "told.pt")
            return place / "told.pt"
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            arguments = {**MODELS, **FOUR, **TOLD}[name]
            assert main(["train", *FEW, *arguments, f"run_dir={made[name]}"]) == 0
        return made[name]

    return run


def inputs(model: Any, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Latents, and what each is given: shares of labels where the model mixes them."""
    torch.manual_seed(seed)
    z = model.prior_draws(n) if model.latent_prior != "none" else torch.randn(n, model.latent_dim)
    if model.condition is None:
        return z, None
    if isinstance(model, MixesConditions) and model.condition.name != "caption":
        return z, torch.rand(n, model.condition.size).pow(4).softmax(1)
    return z, torch.rand(n, 10) < 0.3 if model.condition.name == "attributes" else model.in_turn(n)


def by_torch(model: Any, z: torch.Tensor, y: torch.Tensor | None) -> np.ndarray:
    mixes = y is not None and y.is_floating_point()
    images = model.mixed_to_images(z, y) if mixes else model.latents_to_images(z, condition=y)
    return images.flatten(1).numpy().astype(int)


def held_against_torch(browser: Any, model: Any, n: int) -> tuple[float, float]:
    """Draw `n` latents in the page that is open; milliseconds of each, and how much they differ in levels."""
    z, y = inputs(model, n)
    given = None if y is None else [list(map(float, torch.atleast_1d(row))) for row in y]
    levels, milliseconds = browser.execute_script(DRAW, z.tolist(), given)
    wanted = by_torch(model, z, y)
    difference = np.abs(np.array(levels) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01, "only where it is rounded the other way"
    return float(milliseconds), float(wanted.std(0).mean())


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


def seen(browser: Any) -> np.ndarray:
    """Grey levels of the picture that is shown, 0 to 255."""
    return np.array(
        browser.execute_script(
            "const c = document.getElementById('picture');"
            "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d'); copy.drawImage(c, 0, 0);"
            "return Array.from(copy.getImageData(0, 0, c.width, c.height).data)"
        )
    ).reshape(-1, 4)[:, 0]


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


def typed(browser: Any) -> list[str]:
    """The words of the command that the page shows."""
    import shlex

    words = shlex.split(browser.find_element("id", "command").get_attribute("value"))
    assert words[:2] == ["gentrain", "sample"]
    return words


def drawn(gentrain: Callable[..., Ended], words: list[str]) -> np.ndarray:
    """Grey levels, 0 to 255, of the picture that a command draws."""
    done = gentrain(*words[1:-1], "out=picture.npz")
    assert done.status == 0, done.err
    with np.load("picture.npz") as file:
        return file["images"].reshape(-1).astype(float) * 255 / (int(file["levels"]) - 1)


def held_against_the_command_and_the_address(gentrain: Callable[..., Ended], browser: Any) -> None:
    """The picture that is shown is the command's, and the same when the page is opened anew."""
    shown, address, words = seen(browser), browser.current_url, typed(browser)
    browser.get("about:blank")
    browser.get(address)
    assert np.array_equal(seen(browser), shown), "the address says all"
    assert typed(browser) == words
    by_torch = drawn(gentrain, words)
    assert np.abs(by_torch - shown).max() <= 255 / 16 + 1, "within one grey level"
    assert (np.abs(by_torch - shown) > 1).mean() < 0.05


def explored(gentrain: Callable[..., Ended], browser: Any, run: Path, width: int = 1280) -> np.ndarray:
    """The page of a run is open, its pictures torch's; what it shows at first."""
    done = gentrain("explore", f"ckpt={run}", "out=explore.html")
    assert done.status == 0, done.err
    assert "million multiplications" in done.out, "no grid"
    opened(browser, Path("explore.html"), width)
    assert browser.find_element("id", "status").text.startswith("Drawn here")
    held_against_torch(browser, package.load(run), 20)
    return seen(browser)


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
    field.send_keys("A  thick SEVEN, above; a two!")
    assert 'caption="a thick seven above a two"' in typed(browser)
    shown = seen(browser)
    assert not np.array_equal(shown, first)
    assert note.text == ""
    field.send_keys(" dog")
    assert "no “dog”" in note.text
    assert field.get_attribute("aria-invalid") == "true"
    assert violations(browser) + troubles(browser) == []
    assert np.array_equal(seen(browser), shown)
    held_against_the_command_and_the_address(gentrain, browser)
    field = browser.find_element("id", "in-given-1")
    assert field.get_attribute("value") == "a thick seven above a two"
    field.send_keys(" a" * 9)
    assert "at most 9 words" in browser.find_element("id", "in-given-1-note").text
    browser.execute_script(
        "const s = document.getElementById('in-given-0'); s.value = 3; s.dispatchEvent(new Event('change'));"
    )
    assert f'caption="{examples[3]}"' in typed(browser)
    assert field.get_attribute("value") == examples[3]
    browser.execute_script("location.hash = 'a=5'")
    browser.execute_script("dispatchEvent(new HashChangeEvent('hashchange'))")
    assert f'caption="{examples[0]}"' in typed(browser), "what an address does not say is as it was at first"


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
            ["sample", "ckpt=TEXT_GAN", "latents=w.npy", "mixture=[a:1]", "out=x.png"],
            "not words; say caption=",
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

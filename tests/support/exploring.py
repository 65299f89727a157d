"""The explorer's page in a browser: what it shows, and what torch and the command draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from browser import opened
from running import MODELS, Ended

import gentrain as package
from gentrain.contracts import MixesConditions

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


def inputs(model: Any, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Latents, and what each is given: shares of labels or captions where the model mixes them."""
    torch.manual_seed(seed)
    z = model.prior_draws(n) if model.latent_prior != "none" else torch.randn(n, model.latent_dim)
    if model.condition is None:
        return z, None
    if isinstance(model, MixesConditions) and model.condition.name == "caption":
        first, second = (model.conditions_to_mixtures(model.in_turn(n)) for _ in range(2))
        return z, torch.lerp(first, second.flip(0), torch.rand(n, 1))
    if isinstance(model, MixesConditions):
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


def seen(browser: Any) -> np.ndarray:
    """Grey levels of the picture that is shown, 0 to 255."""
    return np.array(
        browser.execute_script(
            "const c = document.getElementById('picture');"
            "const copy = new OffscreenCanvas(c.width, c.height).getContext('2d'); copy.drawImage(c, 0, 0);"
            "return Array.from(copy.getImageData(0, 0, c.width, c.height).data)"
        )
    ).reshape(-1, 4)[:, 0]


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

"""The taxonomy of deep generative models, each leaf trained here: `python scripts/taxonomy.py`.

Trains one model of each kind on the 8x8 digits, draws from it, measures it, and writes one page,
outputs/taxonomy/index.html (self-contained), and a picture of it, outputs/taxonomy/taxonomy.png. The tree
is that of Goodfellow 2016, "NIPS 2016 Tutorial: Generative Adversarial Networks", arXiv:1701.00160, figure 9.
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "outputs" / "taxonomy"


@dataclass(frozen=True)
class Leaf:
    """A kind of model in the tree.

    Args:
        model: the option of `model=`.
        name: what the page calls it.
        branch: the inner nodes above it, from the top.
        density: how it comes by p(x), in one sentence.
        paper: where it is from.
    """

    model: str
    name: str
    branch: tuple[str, str]
    density: str
    paper: str


EXPLICIT, IMPLICIT = "explicit density", "implicit density"
LEAVES = [
    Leaf(
        "pixelcnn",
        "PixelCNN (autoregressive)",
        (EXPLICIT, "tractable"),
        "A product over pixels, each given those before it; exact.",
        "van den Oord et al. 2016",
    ),
    Leaf(
        "glow",
        "Glow (flow)",
        (EXPLICIT, "tractable"),
        "A change of variables; exact on the continuous, dequantised pixels.",
        "Kingma & Dhariwal 2018",
    ),
    Leaf(
        "vae",
        "VAE (variational)",
        (EXPLICIT, "approximate"),
        "An integral over latents, bounded from below.",
        "Kingma & Welling 2014",
    ),
    Leaf(
        "gan",
        "GAN (adversarial)",
        (IMPLICIT, "direct sampling"),
        "None: a sampler that a second network judges.",
        "Goodfellow et al. 2014",
    ),
]


@dataclass
class Card:
    """What is shown of a leaf: its facts by name, in order, and its samples."""

    leaf: Leaf
    samples: bytes  # a PNG
    facts: dict[str, str] = field(default_factory=dict)


def gentrain(*arguments: str, cwd: Path) -> str:
    """`gentrain <arguments>`; what it printed."""
    command = [sys.executable, "-m", "gentrain", *arguments]
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"taxonomy: gentrain {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def make(leaf: Leaf, place: Path, more: Sequence[str]) -> Card:
    """Train, draw, measure."""
    run = place / "runs" / leaf.model
    command = ["train", f"model={leaf.model}", "dataset=digits", *more]
    gentrain(*command, f"run_dir={run}", cwd=place)
    gentrain("sample", f"ckpt={run}", "n=64", f"out={run / 'samples.png'}", cwd=place)
    card = Card(leaf, (run / "samples.png").read_bytes())
    card.facts = {
        **likelihood(leaf, run, place),
        **measured(run),
        "command": "gentrain " + " ".join(command),
    }
    return card


def likelihood(leaf: Leaf, run: Path, place: Path) -> dict[str, str]:
    """The test negative log-likelihood with kind and standard error, or why there is none."""
    import gentrain as package
    from gentrain.contracts import HasLikelihood

    model = package.load(run, device="cpu")
    if not isinstance(model, HasLikelihood):
        return {"test log-likelihood": "none: " + model.lacks["eval"]}
    gentrain("eval", f"ckpt={run}", cwd=place)
    found = json.loads((run / "eval_test.json").read_text(encoding="utf-8"))
    return {
        "test negative log-likelihood": f"{found['nats']:.1f} ± {found['nats_stderr']:.1f} nats",
        "per dimension": f"{found['bits_per_dim']:.3f} ± {found['bits_per_dim_stderr']:.3f} bits/dim",
        "kind": f"{found['kind']}, {found['dataset']}, {found['images']} {found['split']} images, "
        f"{found['levels']} levels, binarize={found['binarize']}",
    }


def measured(run: Path) -> dict[str, str]:
    """Seconds of training, milliseconds per sample, parameters."""
    import torch

    import gentrain as package
    from gentrain.training import checkpoint

    state = checkpoint.load(run / "checkpoints" / "last.pt")
    model = package.load(run, device="cpu")
    times = []
    with torch.no_grad():
        for _ in range(4):  # the first one warms up
            began = time.perf_counter()
            model.sample(64)
            times.append((time.perf_counter() - began) / 64 * 1e3)
    count = sum(p.numel() for p in model.parameters())
    return {
        "training": f"{state['seconds']:.0f} s, {state['step']:,} steps",
        "sampling": f"{statistics.median(times[1:]):.2f} ms per sample (64 at once)",
        "parameters": f"{count:,}",
    }


def nodes(level: int) -> list[tuple[str, int]]:
    """(name, leaves below) of the tree's nodes at a depth, in the order of `LEAVES`."""
    found: list[tuple[str, int]] = []
    before: tuple[str, ...] = ()
    for leaf in LEAVES:
        path = leaf.branch[: level + 1]
        if path == before:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((path[-1], 1))
        before = path
    return found


TITLE = "Deep generative models, by how they treat p(x)"


def footer() -> str:
    """Where and when."""
    cores = os.cpu_count()
    return f"8x8 digits, 17 grey levels; {cores} CPU cores, {date.today()}; made by: make taxonomy"


def page(cards: Sequence[Card]) -> str:
    """The page, self-contained."""
    cells = [f'<div class="node top" style="grid-column: span {len(cards)}">p(x)</div>']
    for level in range(2):
        cells += [f'<div class="node" style="grid-column: span {n}">{name}</div>' for name, n in nodes(level)]
    for card in cards:
        picture = base64.b64encode(card.samples).decode()
        rows = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{value_of(name, value)}</dd>"
            for name, value in card.facts.items()
        )
        cells.append(
            f'<article id="{card.leaf.model}"><h2>{html.escape(card.leaf.name)}</h2>'
            f"<p>{html.escape(card.leaf.density)} <em>{html.escape(card.leaf.paper)}</em></p>"
            f'<img alt="64 samples of {html.escape(card.leaf.name)}" src="data:image/png;base64,{picture}">'
            f"<dl>{rows}</dl></article>"
        )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{TITLE}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; }}
.tree {{ display: grid; grid-template-columns: repeat({len(cards)}, minmax(14rem, 1fr)); gap: .6rem; }}
.node {{ background: #dfe7f3; border-radius: .4rem; padding: .4rem; text-align: center; font-weight: 600; }}
.top {{ background: #c4d3ea; }}
article {{ border: 1px solid #c4d3ea; border-radius: .4rem; padding: .8rem; }}
h2 {{ font-size: 1.05rem; margin: 0; }}
img {{ width: 100%; image-rendering: pixelated; }}
dt {{ color: #666; font-size: .8rem; }} dd {{ margin: 0 0 .4rem; }}
code {{ font-size: .8rem; overflow-wrap: anywhere; }}
</style></head><body>
<h1>{TITLE}</h1>
<div class="tree">
{chr(10).join(cells)}
</div>
<p>{html.escape(footer())}</p>
</body></html>
"""


def value_of(name: str, value: str) -> str:
    """A fact's value as HTML; commands as code."""
    text = html.escape(value)
    return f"<code>{text}</code>" if name == "command" else text


COLUMN, GAP, LINE = 320, 12, 19
INK, GREY, NODE, TOP = (20, 24, 32), (110, 110, 110), (223, 231, 243), (196, 211, 234)


def picture(cards: Sequence[Card]) -> Image.Image:
    """The page as one picture."""
    fonts = {size: ImageFont.load_default(size=size) for size in (14, 16, 22)}
    width = len(cards) * (COLUMN + GAP) + GAP
    sheet = Image.new("RGB", (width, 4000), "white")
    draw = ImageDraw.Draw(sheet)

    def wrapped(text: str, left: int, top: int, size: int, ink: tuple[int, int, int]) -> int:
        """Write `text` in a column; returns the top of what comes next."""
        line = ""
        for word in [*text.split(), ""]:
            longer = f"{line} {word}".strip()
            if word and draw.textlength(longer, fonts[size]) <= COLUMN - 2 * GAP:
                line = longer
                continue
            draw.text((left, top), line, fill=ink, font=fonts[size])
            top += LINE + size - 14
            line = word
        return top

    def node(name: str, left: int, top: int, leaves: int, fill: tuple[int, int, int]) -> None:
        right = left + leaves * (COLUMN + GAP) - GAP
        draw.rounded_rectangle((left, top, right, top + 32), radius=6, fill=fill)
        draw.text(((left + right) // 2, top + 16), name, fill=INK, font=fonts[16], anchor="mm")

    draw.text((GAP, GAP), TITLE, fill=INK, font=fonts[22])
    node("p(x)", GAP, 50, len(cards), TOP)
    for level in range(2):
        left = GAP
        for name, leaves in nodes(level):
            node(name, left, 50 + 40 * (level + 1), leaves, NODE)
            left += leaves * (COLUMN + GAP)
    bottoms = []
    for i, card in enumerate(cards):
        left = GAP + i * (COLUMN + GAP)
        top = wrapped(card.leaf.name, left, 178, 16, INK)
        top = wrapped(f"{card.leaf.density} {card.leaf.paper}.", left, top, 14, GREY)
        top = max(top, 178 + 5 * LINE)
        with Image.open(io.BytesIO(card.samples)) as samples:
            side = samples.convert("RGB").resize((COLUMN, COLUMN), Image.Resampling.LANCZOS)
        sheet.paste(side, (left, top))
        top += COLUMN + GAP
        for name, value in card.facts.items():
            top = wrapped(name, left, top, 14, GREY)
            top = wrapped(value, left, top, 14, INK) + 5
        bottoms.append(top)
    draw.text((GAP, max(bottoms) + GAP), footer(), fill=GREY, font=fonts[14])
    return sheet.crop((0, 0, width, max(bottoms) + 3 * GAP + LINE))


def main() -> int:
    """Make the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, default=PLACE, help="folder to write (default: %(default)s)")
    parser.add_argument("override", nargs="*", help="given to every training, e.g. train.steps=20")
    arguments = parser.parse_args()
    place = arguments.place.resolve()
    shutil.rmtree(place / "runs", ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    cards = [make(leaf, place, arguments.override) for leaf in LEAVES]
    (place / "index.html").write_text(page(cards), encoding="utf-8")
    picture(cards).save(place / "taxonomy.png", optimize=True)
    print(f"wrote   {place / 'index.html'} and taxonomy.png ({time.perf_counter() - began:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())

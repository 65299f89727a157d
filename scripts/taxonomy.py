"""The taxonomy of deep generative models, every leaf trained here: `python scripts/taxonomy.py`.

Trains each system on the 8x8 digits for seconds, two at a time with a thread each, draws from it, measures
it, and writes one page, outputs/taxonomy/index.html. What each leaf says lies in scripts/taxonomy.yaml.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "outputs" / "taxonomy"
#: Pictures of a leaf, and leaves at a time.
PICTURES, AT_ONCE = 16, 2
#: Minutes of training of a leaf at most: with starting, drawing and measuring it takes 40 seconds.
MINUTES = 0.35


def said() -> dict[str, dict[str, Any]]:
    """{model: what its leaf says}, in the order of the page."""
    text = (Path(__file__).with_suffix(".yaml")).read_text(encoding="utf-8")
    leaves: dict[str, dict[str, Any]] = yaml.safe_load(text)["leaves"]
    return leaves


def command_of(name: str) -> list[str]:
    """The words that train a leaf."""
    return ["train", f"model={name}", "dataset=digits", *said()[name]["settings"]]


# One leaf, in a process of its own


def make(name: str, place: Path, more: Sequence[str]) -> None:
    """Train, draw and measure `name`; what came of it goes to `place`: leaf.json, pictures.png, real.png."""
    import torch

    import gentrain as package
    from gentrain.cli import main as command
    from gentrain.commands.trained import open_data
    from gentrain.composing import composed
    from gentrain.contracts import HasLikelihood, Samples
    from gentrain.data.batches import images_at
    from gentrain.images import draw_png
    from gentrain.showing import sheet
    from gentrain.training import checkpoint

    run = place / "run"
    if command([*command_of(name), f"train.minutes={MINUTES}", f"run_dir={run}", *more]):
        sys.exit(1)
    state = checkpoint.load(run / "checkpoints" / "last.pt")
    model: Any = package.load(run, device="cpu")
    loaded = package.api.load_checkpoint(str(run), torch.device("cpu"), [], True)
    data = open_data(loaded, composed("encode", [f"ckpt={run}"]))
    batch = images_at(data, data.test, range(PICTURES), 0)
    facts = {"training": f"{state['seconds']:.0f} s, {state['step']:,} steps"}
    with torch.no_grad():
        if isinstance(model, Samples):
            shown, times = "samples", []
            condition = model.condition_in(batch)
            for _ in range(2):  # the first one warms up
                began = time.perf_counter()
                images = model.sample(PICTURES, condition=condition)
                times.append((time.perf_counter() - began) / PICTURES * 1e3)
            facts["drawing"] = f"{statistics.median(times[1:]):.2g} ms an image, {PICTURES} at once"
        else:
            made = model.reconstructions(batch) if hasattr(model, "reconstructions") else {}
            shown = "made from them"
            images = list(made.values())[-1] if made else model.translate(batch.source)
    given = shown != "samples" and batch.source is not None
    real = batch.source if given else batch.x
    draw_png(sheet(images.cpu(), model.spec, columns=4), place / "pictures.png")
    draw_png(sheet(real, model.spec, columns=4), place / "real.png")
    if isinstance(model, HasLikelihood):
        if command(["eval", f"ckpt={run}"]):
            sys.exit(1)
        found = json.loads((run / "eval_test.json").read_text(encoding="utf-8"))
        facts["-log p(x)"] = f"{found['nats']:.1f} ± {found['nats_stderr']:.1f} nats, {found['kind']}"
        facts["a pixel"] = f"{found['bits_per_dim']:.3f} ± {found['bits_per_dim_stderr']:.3f} bits"
    else:
        facts["-log p(x)"] = "none: " + model.lacks["eval"]
    facts["parameters"] = f"{sum(p.numel() for p in model.parameters()):,}"
    facts["images"] = f"8x8, {model.spec.levels} levels"
    (place / "leaf.json").write_text(json.dumps({"facts": facts, "shown": shown}), encoding="utf-8")


# All of them


def grown(name: str, place: Path, more: Sequence[str]) -> Any:
    """A leaf, by a process with one thread; says when it is done."""
    from gentrain.pages.taxonomy import Leaf

    began = time.perf_counter()
    words = [sys.executable, str(Path(__file__).resolve()), "--leaf", name, "--place", str(place), *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
    own = said()[name]
    paper, address = own["paper"]
    leaf = Leaf(name, own["branch"], own["equation"], own["says"], paper, address)
    command = " ".join(["gentrain", *command_of(name), f"train.minutes={MINUTES}", *more])
    print(
        f"{name}: {time.perf_counter() - began:.0f} s{'' if not done.returncode else ', failed'}", flush=True
    )
    if done.returncode:
        line = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return Leaf(**{**vars(leaf), "command": command, "trouble": f"It was not trained: {line}"})
    found = json.loads((place / "leaf.json").read_text(encoding="utf-8"))
    pictures = {"pictures": (place / "pictures.png").read_bytes(), "real": (place / "real.png").read_bytes()}
    return Leaf(**{**vars(leaf), "command": command, **found, **pictures})


def photographed(page: Path) -> Path | None:
    """A picture of the page beside it, by Chromium; None where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in names if (found := shutil.which(name))), None)
    if browser is None:
        return None
    picture = page.with_name("taxonomy.png")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    words += ["--window-size=1400,1150", f"--screenshot={picture}", page.as_uri()]
    subprocess.run(words, capture_output=True, timeout=120, check=False)
    return picture if picture.exists() else None


def main() -> int:
    """Make the page; 1 where a leaf failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, default=PLACE, help="folder to write (default: %(default)s)")
    parser.add_argument("--leaves", default="", help="some of them, a,b (default: all)")
    parser.add_argument("--leaf", help=argparse.SUPPRESS)
    parser.add_argument("override", nargs="*", help="given to every training, e.g. train.steps=20")
    arguments = parser.parse_args()
    place = arguments.place.resolve()
    if arguments.leaf:
        make(arguments.leaf, place, arguments.override)
        return 0
    names = [name for name in arguments.leaves.split(",") if name] or list(said())
    if unknown := [name for name in names if name not in said()]:
        parser.error(f"unknown leaf {', '.join(unknown)}; there are {', '.join(said())}")
    from gentrain.pages.taxonomy import taxonomy_page

    place.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in names]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [pool.submit(grown, *job, arguments.override) for job in zip(names, folders, strict=True)]
            leaves = [job.result() for job in jobs]
    seconds = time.perf_counter() - began
    order = [leaf for name in said() for leaf in leaves if leaf.name == name]
    made = f"{date.today()}, {seconds:.0f} s on {os.cpu_count()} CPU cores, two at a time"
    docs = os.path.relpath(ROOT / "docs" / "models.md", place)
    page = taxonomy_page(order, "the 8x8 digits of scikit-learn", docs, made)
    (place / "index.html").write_text(page, encoding="utf-8")
    print(f"wrote   {place / 'index.html'} ({len(leaves)} leaves, {seconds:.0f} s)")
    if picture := photographed(place / "index.html"):
        print(f"wrote   {picture} (how the page begins)")
    return 1 if any(leaf.trouble for leaf in leaves) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The README's pictures, from real runs: `python scripts/gallery.py [PANEL ...]`.

Each panel is trained and drawn by the commands that stand in it, or drawn from the weights in results/; what
is kept in results/gallery/ is one picture per panel, and of those trained a line on how it was made. Panels
whose data are not under GENTRAIN_DATA are left as they are. `python scripts/gallery.py PANEL --run FOLDER`
draws from a run that is finished already.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from gallery_panels import PANELS, ROOT, Panel
from gallery_plots import charts, curves_of, drawn, scatter
from PIL import Image, ImageDraw, ImageFont

from gentrain.training import checkpoint

PLACE = ROOT / "results" / "gallery"


def run(*arguments: str, cwd: str) -> str:
    """`gentrain <arguments>`; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gentrain", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"gallery: gentrain {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def draw_kept(panel: Panel) -> None:
    """Draw from the weights in results/; what they reached stands beside them in result.json."""
    place = ROOT / "results" / panel.name
    if not place.is_dir():
        print(f"{panel.name}: left as it is, {place} is not there")
        return
    with tempfile.TemporaryDirectory() as folder:
        save(beside(panel.title, parts_of(panel, place, folder)), PLACE / f"{panel.name}.png")
    print(f"{panel.name}: drawn from {place}")


def parts_of(panel: Panel, place: Path, folder: str) -> dict[str, Image.Image]:
    """The pictures that a panel's commands draw from the run or weights in `place`."""
    parts = {}
    for name, arguments in panel.parts.items():
        named = panel.kept and any(argument.startswith("images=") for argument in arguments)
        root = panel.root if named else []
        run(*arguments, f"ckpt={place}", *root, "out=part.png", cwd=folder)
        with Image.open(Path(folder) / "part.png") as picture:
            parts[name] = picture.convert("RGB")
    return parts


def make(panel: Panel, trained: Path | None) -> None:
    """Train (or take the run folder `trained`), draw, and keep the panel's picture and facts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run" if trained is None else trained
        if trained is None:
            run("train", *panel.train, *panel.root, f"run_dir={place}", cwd=folder)
        parts = {}
        if panel.curves:
            parts |= charts(curves_of(place, panel.curves))
        parts |= parts_of(panel, place, folder)
        if panel.scattered:
            run("encode", f"ckpt={place}", "out=latents.npz", cwd=folder)
            with np.load(Path(folder) / "latents.npz") as file:
                parts["test images by label"] = drawn(scatter(file["latents"], file["labels"]))
        figures = run("eval", f"ckpt={place}", *panel.evaluate, cwd=folder)
        state = checkpoint.load(place / "checkpoints" / "last.pt")
    PLACE.mkdir(parents=True, exist_ok=True)
    save(beside(panel.title, parts), PLACE / f"{panel.name}.png")
    facts = {
        "command": "gentrain train " + " ".join(panel.train),
        "minutes": round(state["seconds"] / 60, 1),
        "hardware": f"{os.cpu_count()} CPU cores, {state['environment']['threads']} threads",
        "date": str(date.today()),
        "figures": [
            line.strip()
            for line in figures.splitlines()
            if any(word in line for word in ("nats", "bits", "confidence", "right", "error"))
        ],
    }
    (PLACE / f"{panel.name}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"{panel.name}: {facts}")


def beside(title: str, parts: dict[str, Image.Image], height: int = 280, gap: int = 12) -> Image.Image:
    """Pictures of one height beside one another, each under its name."""
    font = ImageFont.load_default(size=15)
    scaled = {
        name: part.resize((round(part.width * height / part.height), height), Image.Resampling.LANCZOS)
        for name, part in parts.items()
    }
    wide = {name: max(part.width, math.ceil(font.getlength(name))) for name, part in scaled.items()}
    width = sum(wide.values()) + gap * (len(scaled) + 1)
    width = max(width, math.ceil(font.getlength(title)) + 2 * gap)
    sheet = Image.new("RGB", (width, height + 60), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 6), title, fill="black", font=font)
    left = gap
    for name, part in scaled.items():
        draw.text((left, 28), name, fill=(90, 90, 90), font=font)
        sheet.paste(part, (left, 50))
        left += wide[name] + gap
    return sheet


def save(sheet: Image.Image, file: Path) -> None:
    """Write a picture; one of greys alone as such, at half of the size."""
    red, green, blue = sheet.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    (red if grey else sheet).save(file, optimize=True)


def main() -> int:
    """Make the panels that were named, or all whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panel", nargs="*", help=f"some of {', '.join(p.name for p in PANELS)}")
    parser.add_argument("--run", type=Path, help="a finished run of the one panel that is named")
    arguments = parser.parse_args()
    names = arguments.panel
    unknown = set(names) - {p.name for p in PANELS}
    if unknown:
        parser.error(f"unknown panel {', '.join(sorted(unknown))}")
    if arguments.run and len(names) != 1:
        parser.error("--run goes with one panel")
    if arguments.run and any(p.kept for p in PANELS if p.name in names):
        parser.error(f"--run does not go with {names[0]}, which is drawn from results/{names[0]}")
    for panel in PANELS:
        if names and panel.name not in names:
            continue
        if panel.needs and not panel.needs.exists():
            print(f"{panel.name}: left as it is, {panel.needs} is not there")
            continue
        if panel.kept:
            draw_kept(panel)
        else:
            make(panel, arguments.run and arguments.run.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())

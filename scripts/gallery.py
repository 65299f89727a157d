"""The README's pictures, from real runs: `python scripts/gallery.py [PANEL ...]`.

Each panel is trained, sampled, reconstructed and interpolated by the commands that it prints; what is
kept in results/gallery/ is one picture per panel and a line on how it was made. Panels whose data are
not under GENTRAIN_DATA are left as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "results" / "gallery"
DATA = Path(os.environ.get("GENTRAIN_DATA", ROOT / "data")).resolve()


@dataclass
class Panel:
    """One run and its pictures."""

    name: str
    title: str
    train: list[str]
    needs: Path | None = None
    images: list[int] = field(default_factory=lambda: list(range(16)))

    @property
    def root(self) -> list[str]:
        """Where the data lie; not part of the command that a reader types."""
        return [f"dataset.root={self.needs}"] if self.needs else []


PANELS = [
    Panel("vae_digits", "VAE on digits (8x8)", ["model=vae", "dataset=digits"]),
    Panel(
        "vae_mnist", "VAE on MNIST (28x28)", ["model=vae", "dataset=mnist", "train.epochs=6"], DATA / "mnist"
    ),
    Panel(
        "vae_cifar10",
        "VAE on a zip of colour images (CIFAR-10, 32x32)",
        ["model=vae", "dataset=folder", "train.epochs=4", "model.latent_dim=128"],
        DATA / "cifar10.zip",
    ),
]


def run(*arguments: str, cwd: str) -> str:
    """`gentrain <arguments>`; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gentrain", *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        sys.exit(f"gallery: gentrain {' '.join(arguments)} ended with {done.returncode}")
    return done.stdout


def make(panel: Panel) -> None:
    """Train, draw, and keep the panel's picture and facts."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run("train", *panel.train, *panel.root, "run_dir=run", cwd=folder)
        minutes = (time.perf_counter() - began) / 60
        run("sample", "ckpt=run", "n=64", "out=samples.png", cwd=folder)
        indices = ",".join(map(str, panel.images))
        run("reconstruct", "ckpt=run", f"images={indices}", "out=reconstructions.png", cwd=folder)
        run("interpolate", "ckpt=run", "rows=8", "columns=8", "out=interpolations.png", cwd=folder)
        figures = run("eval", "ckpt=run", cwd=folder)
        parts = {
            part: Image.open(Path(folder) / f"{part}.png").convert("RGB")
            for part in ("samples", "reconstructions", "interpolations")
        }
    PLACE.mkdir(parents=True, exist_ok=True)
    beside(panel.title, parts).save(PLACE / f"{panel.name}.png", optimize=True)
    facts = {
        "command": "gentrain train " + " ".join(panel.train),
        "minutes": round(minutes, 1),
        "hardware": f"{os.cpu_count()} CPU cores",
        "date": str(date.today()),
        "figures": [line.strip() for line in figures.splitlines() if "nats" in line or "bits" in line],
    }
    (PLACE / f"{panel.name}.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"{panel.name}: {facts}")


def beside(title: str, parts: dict[str, Image.Image], height: int = 280, gap: int = 12) -> Image.Image:
    """Pictures of one height beside one another, each under its name."""
    font = ImageFont.load_default(size=15)
    scaled = {
        name: part.resize((round(part.width * height / part.height), height), Image.Resampling.LANCZOS)
        for name, part in parts.items()
    }
    width = sum(part.width for part in scaled.values()) + gap * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, height + 60), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((gap, 6), title, fill="black", font=font)
    left = gap
    for name, part in scaled.items():
        draw.text((left, 28), name, fill=(90, 90, 90), font=font)
        sheet.paste(part, (left, 50))
        left += part.width + gap
    return sheet


def main() -> int:
    """Make the panels that were named, or all whose data are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("panel", nargs="*", help=f"some of {', '.join(p.name for p in PANELS)}")
    names = parser.parse_args().panel
    unknown = set(names) - {p.name for p in PANELS}
    if unknown:
        parser.error(f"unknown panel {', '.join(sorted(unknown))}")
    for panel in PANELS:
        if names and panel.name not in names:
            continue
        if panel.needs and not panel.needs.exists():
            print(f"{panel.name}: left as it is, {panel.needs} is not there")
            continue
        make(panel)
    return 0


if __name__ == "__main__":
    sys.exit(main())

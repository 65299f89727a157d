"""The README's pictures, from real runs: `python scripts/gallery.py [PANEL ...]`.

Each panel is trained and drawn by the commands that stand in it; what is kept in results/gallery/ is one
picture per panel and a line on how it was made. Panels whose data are not under GENTRAIN_DATA are left as
they are. `python scripts/gallery.py PANEL --run FOLDER` draws from a run that is finished already.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gentrain.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "results" / "gallery"
DATA = Path(os.environ.get("GENTRAIN_DATA") or ROOT / "data").resolve()


@dataclass
class Panel:
    """One run and its pictures.

    Args:
        name: of the picture's file.
        title: above the picture.
        train: arguments of `gentrain train`.
        needs: where its data lie, or None for a data set that comes along.
        parts: {what stands above a part: arguments of the command that draws it}.
        evaluate: arguments of `gentrain eval`.
        curves: {what the curve is called: its key in metrics.jsonl}.
    scattered: whether the test images' two latents are drawn too, coloured by label.
    """

    name: str
    title: str
    train: list[str]
    needs: Path | None
    parts: dict[str, list[str]]
    evaluate: list[str] = field(default_factory=list)
    curves: dict[str, str] = field(default_factory=dict)
    scattered: bool = False

    @property
    def root(self) -> list[str]:
        """Where the data lie; not part of the command that a reader types."""
        return [f"dataset.root={self.needs}"] if self.needs else []


SAMPLES = {"samples": ["sample", "n=64"]}
OF_A_VAE = {
    **SAMPLES,
    "reconstructions": ["reconstruct", "images=" + ",".join(map(str, range(16)))],
    "interpolations": ["interpolate", "rows=8", "columns=8"],
}
PANELS = [
    Panel("vae_digits", "VAE on digits (8x8)", ["model=vae", "dataset=digits"], None, OF_A_VAE),
    Panel(
        "vae_mnist",
        "VAE on MNIST (28x28)",
        ["model=vae", "dataset=mnist", "train.epochs=6"],
        DATA / "mnist",
        OF_A_VAE,
    ),
    Panel(
        "vae_cifar10",
        "VAE on a zip of colour images (CIFAR-10, 32x32)",
        ["model=vae", "dataset=folder", "train.epochs=4", "model.latent_dim=128"],
        DATA / "cifar10.zip",
        OF_A_VAE,
    ),
    Panel(
        "plane_mnist",
        "A VAE with two latents on MNIST",
        [
            "model=vae_mlp",
            "dataset=mnist",
            "dataset.binarize=dynamic",
            "model.latent_dim=2",
            "train.epochs=40",
        ],
        DATA / "mnist",
        {"the plane of latents": ["interpolate", "plane=true", "rows=20", "columns=20"]},
        scattered=True,
    ),
    Panel(
        "dae_mnist",
        "Denoising autoencoder on MNIST: corrupted, restored, clean",
        [
            *("model=dae", "dataset=mnist", "dataset.binarize=dynamic", "model.corruption=salt_and_pepper"),
            *("model.level=0.4", "model.walkback=3", "train.epochs=4"),
        ],
        DATA / "mnist",
        {
            "denoising": ["reconstruct", "images=" + ",".join(map(str, range(16)))],
            "samples of its chain": ["sample", "n=64"],
        },
        ["metrics=[reconstruction]"],
    ),
    Panel(
        "pixelcnn_mnist",
        "PixelCNN on binarised MNIST (28x28)",
        ["experiment=pixelcnn_mnist"],
        DATA / "mnist",
        {**SAMPLES, "completions": ["complete", "images=0,1,2,3,4,5,6,7", "known=top"]},
        curves={"nats per training image": "loss/total"},
    ),
    Panel(
        "glow_mnist",
        "Glow on MNIST (28x28)",
        ["experiment=glow_mnist"],
        DATA / "mnist",
        {
            **SAMPLES,
            "between test images": ["interpolate", "images=" + ",".join(map(str, range(16))), "columns=8"],
            "from 1 to 7": ["arithmetic", "images=2,5,14,31", "plus=[7]", "minus=[1]", "strength=1.5"],
        },
        curves={"nats per training image": "loss/total"},
    ),
    Panel(
        "dcgan_mnist",
        "GAN on MNIST (28x28)",
        ["experiment=dcgan_mnist"],
        DATA / "mnist",
        {**SAMPLES, "interpolations": ["interpolate", "rows=8", "columns=8"]},
        ["metrics=[classifier]"],
        {"D(x)": "loss/discriminator/d_real", "D(G(z))": "loss/discriminator/d_fake"},
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


def make(panel: Panel, trained: Path | None) -> None:
    """Train (or take the run folder `trained`), draw, and keep the panel's picture and facts."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run" if trained is None else trained
        if trained is None:
            run("train", *panel.train, *panel.root, f"run_dir={place}", cwd=folder)
        parts = {}
        if panel.curves:
            parts |= charts(curves_of(place, panel.curves))
        for name, arguments in panel.parts.items():
            run(*arguments, f"ckpt={place}", "out=part.png", cwd=folder)
            with Image.open(Path(folder) / "part.png") as picture:
                parts[name] = picture.convert("RGB")
        if panel.scattered:
            run("encode", f"ckpt={place}", "out=latents.npz", cwd=folder)
            with np.load(Path(folder) / "latents.npz") as file:
                parts["test images by label"] = scatter(file["latents"], file["labels"])
        figures = run("eval", f"ckpt={place}", *panel.evaluate, cwd=folder)
        state = checkpoint.load(place / "checkpoints" / "last.pt")
    PLACE.mkdir(parents=True, exist_ok=True)
    beside(panel.title, parts).save(PLACE / f"{panel.name}.png", optimize=True)
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


#: One colour for each of ten labels (Tableau's).
LABELS = [
    *((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189)),
    *((140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207)),
]


def scatter(z: np.ndarray, labels: np.ndarray, side: int = 560, most: float = 3.5) -> Image.Image:
    """Points z [N, 2] within +-`most`, the second dimension upwards, coloured by label, with a legend."""
    sheet = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=20)
    for (right, up), label in zip(z, labels, strict=True):
        x, y = side * (0.5 + right / (2 * most)), side * (0.5 - up / (2 * most))
        draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=LABELS[label])
    draw.rectangle((0, 0, side - 1, side - 1), outline=(160, 160, 160))
    for label, ink in enumerate(LABELS):
        draw.text((12, 12 + 24 * label), str(label), fill=ink, font=font, stroke_width=1, stroke_fill="white")
    return sheet


INKS = [(31, 80, 160), (190, 80, 20)]
FRAME, WRITING, LINES = (160, 160, 160), (90, 90, 90), (228, 228, 228)
#: {what a curve is called: its (step, value)}.
Series = dict[str, list[tuple[int, float]]]
#: Above this ratio of the largest to the smallest value an axis is logarithmic.
DECADE = 10


def curves_of(place: Path, keys: dict[str, str]) -> Series:
    """The curves of metrics.jsonl; what was not finite is left out."""
    lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        name: [(line["step"], line[key]) for line in lines if line.get(key) is not None]
        for name, key in keys.items()
    }


def spacing(low: float, high: float, most: int = 6) -> float:
    """1, 2 or 5 times a power of ten, of which at most `most` fit between `low` and `high`."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least * (1 - 1e-9))


def ticks(low: float, high: float) -> list[float]:
    """Multiples of `spacing` from `low` to `high`."""
    step = spacing(low, high)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """As `ticks`, each 1, 2 or 5 times a power of ten; powers of ten alone where those are too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        found = [value for value in found if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


@dataclass(frozen=True)
class Axis:
    """Values along a side: from `low` to `high`, evenly or in their logarithms."""

    low: float
    high: float
    log: bool

    @staticmethod
    def over(values: Sequence[float]) -> Axis:
        """An axis that holds all of `values`; an even one ends at ticks."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - abs(low or 1) / 2, high + abs(high or 1) / 2
        if low > 0 and high > DECADE * low:
            return Axis(low, high, True)
        step = spacing(low, high)
        return Axis(step * math.floor(low / step + 1e-9), step * math.ceil(high / step - 1e-9), False)

    def share(self, value: float) -> float:
        """Where `value` lies, 0 at `low` and 1 at `high`."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> dict[float, str]:
        """{value: what is written there}."""
        values = log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high)
        return {value: f"{value:,.10g}" for value in values}


def charts(series: Series) -> dict[str, Image.Image]:
    """The curves of a whole run; where their first tenth dwarfs the rest, the rest once more by itself."""
    parts = {"training": chart(series)}
    late = {name: curve[len(curve) // 10 :] for name, curve in series.items()}
    if spread(late) < spread(series) / 2:
        begin = min(curve[0][0] for curve in late.values() if curve)
        parts[f"training from step {begin:,}"] = chart(late)
    return parts


def spread(series: Series) -> float:
    """The largest value less the smallest."""
    values = [value for curve in series.values() for _, value in curve]
    return max(values) - min(values)


def chart(series: Series, size: tuple[int, int] = (340, 280)) -> Image.Image:
    """Curves by step, every point of them within the frame, with ticks on both axes."""
    steps, values = zip(*(point for curve in series.values() for point in curve), strict=True)
    along, upwards = Axis(min(steps) - 1, max(steps), False), Axis.over(values)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    widest = max(draw.textlength(text, font) for text in upwards.ticks().values())
    left, top, right, bottom = round(widest) + 32, 22, size[0] - 22, size[1] - 40

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + (right - left) * along.share(step)
        return x, bottom - (bottom - top) * upwards.share(value)

    for value, text in upwards.ticks().items():
        _, y = place(along.low, value)
        draw.line((left, y, right, y), fill=LINES)
        draw.line((left - 4, y, left, y), fill=FRAME)
        draw.text((left - 7, y), text, fill=WRITING, font=font, anchor="rm")
    for step, text in along.ticks().items():
        x, _ = place(step, upwards.low)
        draw.line((x, bottom, x, bottom + 4), fill=FRAME)
        draw.text((x, bottom + 12), text, fill=WRITING, font=font, anchor="mm")
    draw.rectangle((left, top, right, bottom), outline=FRAME)
    draw.text(((left + right) / 2, bottom + 29), "step", fill=WRITING, font=font, anchor="mm")
    sideways = Image.new("RGB", (bottom - top, 20), "white")
    label = ", ".join(series) + (" (logarithmic)" if upwards.log else "")
    ImageDraw.Draw(sideways).text((sideways.width / 2, 10), label, fill=WRITING, font=font, anchor="mm")
    sheet.paste(sideways.rotate(90, expand=True), (0, top))
    name_at = right
    for ink, (name, curve) in zip(INKS, series.items(), strict=False):
        draw.line([place(step, value) for step, value in curve], fill=ink, width=2)
        for step, value in curve if len(curve) == 1 else ():
            x, y = place(step, value)
            draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=ink)
        if len(series) > 1:
            draw.text((name_at, top - 4), name, fill=ink, font=font, anchor="rb")
            name_at -= round(draw.textlength(name, font)) + 12
    return sheet


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
    parser.add_argument("--run", type=Path, help="a finished run of the one panel that is named")
    arguments = parser.parse_args()
    names = arguments.panel
    unknown = set(names) - {p.name for p in PANELS}
    if unknown:
        parser.error(f"unknown panel {', '.join(sorted(unknown))}")
    if arguments.run and len(names) != 1:
        parser.error("--run goes with one panel")
    for panel in PANELS:
        if names and panel.name not in names:
            continue
        if panel.needs and not panel.needs.exists():
            print(f"{panel.name}: left as it is, {panel.needs} is not there")
            continue
        make(panel, arguments.run and arguments.run.resolve())
    return 0


if __name__ == "__main__":
    sys.exit(main())

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
from gallery_plots import charts, curves_of, drawn, scatter
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
        kept: whether it is drawn from the weights in results/, and nothing is trained.
    """

    name: str
    title: str
    train: list[str]
    needs: Path | None
    parts: dict[str, list[str]]
    evaluate: list[str] = field(default_factory=list)
    curves: dict[str, str] = field(default_factory=dict)
    scattered: bool = False
    kept: bool = False

    @property
    def root(self) -> list[str]:
        """Where the data lie; not part of the command that a reader types."""
        return [f"dataset.root={self.needs}"] if self.needs else []


SAMPLES = {"samples": ["sample", "n=64"]}
WALKED = {**SAMPLES, "interpolations": ["interpolate", "rows=8", "columns=8"]}
OF_A_VAE = {
    **SAMPLES,
    "reconstructions": ["reconstruct", "images=" + ",".join(map(str, range(16)))],
    "interpolations": WALKED["interpolations"],
}
COMPLETED = {**SAMPLES, "completions": ["complete", "images=0,1,2,3,4,5,6,7", "known=top"]}
COOLED = {
    **SAMPLES,
    "at temperature 0.7": ["sample", "n=64", "temperature=0.7"],
    "between test images": ["interpolate", "images=" + ",".join(map(str, range(16))), "columns=8"],
}
OF_A_FLOW = {**SAMPLES, "between test images": ["interpolate", "images=0,1,2,3,4,5,6,7", "columns=8"]}


def kept(name: str, title: str, parts: dict[str, list[str]], needs: Path | None = DATA / "mnist") -> Panel:
    """A panel of an experiment whose weights lie in results/."""
    return Panel(name, title, [f"experiment={name}"], needs, parts, kept=True)


def translated(numbers: Iterable[int]) -> dict[str, list[str]]:
    """Test images of these numbers, each with its translation and its truth."""
    return {"source, translation, truth": ["translate", "images=" + ",".join(map(str, numbers))]}


def both_ways(numbers: Iterable[int], a: str, b: str) -> dict[str, list[str]]:
    """Test images of these numbers from one domain to the other, and from that to the first."""
    rows, images = "source, translation, back, truth", "images=" + ",".join(map(str, numbers))
    return {
        f"{a} to {b}: {rows}": ["translate", images],
        f"{b} to {a}": ["translate", images, "direction=BtoA"],
    }


def of_captions(seen: Sequence[str], unseen: Sequence[str], n: int = 9) -> dict[str, list[str]]:
    """Samples of captions of training images, and of such as no training image has."""
    drawn = {f"{caption} (seen)": caption for caption in seen}
    drawn |= {f"{caption} (never seen)": caption for caption in unseen}
    return {name: ["sample", f"caption={caption}", f"n={n}"] for name, caption in drawn.items()}


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
        "dcgan_mnist",
        "GAN on MNIST (28x28)",
        ["experiment=dcgan_mnist"],
        DATA / "mnist",
        WALKED,
        ["metrics=[classifier]"],
        {"D(x)": "loss/discriminator/d_real", "D(G(z))": "loss/discriminator/d_fake"},
    ),
    kept("fvbn_mnist", "FVBN on binarised MNIST (28x28)", COMPLETED),
    kept("nade_mnist", "NADE on binarised MNIST (28x28)", COMPLETED),
    kept("rbm_mnist", "RBM on binarised MNIST (28x28): chains of block Gibbs sampling", COMPLETED),
    kept(
        "cgan_mnist",
        "Conditional GAN on MNIST (28x28)",
        {
            "labels 0 to 9 by column": ["sample", "n=100"],
            "a 3 and a 9, and their children": ["cross", "parents=[3,9]", "children=32"],
            "interpolations of label 5": ["interpolate", "label=5", "rows=8", "columns=8"],
        },
    ),
    kept("sngan_mnist", "SNGAN on MNIST (28x28)", WALKED),
    kept(
        "biggan_mnist",
        "BigGAN on MNIST (28x28)",
        {
            "labels 0 to 9 by column": ["sample", "n=100"],
            "latents cut off at 0.5": ["sample", "n=100", "truncation=0.5"],
            "a 3 and a 9, and their children": ["cross", "parents=[3,9]", "children=32"],
            "interpolations of label 5": ["interpolate", "label=5", "rows=8", "columns=8"],
        },
    ),
    Panel(
        "infogan_mnist",
        "InfoGAN on MNIST (28x28)",
        ["experiment=infogan_mnist"],
        DATA / "mnist",
        {
            "the code of ten values": ["interpolate", "code=digit"],
            "the code slant": ["interpolate", "code=slant"],
            "the code width": ["interpolate", "code=width"],
        },
        ["metrics=[codes]"],
    ),
    kept(
        "text_gan_mnist",
        "Text-conditional GAN on two digits of MNIST and their captions",
        of_captions(
            ["a thick three above a one", "a six below a slanted four", "a nine above a thin two"],
            ["a zero above a seven", "a two above a nine", "a four above an eight", "a six above a three"],
        ),
    ),
    kept(
        "text_gan_emoji",
        "Text-conditional GAN on emoji (Twemoji, CC BY 4.0) and their names",
        of_captions(
            [
                "woman firefighter light skin tone",
                "man judge dark skin tone",
                "woman scientist medium skin tone",
            ],
            [
                "woman firefighter dark skin tone",
                "man judge medium skin tone",
                "man pilot light skin tone",
            ],
        ),
    ),
    kept("pix2pix_mnist", "Pix2Pix from outline to digit, test images", translated(range(16))),
    kept(
        "pix2pix_cifar10",
        "Pix2Pix from grey to colour, CIFAR-10, test images",
        translated(range(7, 999, 62)),
        DATA / "cifar10.zip",
    ),
    kept(
        "pix2pix_emoji",
        "Pix2Pix from one drawing style of emoji to another, test images",
        translated(range(1, 401, 25)),
        DATA / "emoji.zip",
    ),
    kept(
        "cyclegan_mnist",
        "CycleGAN between digits over photographs (of CIFAR-10) and digits, test images",
        both_ways(range(8), "photographs", "digits"),
    ),
    kept(
        "cyclegan_emoji",
        "CycleGAN between drawing styles of emoji (Twemoji, CC BY 4.0; Noto, Apache 2.0), test images",
        both_ways(range(1, 401, 50), "Twemoji", "Noto"),
        DATA / "emoji.zip",
    ),
    kept(
        "gan_emoji",
        "BigGAN on emoji in two styles (Twemoji, CC BY 4.0; Noto, Apache 2.0)",
        {"the ten categories by column": ["sample", "n=100"]},
        None,
    ),
    kept(
        "glow_mnist",
        "Glow on MNIST (28x28)",
        {
            **COOLED,
            "from 1 to 7": ["arithmetic", "images=2,5,14,31", "plus=[7]", "minus=[1]", "strength=1.5"],
        },
    ),
    Panel("nice_mnist", "NICE on MNIST (28x28)", ["experiment=nice_mnist"], DATA / "mnist", COOLED),
    kept("realnvp_mnist", "RealNVP on MNIST (28x28)", COOLED),
    kept("glow_cifar10_small", "Glow on CIFAR-10 (32x32)", COOLED, DATA / "cifar10.zip"),
    kept("nice_digits", "NICE on digits (8x8)", OF_A_FLOW, None),
    kept("realnvp_digits", "RealNVP on digits (8x8)", OF_A_FLOW, None),
    kept("glow_digits", "Glow on digits (8x8)", OF_A_FLOW, None),
]


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
        beside(panel.title, parts_of(panel, place, folder)).save(PLACE / f"{panel.name}.png", optimize=True)
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

"""What the gallery shows: a panel for each run, with the commands that draw its parts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
BY_LABEL = {"labels 0 to 9 by column": ["sample", "n=100"]}
OF_LABELS = {
    "a 3 and a 9, and their children": ["cross", "parents=[3,9]", "children=32"],
    "interpolations of label 5": ["interpolate", "label=5", "rows=8", "columns=8"],
}
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
    kept("pixelcnn_mnist", "PixelCNN on binarised MNIST (28x28)", COMPLETED),
    kept("gated_pixelcnn_mnist", "Gated PixelCNN on binarised MNIST (28x28)", COMPLETED),
    kept("row_lstm_mnist", "Row LSTM on binarised MNIST (28x28)", COMPLETED),
    kept("diagonal_bilstm_mnist", "Diagonal BiLSTM on binarised MNIST (28x28)", COMPLETED),
    kept("pixelcnnpp_cifar10_small", "PixelCNN++ on CIFAR-10 (32x32)", COMPLETED, DATA / "cifar10.zip"),
    kept(
        "wavenet_prompts",
        "WaveNet on telephone prompts (Asterisk's; Allison Smith and Digium, CC BY-SA 3.0), 8 kHz",
        {
            "samples of two seconds": ["sample", "n=6", "seconds=2"],
            "recordings, and three ways on from the middle": ["complete", "images=0,1,2,3", "n=3"],
        },
        DATA / "prompts.zip",
    ),
    kept("rbm_mnist", "RBM on binarised MNIST (28x28): chains of block Gibbs sampling", COMPLETED),
    kept(
        "cgan_mnist",
        "Conditional GAN on MNIST (28x28)",
        {**BY_LABEL, **OF_LABELS},
    ),
    kept("sngan_mnist", "SNGAN on MNIST (28x28)", WALKED),
    kept(
        "biggan_mnist",
        "BigGAN on MNIST (28x28)",
        {
            **BY_LABEL,
            "latents cut off at 0.5": ["sample", "n=100", "truncation=0.5"],
            **OF_LABELS,
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

"""The metric `neighbour`: labels of nearest neighbours in latents, beside pixels and an untrained encoder."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.building import build_model
from gentrain.commands.latents import check_latents, encoded
from gentrain.commands.measures.frame import Measured, Metric, subject
from gentrain.commands.trained import batches_of, device_of, label_names, open_data, split_of
from gentrain.contracts import Batch, ImagesToLatents
from gentrain.metrics import neighbours
from gentrain.training import randomness


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """1-NN accuracy of a split among the training images, of four kinds of features of equal standing.

    And how much nearer a reconstruction is to its own image than to another one.

    Raises:
        UserError: missing data.
        Fault: latents that are not finite.
    """
    model: Any = loaded.model
    data, device = open_data(loaded, config), device_of(loaded)
    label_names(data)
    split = split_of(data, config.split)

    def features(of: Any, encoder: ImagesToLatents, limit: int | None = None) -> tuple[Tensor, Batch]:
        z, batch = encoded(encoder, batches_of(data, of, config, device, limit), images=True)
        check_latents(z)
        return z, batch

    train, known = features(data.train, model)
    test, asked = features(split, model, config.limit)
    assert known.label is not None
    assert asked.label is not None
    with randomness.aside(int(config.seed), device):
        fresh: Any = build_model(loaded.config.model, model.spec, list(config.trust)).to(device).eval()
    pixels = [batch.x.flatten(1).float() / (model.spec.levels - 1) for batch in (known, asked)]
    size = min(train.shape[1], pixels[0].shape[1])
    pairs = {
        "latents": (train, test),
        "pixels": (pixels[0], pixels[1]),
        "pca": neighbours.principal(pixels[0], pixels[1], size),
        "untrained": (features(data.train, fresh)[0], features(split, fresh, config.limit)[0]),
    }
    figures: dict[str, Any] = {
        **subject(loaded, data, config),
        "images": len(test),
        "train_images": len(train),
    }
    lines = []
    for kind, (a, b) in pairs.items():
        right, error = neighbours.accuracy(a, known.label, b, asked.label)
        figures |= {
            f"{kind}_accuracy": right,
            f"{kind}_accuracy_stderr": error,
            f"{kind}_features": a.shape[1],
        }
        lines.append(f"{right:.2%} +- {error:.2%} by the nearest of {a.shape[1]:,} {TEXT[kind]}")
    ratio = reconstruction_ratio(model, asked, pixels[1], device, config.batch_size)
    figures["reconstruction_ratio"] = ratio
    lines.append(f"{ratio:.4f} distance of reconstructions from their images, relative to that from others")
    lines.append(
        f"{len(test):,} {config.split} images among {len(train):,} training images, seed {config.seed}"
    )
    part = "" if config.limit is None else f"_first_{config.limit}"
    texts = [f"{'        ' if i else 'nearest '}{line}" for i, line in enumerate(lines)]
    return Measured(texts, figures, f"eval_neighbour_{config.split}{part}.json")


#: What the kinds of features are called.
TEXT = {
    "latents": "latents",
    "pixels": "pixels",
    "pca": "principal components of pixels",
    "untrained": "latents of the same encoder, untrained",
}


def reconstruction_ratio(model: Any, batch: Batch, pixels: Tensor, device: torch.device, size: int) -> float:
    """Mean |x - G(E(x))| over mean |x' - G(E(x))| of another image x'; 1: nothing is reconstructed."""
    made = []
    for start in range(0, len(batch.x), size):
        part = batch.map(lambda whole, start=start: whole[start : start + size].to(device))  # type: ignore[misc]
        made.append(list(model.reconstructions(part).values())[-1].cpu())
    y = torch.cat(made).flatten(1).float() / (model.spec.levels - 1)
    own = (pixels - y).norm(dim=1).mean()
    return float(own / (pixels.roll(1, 0) - y).norm(dim=1).mean())


METRIC = Metric(
    measure,
    ImagesToLatents,
    "latents of images alone",
    why=("probe", "encode"),
    labelled=True,
    means={
        "latents_accuracy": "The share of images that have the label of the training image whose latents are "
        "nearest.",
        "pixels_accuracy": "The same of pixels: what the latents are to be held against.",
        "untrained_accuracy": "The same of the encoder before training: what its architecture alone gives.",
        "reconstruction_ratio": "How far reconstructions are from their images, relative to others': "
        "below 1 they are of them.",
    },
)

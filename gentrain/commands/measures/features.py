"""Features of samples and of real images, by a named extractor: what distances between them are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional

from gentrain.api import Loaded
from gentrain.commands.measures.extractors import extractor_of
from gentrain.commands.measures.frame import Measured, Metric, subject
from gentrain.commands.trained import batches_of, device_of, open_data, samples_of, split_of, stand
from gentrain.contracts import Samples
from gentrain.training import randomness

#: Standard deviations of what the ladder does to images: pixels of a blur, and shares of the levels of noise.
BLUR, NOISE = 1.0, 0.1


@dataclass(frozen=True)
class Compared:
    """Features of samples and of real images.

    Args:
        real, fake: [N, D] and [M, D], of the split and of the samples.
        rungs: {what was done to training images: their features [M, D]}, as many as there are samples.
        line: which extractor, of how many images.
        facts: the same for the figures.
    """

    real: Tensor
    fake: Tensor
    rungs: dict[str, Tensor]
    line: str
    facts: dict[str, Any]


#: Of a model: what its features were compared with, so that several metrics draw once.
_KEPT: WeakKeyDictionary[nn.Module, tuple[Any, Compared]] = WeakKeyDictionary()


def of_features(
    measure: Callable[[Loaded, DictConfig], Measured], means: Mapping[str, str], least: int = 1
) -> Metric:
    """The metric that compares features of samples with those of real images, `least` of each or more."""
    return Metric(measure, Samples, "samples", features=True, means=means, least=least)


def compared(loaded: Loaded, config: DictConfig) -> Compared:
    """The features of `n` samples and of a split, at most `n` images of it.

    Raises:
        UserError: missing data, or a model that refuses to sample so.
    """
    keys = ("split", "n", "truncation", "standing", "seed", "features", "inception", "limit", "batch_size")
    key = tuple(config[name] for name in keys)
    kept = _KEPT.get(loaded.model)
    if kept is None or kept[0] != key:
        kept = (key, _computed(loaded, config))
        _KEPT[loaded.model] = kept
    return kept[1]


def _computed(loaded: Loaded, config: DictConfig) -> Compared:
    data = open_data(loaded, config)
    see = extractor_of(data, loaded, config)
    device, levels = device_of(loaded), data.spec.levels
    most = config.n if config.limit is None else min(config.n, config.limit)
    with randomness.aside(int(config.seed), device):
        stand(loaded, config)
        drawn = samples_of(loaded, config.n, truncation=config.truncation)
        fake = see(drawn)
    split = split_of(data, config.split)
    real = see(b.x for b in batches_of(data, split, config, device, most))
    train = torch.cat([b.x for b in batches_of(data, data.train, config, device, config.n)])
    noise = torch.Generator().manual_seed(int(config.seed))
    changed = {"none": train, "blur": blurred(train, BLUR), "noise": noisy(train, NOISE, levels, noise)}
    rungs = {what: see(x.split(config.batch_size)) for what, x in changed.items()}
    line = (
        f"{real.shape[1]:,} features of {see.name} {see.weights}, {see.resize or 'no resize'}, "
        f"{len(fake):,} samples, "
        f"seed {config.seed}, {len(real):,} {config.split} images"
    )
    facts = {
        **subject(loaded, data, config),
        "extractor": see.name,
        "weights": see.weights,
        "resize": see.resize,
        "features": real.shape[1],
        "samples": len(fake),
        "images": len(real),
        "truncation": config.truncation,
        "estimator": f"{len(fake):,} samples, {len(real):,} {config.split} images, {see.name}'s features",
    }
    return Compared(real, fake, rungs, line, facts)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """uint8 [B, C, H, W] -> the same, blurred by a normal of `sigma` pixels; edges repeat."""
    reach = min(int(3 * sigma + 0.5), min(x.shape[2:]) - 1)
    places = torch.arange(-reach, reach + 1, device=x.device)
    weights = torch.exp(-places.square() / (2 * sigma**2))
    weights = (weights / weights.sum()).view(1, 1, -1)
    y = x.flatten(0, 1)[:, None].float()
    for dims in ((1, 1, -1, 1), (1, 1, 1, -1)):
        pad = (0, 0, reach, reach) if dims[2] == -1 else (reach, reach, 0, 0)
        y = functional.conv2d(functional.pad(y, pad, mode="replicate"), weights.view(dims))
    return y.view(x.shape).round().to(torch.uint8)


def noisy(x: Tensor, share: float, levels: int, generator: torch.Generator) -> Tensor:
    """uint8 [B, C, H, W] -> the same with normal noise, its deviation a `share` of the largest level."""
    noise = torch.randn(x.shape, generator=generator).to(x.device)
    return (x + share * (levels - 1) * noise).round().clamp(0, levels - 1).to(torch.uint8)

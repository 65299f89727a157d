"""Negative log-likelihood over a data set, in nats and in bits/dim, with standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gentrain.contracts import Batch, DataSpec, HasLikelihood
from gentrain.errors import Fault


@dataclass(frozen=True)
class Likelihood:
    """What `evaluate_likelihood` found.

    kind: as `contracts.LikelihoodKind`; with a bound the figures are upper bounds.
    images: how many images the means are over.
    nats, nats_stderr: mean of -log p(x) per image, and its standard error.
    bits_per_dim, bits_per_dim_stderr: the same divided by C * H * W * ln 2 (of a sound, by the samples after
        its context).

    A standard error is the sample standard deviation over images / sqrt(images): the error from the
    choice of test images, without the noise of training; nan for a single image.
    """

    kind: str
    images: int
    nats: float
    nats_stderr: float
    bits_per_dim: float
    bits_per_dim_stderr: float


@torch.no_grad()
def evaluate_likelihood(
    model: HasLikelihood,
    batches: Iterable[Batch],
    spec: DataSpec,
    samples: int | None,
    reduce: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Likelihood:
    """Average -log p(x) over all images of `batches`, each image with equal weight.

    Args:
        model: an nn.Module with a likelihood, in the mode (train or eval) that the caller wants.
        batches: images, in batches of any sizes; moved to the model's device.
        spec: what the images are; its `counted` divides nats into bits/dim.
        samples: importance samples per image, where the model takes a number.
        reduce: sums a float64 tensor over all ranks and returns it; called exactly twice, on every
            rank. None: one process.
        progress: called after each batch with the number of its images.

    Returns:
        The same figures on every rank; `kind` is "" on a rank that had no images.

    Raises:
        Fault: a log-likelihood is not finite; says how many. None of them is left out.
        ValueError: no images at all.
    """
    device = _device(model)
    # float64 holds the sums of a million images; MPS has none.
    device = torch.device("cpu") if device.type == "mps" else device
    kind = ""
    n = 0
    # Chan, Golub & LeVeque 1983, equation 1.5: unlike the sum of squares, these lose no digits where
    # the mean is large.
    mean = torch.zeros((), dtype=torch.float64, device=device)
    squares = torch.zeros_like(mean)  # sum of squared deviations from the mean
    bad = torch.zeros_like(mean)
    for batch in batches:
        size = len(batch.x)
        if size == 0:
            continue
        batch = batch.map(lambda t: t.to(_device(model), non_blocking=True))
        log_p, kind = model.log_likelihood(batch.x, samples, condition=model.condition_in(batch))  # [B]
        nats = -log_p.to(device).double()
        bad += (~nats.isfinite()).sum()
        apart = nats.mean() - mean
        squares += (nats - nats.mean()).square().sum() + apart.square() * (n * size / (n + size))
        mean += apart * (size / (n + size))
        n += size
        if progress is not None:
            progress(size)

    reduce = reduce or (lambda t: t)
    count = torch.tensor(float(n), dtype=torch.float64, device=device)
    totals = reduce(torch.stack([count, bad, count * mean]))
    images, n_bad, total = totals.tolist()
    overall = totals[2] / totals[0].clamp_min(1)
    squares = reduce(squares + count * (mean - overall).square())
    if n_bad:
        raise Fault(
            f"the log-likelihood of {int(n_bad)} of {int(images)} images is not finite; "
            "the model has diverged: evaluate an earlier checkpoint, or train with a lower learning rate"
        )
    if not images:
        raise ValueError("there are no images to evaluate the likelihood of")
    variance = squares.item() / (images - 1) if images > 1 else math.nan
    nats_mean, nats_stderr = total / images, math.sqrt(variance / images)
    bits = spec.counted * math.log(2)
    return Likelihood(kind, int(images), nats_mean, nats_stderr, nats_mean / bits, nats_stderr / bits)


def _device(model: HasLikelihood) -> torch.device:
    """Where the model's parameters lie."""
    return next(model.parameters()).device

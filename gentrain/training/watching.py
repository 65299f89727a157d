"""Looking at a model while it trains: its validation figures, and pictures from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from operator import itemgetter

import torch
from torch import Tensor

from gentrain.contracts import Batch, GenerativeModel, HasLikelihood, Invertible, Reconstructs, Samples
from gentrain.images import grid, rows_of_eight
from gentrain.metrics.likelihood import evaluate_likelihood
from gentrain.training.distributed import World

#: Images of a batch that are reconstructed.
_SHOWN = 16


def evaluate(
    model: GenerativeModel, batches: Iterator[Batch], step: int, turns: int, world: World
) -> tuple[dict[str, float], float, str] | None:
    """The figures of `model` on this rank's validation `batches`, over all ranks.

    Returns:
        ({name: figure}, the one that "best" means, lower being better, the kind of a likelihood or "");
        None for a model of several turns without likelihood: two players' losses say nothing of the
        pictures.
    """
    if isinstance(model, HasLikelihood):
        result = evaluate_likelihood(model, batches, model.spec, samples=None, reduce=world.sum)
        values = {
            "eval/nats": result.nats,
            "eval/nats_stderr": result.nats_stderr,
            "eval/bits_per_dim": result.bits_per_dim,
        }
        return values, result.nats, result.kind
    if turns == 1:
        figure = mean_loss(model, batches, step, world)
        return {"eval/loss": figure}, figure, ""
    return None


def figures(evaluation: dict[str, float], kind: str) -> str:
    """ "nats 84.1234, nats_stderr 0.1234 (ELBO, 2 levels, binarize=dynamic)"; empty without figures."""
    shown = ", ".join(f"{name.removeprefix('eval/')} {value:.4f}" for name, value in evaluation.items())
    return f"{shown} ({kind})" if kind else shown


def pictures(model: GenerativeModel, batch: Batch, count: int) -> dict[str, Tensor]:
    """{name: uint8 [C, height, width]} of what `model` can show: samples, reconstructions of `batch`."""
    made = {}
    levels = model.spec.levels
    if isinstance(model, Samples):
        made["samples"] = grid(model.sample(count), levels)
    # An invertible model gives back the very images.
    if not isinstance(model, Invertible) and isinstance(model, Reconstructs):
        rows = model.reconstructions(batch.map(itemgetter(slice(_SHOWN))))
        made["reconstructions"] = grid(rows_of_eight(*rows.values()), levels, columns=8)
    return made


def is_better(figure: float, best: float | None) -> bool:
    """Whether `figure` is the best so far, lower being better; a NaN never is."""
    return figure < (math.inf if best is None else best)


def mean_loss(model: GenerativeModel, batches: Iterator[Batch], step: int, world: World) -> float:
    """The mean loss per image over `batches` of a model with one turn."""
    loss = model.turns()[0].loss
    total: Tensor | None = None
    for batch in batches:
        part = torch.stack([loss(batch, step)[0].double() * len(batch.x), torch.tensor(float(len(batch.x)))])
        total = part if total is None else total + part
    assert total is not None
    total = world.sum(total)
    return float(total[0] / total[1])

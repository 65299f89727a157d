"""Looking at a model while it trains: its validation figures, and pictures from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from gentrain import sounds
from gentrain.buffers import buffers_kept, evaluating
from gentrain.contracts import (
    Batch,
    DataSpec,
    GenerativeModel,
    HasLikelihood,
    Invertible,
    Reconstructs,
    Samples,
    Translates,
)
from gentrain.images import rows_of_eight
from gentrain.metrics.likelihood import evaluate_likelihood
from gentrain.showing import rows_beside, sheet
from gentrain.training import randomness
from gentrain.training.distributed import World
from gentrain.training.update import TurnUpdate

#: Images of a batch that are reconstructed.
_SHOWN = 16


@contextmanager
def looking(model: GenerativeModel, seed: int, device: torch.device) -> Iterator[GenerativeModel]:
    """`model` in eval mode, without gradients; its buffers and the run's random state stay what they are."""
    with evaluating(model), randomness.aside(seed, device), torch.no_grad(), buffers_kept(model):
        yield model


def examines(model: GenerativeModel) -> bool:
    """Whether `model` has figures of its own to be asked for with each evaluation."""
    return type(model).examine is not GenerativeModel.examine


def training_figures(updates: Sequence[TurnUpdate]) -> dict[str, float]:
    """{name: running mean since the last call} of all turns' losses, gradients, scalers and rates.

    Waits for the device.
    """
    values: dict[str, float] = {}
    for update in updates:
        means, name = update.read(), update.turn.name
        group = "loss" if len(updates) == 1 else f"loss/{name}"
        for term, value in means.items():
            if term == "grad_norm":
                values[f"grad_norm/{name}"] = value
            elif term in ("loss_scale", "skipped"):
                values[f"scaler/{name}_{term}"] = value
            else:
                values[f"{group}/{'total' if term == 'loss' else term}"] = value
        values[f"lr/{name}"] = update.learning_rate()
    return values


def evaluate(
    model: GenerativeModel, batches: Iterator[Batch], step: int, world: World
) -> tuple[dict[str, float], float, str]:
    """The figures of `model`, which has a `merit`, on this rank's validation `batches`, over all ranks.

    Returns:
        ({name: figure}, the one that "best" means, lower being better, the kind of a likelihood or "").

    Raises:
        TypeError: the model's merit is a likelihood, which it does not have.
    """
    if model.merit == "loss":
        figure = mean_loss(model, batches, step, world)
        return {"eval/loss": figure}, figure, ""
    if not isinstance(model, HasLikelihood):
        raise TypeError(f"{type(model).__name__}.merit is {model.merit!r}, and it declares no HasLikelihood")
    result = evaluate_likelihood(model, batches, model.spec, samples=None, reduce=world.sum)
    values = {
        "eval/nats": result.nats,
        "eval/nats_stderr": result.nats_stderr,
        "eval/bits_per_dim": result.bits_per_dim,
    }
    return values, result.nats, result.kind


@dataclass(frozen=True)
class Shown:
    """What a model made, uint8 [C, height, width], and of sounds a WAV file of them."""

    picture: Tensor
    wav: bytes | None = None


def pictures(model: GenerativeModel, batch: Batch, count: int) -> dict[str, Shown]:
    """{name: what to look at} of what `model` can show: samples, and what it makes of `batch`."""
    made = {}
    spec = model.spec
    if isinstance(model, Samples):
        drawn = model.sample(count)
        made["samples"] = Shown(
            sheet(drawn, spec), sounds.wav(drawn, spec) if spec.sample_rate is not None else None
        )
    # An invertible model gives back the very images.
    if not isinstance(model, Invertible) and isinstance(model, Reconstructs):
        rows = model.reconstructions(batch.map(itemgetter(slice(_SHOWN))))
        made["reconstructions"] = Shown(sheet(rows_of_eight(*rows.values()), spec, columns=8))
    if isinstance(model, Translates) and batch.source is not None:
        few = batch.map(itemgetter(slice(_SHOWN)))
        assert few.source is not None
        of_source = DataSpec(spec.source_shape or spec.shape, spec.levels)
        kinds = [(few.source, of_source), (model.translate(few.source), spec)]
        # Images of another domain are shown after what came of the first; partners are the truth.
        made["translations"] = Shown(rows_beside([*kinds, (few.x, spec)]))
    return made


def is_better(figure: float, best: float | None) -> bool:
    """Whether `figure` is the best so far, lower being better; a NaN never is."""
    return figure < (math.inf if best is None else best)


@torch.no_grad()
def mean_loss(model: GenerativeModel, batches: Iterator[Batch], step: int, world: World) -> float:
    """The mean loss per image, of the first turn, over all ranks' `batches`; a rank may have none."""
    loss = model.turns()[0].loss
    device = next(model.parameters()).device
    # float64 holds the sums of a million images; MPS has none.
    device = torch.device("cpu") if device.type == "mps" else device
    total = torch.zeros(2, dtype=torch.float64, device=device)  # of the losses, of the images
    for batch in batches:
        size = len(batch.x)
        total[0] += loss(batch, step)[0].to(device).double() * size
        total[1] += size
    total = world.sum(total)
    return float(total[0] / total[1])

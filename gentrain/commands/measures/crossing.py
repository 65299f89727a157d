"""The metric `crossing`: whether children of two pictures look the more like a parent the larger its share.

1. Simon 2018, GANBreeder, github.com/joel-simon/ganbreeder: latents and classes mixed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.interpolate import spherical, straight
from gentrain.commands.measures.classifier import judge_of
from gentrain.commands.measures.frame import Measured, Metric, spread
from gentrain.commands.trained import device_of, label_names, open_data, stand
from gentrain.contracts import MixesConditions
from gentrain.errors import UserError
from gentrain.metrics.codes import rank_correlation

#: Shares of the second parent: 0, 0.1, ..., 1.
SHARES = 11


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """Spearman's correlation of a parent's share with the probability that a classifier gives its label.

    There are `n` / `SHARES` pairs of parents, rounded up, of two labels each; latents and labels of their
    children are mixed as `gentrain cross` mixes them [1].

    Raises:
        UserError: missing data, or of one label alone.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    names, device = label_names(data), device_of(loaded)
    if len(names) < 2:
        raise UserError(f"metrics=[crossing]: parents have two labels, {data.name} have one, {names[0]}")
    judge, name = judge_of(data, loaded, config)
    stand(loaded, config)
    pairs = max(2, math.ceil(config.n / SHARES))
    first = torch.arange(pairs, device=device) % len(names)
    apart = 1 + torch.randint(len(names) - 1, (pairs,)).to(device)
    second = (first + apart) % len(names)
    likely = log_odds(model, judge.net, first, second, config.batch_size)  # [P, S]
    shares = torch.linspace(0, 1, SHARES, dtype=torch.float64)
    found = torch.tensor([rank_correlation(shares, row) for row in likely], dtype=torch.float64)
    mean, error = float(found.mean()), float(found.std()) / math.sqrt(pairs)
    curve = [float(p) for p in likely.sigmoid().mean(0)]
    lines = [
        f"crossing {mean:.4f}{spread(error, 4)} rank correlation of a parent's share with the probability "
        f"of its label, {pairs:,} pairs of parents",
        "        probability at shares of 0 to 1: " + " ".join(f"{p:.2f}" for p in curve),
        f"judge   classifier {name}: {judge.accuracy:.2%} of {judge.test_images:,} test images right",
    ]
    figures = {
        "correlation": mean,
        "correlation_stderr": error,
        "pairs": pairs,
        "probability": curve,
        "classifier": name,
        "classifier_accuracy": judge.accuracy,
        "estimator": f"{pairs:,} pairs of parents of two labels, {SHARES} shares",
    }
    return Measured(lines, figures, f"eval_crossing_{config.n}.json")


def log_odds(model: Any, net: torch.nn.Module, first: Tensor, second: Tensor, size: int) -> Tensor:
    """Log odds of the second parent's label in children, by its share in them.

    They rise as the probability does, and differ where a sure classifier's probabilities are all 1.

    Args:
        model: `MixesConditions` of labels.
        net: a classifier, uint8 [B, C, H, W] -> logits [B, K].
        first, second: labels of the parents, int64 [P].
        size: pairs at once.

    Returns:
        float64 [P, SHARES], on the CPU.
    """
    shares = torch.linspace(0, 1, SHARES, device=first.device)
    found = []
    for a, b in zip(first.split(size), second.split(size), strict=True):
        latents = [model.prior_draws(len(y), condition=y) for y in (a, b)]
        weights = [model.conditions_to_mixtures(y) for y in (a, b)]
        between = spherical if model.latent_prior == "gaussian" else straight
        z = torch.stack(
            [between(one, other, shares) for one, other in zip(*latents, strict=True)]
        )  # [B, S, D]
        columns = []
        for i, share in enumerate(shares):
            images = model.mixed_to_images(z[:, i], torch.lerp(weights[0], weights[1], share))
            logits = net(images).double()
            others = logits.scatter(1, b[:, None], -math.inf).logsumexp(1, keepdim=True)
            columns.append((logits.gather(1, b[:, None]) - others).cpu())
        found.append(torch.cat(columns, 1))
    return torch.cat(found)


METRIC = Metric(
    measure,
    MixesConditions,
    "mixtures of labels",
    labelled=True,
    given="label",
    means={
        "correlation": "Whether a child of two pictures looks the more like a parent the larger its share in "
        "latents and label: 1 is always, 0 not at all.",
    },
)

"""The metric `codes`: what a model's codes say of images, and whether they are labels by another name."""

from __future__ import annotations

import math
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Measured, Metric, subject
from gentrain.commands.trained import batches_of, device_of, label_names, open_data, split_of
from gentrain.contracts import Code, HasCodes
from gentrain.metrics import codes
from gentrain.metrics.strokes import LOOKS

#: Draws at once.
_CHUNK = 500


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """Each category of a code matched with a label, on a split; what each code tells of `n` draws, in nats.

    Of a number also the rank correlation with the slant and the thickness of what is drawn, the mean over the
    categories of the first code that has some.

    Raises:
        UserError: missing data.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    names = label_names(data)
    split = split_of(data, config.split)
    found: dict[str, list[Tensor]] = {code.name: [] for code in model.codes}
    truth = []
    for batch in batches_of(data, split, config, device_of(loaded), config.limit):
        assert batch.label is not None
        truth.append(batch.label.cpu())
        for name, part in model.codes_of(batch.x).items():
            found[name].append(part.cpu())
    labels = torch.cat(truth)
    z, answers, looks = drawn(model, config.n)
    lines: list[str] = []
    figures: dict[str, Any] = {**subject(loaded, data, config), "images": len(labels), "samples": config.n}
    first = next((code for code in model.codes if code.categories), None)
    groups = z[:, first.place].argmax(1) if first else torch.zeros(len(z), dtype=torch.int64)
    for code in model.codes:
        if code.categories:
            new, said = of_category(code, z, answers[code.name], torch.cat(found[code.name]), labels, names)
        else:
            new, said = of_number(code, z, answers[code.name], looks, groups)
        lines += said
        figures |= {f"{key}_{code.name}": value for key, value in new.items()}
        if code is first:
            figures |= new
    lines.append(
        f"        {len(labels):,} {config.split} images, matched one to one, {config.n:,} draws, "
        f"seed {config.seed}"
    )
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(lines, figures, f"eval_codes_{config.split}{part}.json")


def drawn(model: HasCodes, n: int) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """`n` draws z [n, D], what is found of each code in their images, and {look: [n]} of these."""
    latents, answers, looks = [], [], []
    for start in range(0, n, _CHUNK):
        z = model.prior_draws(min(_CHUNK, n - start))
        x = model.latents_to_images(z)
        latents.append(z.cpu())
        answers.append({name: part.cpu() for name, part in model.codes_of(x).items()})
        looks.append({name: look(x).cpu() for name, look in LOOKS.items()})
    joined = [
        {key: torch.cat([part[key] for part in parts]) for key in parts[0]} for parts in (answers, looks)
    ]
    return torch.cat(latents), joined[0], joined[1]


def of_category(
    code: Code, z: Tensor, answers: Tensor, found: Tensor, labels: Tensor, names: tuple[str, ...]
) -> tuple[dict[str, Any], list[str]]:
    """Figures and lines of a code of categories."""
    assert code.categories is not None
    match = codes.matched(found.argmax(1), labels, code.categories, len(names))
    nats, nats_error = codes.information_of_category(z[:, code.place].argmax(1), answers)
    error = math.sqrt(match.error * (1 - match.error) / len(labels))
    means = ", ".join(
        f"{k} is {names[label]}" if label >= 0 else f"{k} is none" for k, label in enumerate(match.label_of)
    )
    lines = [
        f"codes   {match.error:.4f} +- {error:.4f} of images have another label than their {code.name} is "
        f"matched with; {match.majority_error:.4f} than is most frequent in it",
        f"        {nats:.4f} +- {nats_error:.4f} nats of {math.log(code.categories):.4f} about {code.name}",
        f"        {code.name} {means}",
    ]
    figures = {
        "error": match.error,
        "error_stderr": error,
        "majority_error": match.majority_error,
        "information": nats,
        "information_stderr": nats_error,
        "matched": [names[label] if label >= 0 else None for label in match.label_of],
    }
    return figures, lines


def of_number(
    code: Code, z: Tensor, answers: Tensor, looks: dict[str, Tensor], groups: Tensor
) -> tuple[dict[str, Any], list[str]]:
    """Figures and lines of a code that is a number."""
    c = z[:, code.begin]
    nats = codes.information_of_number(c, answers.squeeze(1))
    ranks = {}
    for look, values in looks.items():
        within = [
            codes.rank_correlation(c[groups == g], values[groups == g]) for g in groups.unique().tolist()
        ]
        ranks[look] = sum(within) / len(within)
    shown = ", ".join(f"{value:+.2f} with {look}" for look, value in ranks.items())
    line = f"codes   {nats:.4f} nats about {code.name}; rank correlation {shown}"
    return {"information": nats, **ranks}, [line]


METRIC = Metric(
    measure,
    HasCodes,
    "codes",
    labelled=True,
    means={
        "error": "The share of images whose category, matched one to one with the labels, is not theirs.",
        "information": "What the category and the image tell of each other, at least, in nats: the most is "
        "the logarithm of the number of categories.",
    },
)

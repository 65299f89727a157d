"""The metric `translation`: what a model makes of the images of one domain, beside the truth where there is
one.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from gentrain.api import Loaded
from gentrain.commands.measures.frame import Measured, Metric, spread, subject
from gentrain.commands.measures.translated import Watching, key_of
from gentrain.commands.output import subject as shown
from gentrain.commands.trained import batches_of, device_of, open_data, split_of
from gentrain.contracts import Translates
from gentrain.metrics.translation import evaluate_translation

_DIGITS = {"l1": 4, "psnr": 2, "ssim": 4, "colourfulness": 2, "chroma": 2, "cycle": 4, "alike": 3}


def measure(loaded: Loaded, config: DictConfig) -> Measured:
    """How translations of a split compare with the truth, with copying the source, and with `loaded.beside`.

    Of labelled data a classifier says beside it whether a translation has its source's label, `features` how
    near translations are to images of the other domain, and of grey ones whether strokes stand as they did.

    Raises:
        UserError: missing data, or weights of the features that are not there.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    truth = bool(data.spec.paired) or (data.test_pairs and config.split == "test")
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    watch = Watching.of(data, loaded, config, truth)
    other: Any = None if loaded.beside is None else loaded.beside.model
    found = evaluate_translation(model, batches, loaded.model.spec, truth, watch, other)
    of = subject(loaded, data, config)
    lines = [f"translation of {of['dataset']} {config.split}, {found.images} images"]
    figures: dict[str, Any] = {**of, "images": found.images}
    if loaded.beside is not None:
        lines.append(f"beside  {shown(loaded.beside)}, {loaded.beside.path}")
        figures["beside"] = {"checkpoint": str(loaded.beside.path), "step": loaded.beside.step}
    for name, digits in _DIGITS.items():
        parts = []
        for whose, means in found.of.items():
            if name in means:
                error = found.stderr[whose][name]
                parts.append(f"{means[name]:.{digits}f}{spread(error, digits)} {whose}")
                key = key_of(name, whose)
                figures |= {key: means[name], f"{key}_stderr": error}
        shares = {whose: share for (figure, whose), share in found.shares.items() if figure == name}
        for whose, (share, error) in shares.items():
            figures |= {f"{name}_of_{whose}": share, f"{name}_of_{whose}_stderr": error}
        if parts:
            told = ", ".join(f"{share:.3f}{spread(e, 3)} of {whose}" for whose, (share, e) in shares.items())
            lines.append(f"        {name:14}{', '.join(parts)}" + (f"; {told}" if told else ""))
    train = batches_of(data, data.train, config, device_of(loaded), found.images)
    seen, counted = watch.report(batch.x for batch in train)
    lines += seen
    figures |= counted
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(lines, figures, f"eval_translation_{config.split}{part}.json")


METRIC = Metric(
    measure,
    Translates,
    "translations",
    beside=("l1_of_beside", "frechet_of_beside", "label_accuracy_gain"),
    means={
        "l1": "How far translations are from the truth, mean absolute difference per pixel (0 to 1): lower "
        "is better; l1_source is that of the source taken as it is, l1_beside that of the other model.",
        "l1_of_source": "l1 as a share of that of copying the source.",
        "l1_of_beside": "l1 as a share of that of the other model.",
        "psnr": "Peak signal to noise ratio to the truth, in dB: higher is better.",
        "ssim": "Structural similarity to the truth: 1 is equal.",
        "colourfulness": "How colourful translations are; colourfulness_truth is what the truth has.",
        "chroma": "Mean distance of colours from grey, in CIE L*a*b*; chroma_truth is what the truth has.",
        "chroma_of_truth": "The mean chroma as a share of the truth's: 1 is as colourful.",
        "cycle": "How far the way there and back ends from where it began, per pixel (0 to 1).",
        "frechet": "Frechet distance of translations to images of the other domain: lower is better; as many "
        "training images (frechet_train) are as near as can be; frechet_source is that of the sources.",
        "frechet_of_beside": "That distance as a share of that of the other model.",
        "label_accuracy": "Share of translations in which a classifier sees their source's label: "
        "label_accuracy_truth is what it sees in the truth, label_accuracy_renamed what it would be were "
        "labels exchanged one to one.",
        "label_accuracy_gain": "How much more that is than of the other model's translations.",
        "alike": "Correlation of light and dark between source and translation: below 0 they are swapped.",
        "slant_error": "How far the slant of strokes is from the truth's, in pixels to the right per line; "
        "slant_error_shuffled is that from the truth of any other image.",
        "slant_with_truth": "Rank correlation of that slant with the truth's.",
        "slant_with_source": "Rank correlation of that slant with the source's.",
        "thickness_error": "How far half the width of strokes is from the truth's, in pixels; "
        "thickness_error_shuffled is that from the truth of any other image.",
        "thickness_with_truth": "Rank correlation of that thickness with the truth's.",
        "thickness_with_source": "Rank correlation of that thickness with the source's.",
    },
)

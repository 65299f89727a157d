"""The metrics of `gentrain eval`: what each needs of a model, and how it is measured.

A metric is one function here and one file in gentrain/metrics/; METRICS is all that knows its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import tqdm

from gentrain.api import Loaded
from gentrain.commands.trained import (
    batches_of,
    check_latents,
    ckpt_argument,
    device_of,
    drawn,
    encoded,
    label_names,
    open_data,
    source_of,
    split_of,
)
from gentrain.contracts import GenerativeModel, HasLikelihood, ImagesToLatents, Reconstructs, Samples
from gentrain.data.artefact import fingerprint, made_once
from gentrain.data.batches import Batches, in_order
from gentrain.data.source import Data, Split
from gentrain.errors import UserError, did_you_mean
from gentrain.metrics import classifier, probe
from gentrain.metrics.likelihood import evaluate_likelihood
from gentrain.metrics.reconstruction import evaluate_reconstruction, figures
from gentrain.training import randomness

#: Images that the classifier is tested on at once.
_CHUNK = 500
#: Samples for each label of the training images from which their labels say something.
_ENOUGH = 10
#: Fewer labels than this share of the training images' are few; more samples than this of one label are one.
_FEW, _ONE = 0.5, 0.95
#: A classifier below this accuracy on the test images is weak evidence.
_GOOD = 0.99


@dataclass(frozen=True)
class Measured:
    """What a metric found: lines to print, figures to keep, and in which file of the run folder."""

    lines: list[str]
    figures: dict[str, Any]
    file: str


@dataclass(frozen=True)
class Metric:
    """One metric.

    measure: (loaded, config) -> what it found; called without gradients, everything freshly seeded.
    needs: the capability that a model must have; what: that in a few words.
    why: the keys of `lacks` under which a model may say why it has not, the nearest first.
    labelled: whether the data must have labels.
    asked: whether it is measured only where `metrics` names it.
    """

    measure: Callable[[Loaded, DictConfig], Measured]
    needs: type
    what: str
    why: tuple[str, ...] = ()
    labelled: bool = False
    asked: bool = True

    def lack(self, model: GenerativeModel) -> str | None:
        """Why `model` cannot have this metric; None where it can."""
        if not isinstance(model, self.needs):
            reason = next((model.lacks[key] for key in self.why if key in model.lacks), None)
            return f"has no {self.what}" + (f" ({reason})" if reason else "")
        if self.labelled and model.spec.classes is None:
            return "was trained on data without labels"
        return None


def subject(loaded: Loaded, data: Data, config: DictConfig) -> dict[str, Any]:
    """Which images a figure is of: without it two figures look comparable that are not."""
    dataset = loaded.config.names.dataset or data.name
    return {
        "dataset": dataset,
        "split": config.split,
        "levels": data.spec.levels,
        "binarize": data.binarize,
    }


def likelihood(loaded: Loaded, config: DictConfig) -> Measured:
    """-log p(x) of a split.

    Raises:
        UserError: missing data.
        Fault: a log-likelihood that is not finite.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    count = len(split.images) if config.limit is None else min(config.limit, len(split.images))
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    bar = tqdm(batches, total=math.ceil(count / config.batch_size), unit="batch", disable=None)
    found = evaluate_likelihood(model, bar, loaded.model.spec, samples=config.samples)
    of = subject(loaded, data, config)
    which = f"{of['dataset']} {config.split} ({found.images} images), {data.pixels}"
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(
        [
            f"nll     {found.nats:.4f}{spread(found.nats_stderr, 4)} nats per image, {found.kind}, {which}",
            f"        {found.bits_per_dim:.5f}{spread(found.bits_per_dim_stderr, 5)} bits/dim",
        ],
        {**of, **asdict(found)},
        f"eval_{config.split}{part}.json",
    )


def spread(stderr: float, digits: int) -> str:
    """` +- 0.1234`; empty where there is no standard error, as of a single image."""
    return "" if math.isnan(stderr) else f" +- {stderr:.{digits}f}"


def classes(loaded: Loaded, config: DictConfig) -> Measured:
    """What a classifier of the training data sees in `n` samples.

    Raises:
        UserError: missing data, a cache folder that cannot be used, a model that refuses to sample so.
    """
    data = open_data(loaded, config)
    judge, name = judge_of(data, loaded, config)
    predicted = classifier.predict(judge.net, drawn(loaded, config.n))
    names = label_names(data)
    found = classifier.classes_of(*predicted, len(names))
    most = math.log(len(names))
    lines = [
        f"classes {found.entropy:.4f} +- {found.entropy_stderr:.4f} nats entropy of the predicted labels, "
        f"of at most {most:.4f}, {found.images:,} samples",
        f"        {found.confidence:.4f} +- {found.confidence_stderr:.4f} mean confidence "
        f"({judge.confidence:.4f} on the test images)",
        "        " + histogram(names, found.counts),
        f"judge   classifier {name}: {judge.accuracy:.2%} of {judge.test_images:,} test images right, "
        f"trained on the {judge.train_images:,} training images",
    ]
    assert data.train.labels is not None  # label_names has looked
    present = classifier.entropy(np.bincount(data.train.labels, minlength=len(names)).tolist())[0]
    collapsed = collapse(names, found.counts, present)
    if collapsed:
        lines.append(f"note    {collapsed}; look at them: gentrain sample {ckpt_argument(loaded)}")
    if judge.accuracy < _GOOD:
        lines.append(
            f"note    a classifier below {_GOOD:.0%} is weak evidence: what it sees may be its own mistakes"
        )
    judged = {
        "classifier": name,
        "classifier_accuracy": judge.accuracy,
        "classifier_confidence": judge.confidence,
        "train_images": judge.train_images,
        "test_images": judge.test_images,
    }
    figures = {**asdict(found), "max_entropy": most, "labels": names, **judged}
    return Measured(lines, figures, f"eval_classifier_{config.n}.json")


def reconstruction(loaded: Loaded, config: DictConfig) -> Measured:
    """The error of a model's reconstructions of a split.

    Raises:
        UserError: missing data.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    split = split_of(data, config.split)
    batches = batches_of(data, split, config, device_of(loaded), config.limit)
    found = evaluate_reconstruction(model, batches, loaded.model.spec)
    of = subject(loaded, data, config)
    part = "" if config.limit is None else f"_first_{config.limit}"
    return Measured(
        [
            f"error   {found.mse[name]:.5f}{spread(found.mse_stderr[name], 5)} {name}, mean square per pixel "
            f"(0 to 1), {of['dataset']} {config.split} ({found.images} images), {data.pixels}"
            for name in found.mse
        ],
        {**of, **figures(found)},
        f"eval_reconstruction_{config.split}{part}.json",
    )


def linear(loaded: Loaded, config: DictConfig) -> Measured:
    """How well a linear classifier of the training images' latents, and one of their pixels, does on a split.

    Raises:
        UserError: missing data, training images that all have one label.
        Fault: latents that are not finite.
    """
    model: Any = loaded.model
    data = open_data(loaded, config)
    names = label_names(data)
    split = split_of(data, config.split)
    assert data.train.labels is not None  # label_names has looked
    if len(np.unique(data.train.labels)) < 2:
        raise UserError(
            f"metrics=[probe]: all {len(data.train):,} training images of {data.name} have one label, "
            "a classifier needs at least two"
        )

    def features(of: Split, limit: int | None = None) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """{name: float32 [N, D]} of the first `limit` images, and their labels int64 [N]."""
        count = min(len(of), limit or len(of))
        batches = batches_of(data, of, config, device_of(loaded), limit)
        bar = tqdm(batches, total=math.ceil(count / config.batch_size), unit="batch", disable=None)
        z, images = encoded(model, bar, images=True)
        check_latents(z)
        assert images.label is not None
        # Their scale does not matter: they are standardised.
        pixels = images.x.flatten(1).float()
        return {"latents": z.numpy(), "pixels": pixels.numpy()}, images.label.numpy()

    train, train_labels = features(data.train)
    test, test_labels = features(split, config.limit)
    count = len(test_labels)
    lines: list[str] = []
    notes: list[str] = []
    found: dict[str, Any] = {}
    kinds: Any = tqdm(train, unit="fit", disable=None)
    for kind in kinds:
        fitted = probe.fit(train[kind], train_labels)
        right, stderr = probe.accuracy(fitted, test[kind], test_labels)
        lines.append(
            f"{right:.2%} +- {stderr:.2%} of {count:,} {config.split} images right, "
            f"by a linear classifier of the {fitted.features:,} {kind}"
        )
        if not fitted.converged:
            notes.append(f"the fit to the {kind} stopped after {fitted.iterations} iterations, unconverged")
        found |= {
            kind: fitted.features,
            f"{kind}_accuracy": right,
            f"{kind}_accuracy_stderr": stderr,
            f"{kind}_iterations": fitted.iterations,
            f"{kind}_converged": fitted.converged,
        }
    lines.append(f"both fitted to the {len(train_labels):,} training images, {len(names):,} labels")
    part = "" if config.limit is None else f"_first_{config.limit}"
    numbers = {"images": count, "train_images": len(train_labels), "classes": len(names)}
    return Measured(
        [
            *(f"{'        ' if i else 'probe   '}{line}" for i, line in enumerate(lines)),
            *(f"note    {note}" for note in notes),
        ],
        {"split": config.split, **numbers, **found},
        f"eval_probe_{config.split}{part}.json",
    )


#: Every metric by name.
METRICS = {
    "likelihood": Metric(likelihood, HasLikelihood, "likelihood", why=("eval",), asked=False),
    "reconstruction": Metric(reconstruction, Reconstructs, "reconstructions"),
    "classifier": Metric(classes, Samples, "samples", labelled=True),
    "probe": Metric(
        linear, ImagesToLatents, "latents of images alone", why=("probe", "encode"), labelled=True
    ),
}


def chosen(loaded: Loaded, named: Any) -> list[str]:
    """The metrics that `metrics=` names, each once; without it, those that need no more than the model.

    Raises:
        UserError: no list, an unknown name, a metric that the model cannot have.
    """
    kind = loaded.config.names.model
    possible = [name for name, metric in METRICS.items() if metric.lack(loaded.model) is None]
    if named is None:
        plain = [name for name in possible if not METRICS[name].asked]
        if plain:
            return plain
        reasons = (metric.lack(loaded.model) for metric in METRICS.values() if not metric.asked)
        hint = f"; try metrics=[{','.join(possible)}]" if possible else "; no metric fits it"
        raise UserError(f"eval: {kind} {', '.join(r for r in reasons if r)}{hint}")
    for name in words(named):
        if name not in METRICS:
            raise UserError(f"metrics: there is no metric {name!r}{did_you_mean(name, METRICS)}")
        lack = METRICS[name].lack(loaded.model)
        if lack is not None:
            hint = f"; try metrics=[{','.join(possible)}]" if possible else ""
            raise UserError(f"metrics=[{name}]: {kind} {lack}{hint}")
    return list(dict.fromkeys(words(named)))


def words(named: Any) -> list[str]:
    """The names in `metrics=[a,b]`.

    Raises:
        UserError: it is empty, or no list; with the list that was meant.
    """
    if isinstance(named, str) or not isinstance(named, Sequence):
        given = [part.strip() for part in str(named).strip("[]()").split(",")]
        raise UserError(f"metrics={named}: expected a list, metrics=[{','.join(given)}]")
    if not named:
        raise UserError(f"metrics=[]: expected at least one, e.g. metrics=[{','.join(METRICS)}]")
    return [str(name) for name in named]


def judge_of(data: Data, loaded: Loaded, config: DictConfig) -> tuple[classifier.Judge, str]:
    """The classifier of a data set and its hash: trained once, on the training images, then cached.

    The random state is left as it was.

    Raises:
        UserError: the cache folder cannot be used.
    """
    label_names(data)
    device = device_of(loaded)
    count, recipe = len(data.train), classifier.RECIPE

    def make() -> bytes:
        print(f"judge   training a classifier on {count:,} images of {data.name}, once", flush=True)
        size = min(recipe.batch_size, count)
        batches = Batches(data, data.train, batch_size=size, seed=0, device=device)
        steps: Any = tqdm(range(classifier.steps_of(count, recipe)), unit="step", disable=None)
        with torch.enable_grad():
            net = classifier.train_classifier(batches.at, data.spec, recipe, steps, device)
        test = in_order(data, data.test, batch_size=_CHUNK, device=device, seed=0)
        return classifier.examined(net, test, count).to_bytes()

    key = {"recipe": recipe.to_dict(), "data": fingerprint(data)}
    with randomness.aside(0, device):
        cache = source_of(loaded, config).cache
        content, name = made_once(cache, "classifier", key, make, lambda line: print(f"note    {line}"))
        return classifier.judge_from_bytes(content, data.spec, recipe, device), name


def collapse(names: Sequence[str], counts: Sequence[int], present: float) -> str | None:
    """What few labels among many samples mean, in a line; None where they are not few.

    Args:
        names: of the labels.
        counts: how many samples look like each.
        present: entropy of the training images' labels, in nats.
    """
    total, labels = sum(counts), math.exp(present)  # as many labels, equally frequent, have this entropy
    seen = math.exp(classifier.entropy(counts)[0])
    if total < _ENOUGH * labels or seen > _FEW * labels:
        return None
    largest = max(counts)
    if largest > _ONE * total:
        shown = "all" if largest == total else f"{largest:,} of the"
        return (
            f"{shown} {total:,} samples look like one label, {names[counts.index(largest)]}: "
            "the samples have collapsed onto it, or are all one picture"
        )
    return (
        f"the samples are spread over {seen:.1f} labels, the training images over {labels:.1f}: "
        "they have collapsed onto few"
    )


def histogram(names: Sequence[str], counts: Sequence[int], most: int = 20) -> str:
    """How many of each label, on one line; of more than `most` labels the extremes."""
    if len(counts) <= most:
        return "  ".join(f"{name} {count:,}" for name, count in zip(names, counts, strict=True))
    few, many = counts.index(min(counts)), counts.index(max(counts))
    never = sum(count == 0 for count in counts)
    return (
        f"{len(counts):,} labels, {never:,} of them never; from {counts[few]:,} ({names[few]}) "
        f"to {counts[many]:,} ({names[many]})"
    )

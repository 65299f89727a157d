"""What is seen in translations: labels of their sources, distance to the other domain, how strokes stand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from gentrain.api import Loaded
from gentrain.commands.measures.classifier import judge_of
from gentrain.commands.measures.extractors import extractor_of
from gentrain.commands.measures.frame import spread
from gentrain.commands.trained import label_names
from gentrain.contracts import Batch
from gentrain.data.source import Data
from gentrain.metrics.classifier import Judge, features_of, predict
from gentrain.metrics.codes import contingency, matched, rank_correlation
from gentrain.metrics.distances import frechet
from gentrain.metrics.extractors import ClassifierFeatures, Extractor
from gentrain.metrics.strokes import LOOKS, ink, shuffled_difference

#: Labels renamed one to one that fit better than they are by this much: the translator has exchanged them.
_EXCHANGED = 0.1


@dataclass
class Watching:
    """Sees translations go by; `report` says what was seen.

    Args:
        data: what the model was trained on.
        judge, judge_name: a classifier of the other domain and its hash; None without labels.
        see: an extractor of features; None where there is none to take.
        truth: whether an image is the translation of its source, so that both have one label.
        strokes: whether images are of strokes: grey, with labels.
    """

    data: Data
    judge: Judge | None
    judge_name: str | None
    see: Extractor | None
    truth: bool
    strokes: bool = False
    features: dict[str, list[Tensor]] = field(default_factory=dict)
    seen: dict[str, list[Tensor]] = field(default_factory=dict)
    labels: list[Tensor] = field(default_factory=list)
    looks: dict[str, dict[str, list[Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Data, loaded: Loaded, config: DictConfig, truth: bool) -> Watching:
        """With the networks that `data` and `config.features` allow.

        Raises:
            UserError: weights of the features that are not there, or a cache that cannot be used.
        """
        labelled = data.spec.classes is not None and data.train.labels is not None
        judge, name = judge_of(data, loaded, config) if labelled else (None, None)
        possible = labelled or config.features != "classifier"
        see = extractor_of(data, loaded, config) if possible else None
        return cls(data, judge, name, see, truth, strokes=labelled and data.spec.shape[0] == 1)

    @torch.no_grad()
    def __call__(self, batch: Batch, made: Mapping[str, Tensor]) -> None:
        """Look at a batch and {whose: its translations}, uint8 [B, C, H, W]."""
        shown = {**made, "truth": batch.x}
        if batch.source is not None and batch.source.shape == batch.x.shape:
            shown["source"] = batch.source
        for whose, images in shown.items():
            features, labels = self._look(images)
            if features is not None:
                self.features.setdefault(whose, []).append(features)
            if labels is not None:
                self.seen.setdefault(whose, []).append(labels)
            if self.strokes:
                x = ink(images.double() / (self.data.spec.levels - 1))
                for name, look in LOOKS.items():
                    self.looks.setdefault(name, {}).setdefault(whose, []).append(look(x).cpu())
        if batch.label is not None:
            self.labels.append(batch.label.cpu())

    def _look(self, images: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(features [B, D], labels int64 [B]) of images; one look of the classifier where it gives both."""
        net = None if self.see is None else self.see.net
        if self.judge is not None and isinstance(net, ClassifierFeatures):
            return features_of(net.classifier, [images])
        labels = None if self.judge is None else predict(self.judge.net, [images])[0]
        return None if self.see is None else self.see([images]), labels

    def report(self, train: Iterable[Tensor]) -> tuple[list[str], dict[str, Any]]:
        """(lines, figures) of what was seen.

        Args:
            train: as many training images of the other domain, uint8 [B, C, H, W] each.
        """
        lines: list[str] = []
        figures: dict[str, Any] = {}
        for part in (self._distances(train), self._labels(), self._strokes()):
            lines += part[0]
            figures |= part[1]
        return lines, figures

    def _distances(self, train: Iterable[Tensor]) -> tuple[list[str], dict[str, Any]]:
        """The Frechet distance to the other domain, beside those of sources and of training images."""
        if self.see is None:
            return ["        frechet       not measured: the data have no labels; take features=lite0"], {}
        found = {whose: torch.cat(parts) for whose, parts in self.features.items()}
        real = found.pop("truth")
        if len(real) < 2:
            return ["        frechet       not measured: of one image there is none"], {}
        found["train"] = self.see(train)
        values = {whose: frechet(real, features) for whose, features in found.items()}
        figures: dict[str, Any] = {key_of("frechet", whose): value for whose, value in values.items()}
        told_of = ""
        if "beside" in values:
            figures["frechet_of_beside"] = values["translation"] / values["beside"]
            told_of = f"; {figures['frechet_of_beside']:.4f} of beside"
        figures |= {"extractor": self.see.name, "extractor_weights": self.see.weights}
        told = ", ".join(f"{value:.4f} {whose}" for whose, value in values.items()) + told_of
        about = f"{real.shape[1]:,} features of {self.see.name} {self.see.weights}"
        return [f"        {'frechet':14}{told}; {about}"], figures

    def _labels(self) -> tuple[list[str], dict[str, Any]]:
        """How often a classifier sees the source's label in its translation, and what it sees instead."""
        if self.judge is None or not self.truth or not self.labels:
            return [], {}
        names, wanted = label_names(self.data), torch.cat(self.labels)
        seen = {whose: torch.cat(parts) for whose, parts in self.seen.items()}
        figures: dict[str, Any] = {}
        told = []
        for whose, labels in seen.items():
            share = float((labels == wanted).double().mean())
            error = math.sqrt(share * (1 - share) / len(wanted))
            key = key_of("label_accuracy", whose)
            figures |= {key: share, f"{key}_stderr": error}
            told.append(f"{share:.4f}{spread(error, 4)} {whose}")
        if "beside" in seen:  # of the same images: the errors of the two are not independent
            gain = [(seen[whose] == wanted).double() for whose in ("translation", "beside")]
            more = gain[0] - gain[1]
            error = float(more.std()) / math.sqrt(len(more)) if len(more) > 1 else math.nan
            figures |= {"label_accuracy_gain": float(more.mean()), "label_accuracy_gain_stderr": error}
            told.append(f"{float(more.mean()):+.4f}{spread(error, 4)} against beside")
        match = matched(wanted, seen["translation"], len(names), len(names))
        table = contingency(wanted, seen["translation"], len(names), len(names))
        figures |= {
            "label_accuracy_renamed": 1 - match.error,
            "confusion": table.tolist(),
            "labels": list(names),
            "classifier": self.judge_name,
            "classifier_accuracy": self.judge.accuracy,
        }
        lines = [f"        {'labels':14}{', '.join(told)}, in a classifier's eyes"]
        if (worst := _confused(table, names)) is not None:
            lines.append(f"        {'':14}most often confused: {worst}")
        if 1 - match.error - figures["label_accuracy"] > _EXCHANGED:
            lines.append(
                f"note    renamed one to one, {1 - match.error:.4f} of the labels would be right: the "
                "translator exchanges them, which goes there and back without a loss"
            )
        return lines, figures

    def _strokes(self) -> tuple[list[str], dict[str, Any]]:
        """Whether slant and thickness of strokes are kept: of a grey source, and those of the truth."""
        lines: list[str] = []
        figures: dict[str, Any] = {}
        for look, parts in self.looks.items():
            values = {whose: torch.cat(images) for whose, images in parts.items()}
            truth, source = values.pop("truth"), values.get("source")
            told = []
            if self.truth:
                for whose, found in values.items():
                    away = (found - truth).abs()
                    error = float(away.std()) / math.sqrt(len(away)) if len(away) > 1 else math.nan
                    key = key_of(f"{look}_error", whose)
                    figures |= {key: float(away.mean()), f"{key}_stderr": error}
                    told.append(f"{float(away.mean()):.4f}{spread(error, 4)} {whose}")
                by_chance = shuffled_difference(values["translation"], truth)
                figures[f"{look}_error_shuffled"] = by_chance
                told.append(f"{by_chance:.4f} shuffled")
                lines.append(f"        {look:14}off by {', '.join(told)}")
            for other, reference in (("truth", truth if self.truth else None), ("source", source)):
                if reference is None:
                    continue
                ranks = {
                    whose: rank_correlation(found, reference)
                    for whose, found in values.items()
                    if whose != other and len(found) > 1
                }
                name = f"{look}_with_{other}"
                figures |= {key_of(name, whose): rank for whose, rank in ranks.items()}
                told = [f"{rank:+.4f} {whose}" for whose, rank in ranks.items()]
                if told:
                    lines.append(f"        {'':14}rank correlation with the {other}'s {', '.join(told)}")
        return lines, figures


def key_of(name: str, whose: str) -> str:
    """What a figure is called: `l1` of translations, `l1_source` of sources taken for them."""
    return name if whose == "translation" else f"{name}_{whose}"


def _confused(table: Tensor, names: tuple[str, ...]) -> str | None:
    """The commonest mistake of a confusion table [label, seen]; None where there is none."""
    wrong = table.clone()
    wrong.fill_diagonal_(0)
    if not int(wrong.sum()):
        return None
    label, seen = divmod(int(wrong.argmax()), len(names))
    return f"{names[label]} seen as {names[seen]}, {int(wrong[label, seen])} of {int(table[label].sum())}"

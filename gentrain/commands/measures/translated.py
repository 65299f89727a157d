"""What networks see in translations: their sources' labels, and how near they are to the other domain."""

from __future__ import annotations

import math
from collections.abc import Iterable
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
from gentrain.metrics.classifier import Judge, predict
from gentrain.metrics.codes import contingency, matched
from gentrain.metrics.distances import frechet
from gentrain.metrics.extractors import Extractor

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
    """

    data: Data
    judge: Judge | None
    judge_name: str | None
    see: Extractor | None
    truth: bool
    features: dict[str, list[Tensor]] = field(default_factory=dict)
    seen: dict[str, list[Tensor]] = field(default_factory=dict)
    labels: list[Tensor] = field(default_factory=list)

    @classmethod
    def of(cls, data: Data, loaded: Loaded, config: DictConfig, truth: bool) -> Watching:
        """With the networks that `data` and `config.features` allow.

        Raises:
            UserError: weights of the features that are not there, or a cache that cannot be used.
        """
        labelled = data.spec.classes is not None and data.train.labels is not None
        judge, name = judge_of(data, loaded, config) if labelled else (None, None)
        possible = labelled or config.features != "classifier"
        return cls(data, judge, name, extractor_of(data, loaded, config) if possible else None, truth)

    @torch.no_grad()
    def __call__(self, batch: Batch, made: Tensor) -> None:
        """Look at a batch and its translations, uint8 [B, C, H, W]."""
        shown = {"translation": made, "truth": batch.x}
        if batch.source is not None and batch.source.shape == made.shape:
            shown["source"] = batch.source
        for whose, images in shown.items():
            if self.see is not None:
                self.features.setdefault(whose, []).append(self.see([images]))
            if self.judge is not None:
                self.seen.setdefault(whose, []).append(predict(self.judge.net, [images])[0])
        if batch.label is not None:
            self.labels.append(batch.label.cpu())

    def report(self, train: Iterable[Tensor]) -> tuple[list[str], dict[str, Any]]:
        """(lines, figures) of what was seen.

        Args:
            train: as many training images of the other domain, uint8 [B, C, H, W] each.
        """
        lines: list[str] = []
        figures: dict[str, Any] = {}
        for part in (self._distances(train), self._labels()):
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
        figures |= {"extractor": self.see.name, "extractor_weights": self.see.weights}
        told = ", ".join(f"{value:.4f} {whose}" for whose, value in values.items())
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

"""What networks see in translations, with networks that see what a pixel says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gentrain.commands.measures.translated import Watching
from gentrain.contracts import Batch, DataSpec
from gentrain.data.source import Data, Split
from gentrain.metrics.classifier import Judge
from gentrain.metrics.extractors import Extractor

COUNT = 60


class SeesThePixel(nn.Module):
    """The label is the level of the first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> logits [B, 3]."""
        return 9.0 * nn.functional.one_hot(x[:, 0, 0, 0].long(), 3)


class Flat(nn.Module):
    """Pixels as features."""

    def forward(self, x: Tensor) -> Tensor:
        """x uint8 [B, C, H, W] -> [B, C * H * W]."""
        return x.flatten(1).float()


def images(labels: Tensor, light: int) -> Tensor:
    """Of each label one that says so, and other pixels around `light`."""
    noise = torch.Generator().manual_seed(light)
    x = torch.randint(light, light + 9, (len(labels), 1, 3, 3), generator=noise)
    x[:, 0, 0, 0] = labels
    return x.to(torch.uint8)


def watching(truth: bool = True, labelled: bool = True) -> Watching:
    labels = np.arange(COUNT) % 3
    spec = DataSpec((1, 3, 3), 256, classes=3, label_names=("ant", "bee", "cow"))
    split = Split({"x": images(torch.from_numpy(labels), 100).numpy(), "label": labels})
    data = Data(spec, split, None, split, "none", False, 0, stored_levels=256, name="insects", found=(0, 255))
    judge = Judge(SeesThePixel(), 1.0, 1.0, COUNT, COUNT) if labelled else None  # type: ignore[arg-type]
    see = Extractor("flat", "0", None, Flat()) if labelled else None
    return Watching(data, judge, "0", see, truth)


def batch() -> Batch:
    labels = torch.arange(COUNT) % 3
    return Batch(x=images(labels, 100), label=labels, source=images(0 * labels, 20))


def test_a_perfect_translator_is_as_good_as_the_truth() -> None:
    watch, real = watching(), batch()
    watch(real, real.x)
    lines, figures = watch.report([real.x])
    assert figures["label_accuracy"] == figures["label_accuracy_truth"] == 1
    assert figures["label_accuracy_source"] == pytest.approx(1 / 3)
    assert figures["frechet"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_train"] == pytest.approx(0, abs=1e-6)
    assert figures["frechet_source"] > 1000
    assert (figures["extractor"], figures["extractor_weights"]) == ("flat", "0")
    assert figures["confusion"] == [[20, 0, 0], [0, 20, 0], [0, 0, 20]]
    assert not any("confused" in line or "note" in line for line in lines)


def test_labels_that_are_exchanged_are_found_out() -> None:
    """Ant to bee to cow to ant: there and back costs nothing, and images are as they should be."""
    watch, real = watching(), batch()
    assert real.label is not None
    watch(real, images((real.label + 1) % 3, 100))
    lines, figures = watch.report([real.x])
    assert figures["label_accuracy"] == 0
    assert figures["label_accuracy_renamed"] == 1
    assert figures["frechet"] < 1
    assert figures["confusion"] == [[0, 20, 0], [0, 0, 20], [20, 0, 0]]
    assert any("ant seen as bee, 20 of 20" in line for line in lines)
    assert any(line.startswith("note    renamed one to one, 1.0000 of the labels") for line in lines)


def test_without_a_truth_labels_say_nothing_and_without_labels_there_is_no_classifier() -> None:
    watch, real = watching(truth=False), batch()
    watch(real, real.x)
    _, figures = watch.report([real.x])
    assert "label_accuracy" not in figures
    assert "frechet" in figures
    watch = watching(labelled=False)
    watch(real, real.x)
    lines, figures = watch.report([real.x])
    assert figures == {}
    assert "take features=lite0" in lines[0]
